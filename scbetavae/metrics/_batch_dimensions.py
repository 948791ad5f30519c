"""Which dimensions hold batch and can be given up: information, rank, and what zeroing costs on held-out cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from scbetavae.metrics._batch_probes import implied_skill, neighbour_skill
from scbetavae.metrics._checks import Covariate, check_column, check_factors
from scbetavae.metrics._conditional_information import (
    Strata,
    bin_codes,
    conditional_information,
    stratify,
)
from scbetavae.metrics._resampling import make_blocks
from scbetavae.metrics._zeroing_bill import BeforeAndAfter, neighbour_row

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT_SKILL = 0.97
"""Share of its held-out skill that every protected covariate keeps while the guarded rule goes on."""

SLACK = 0.01
"""... or it loses no more than this."""

GAIN = 0.02
"""Batch skill that further dimensions must remove to be worth zeroing; one standard error if that is larger. The same, or
two standard errors, above what is implied, batch is as good as mixed."""

REPEATED_CELLS, MAXIMUM_REPEATS = 1_500, 5
"""Folds are drawn anew until so many cells were predicted, or so often: a decision must not hang on the draw."""

MAXIMUM_WALK_CELLS = 5_000
"""Cells on which the rules measure skills at most."""

N_BOOTSTRAP = 200
"""Replicates behind the intervals of the report."""

REPORTED = {
    f"{name}{end}": f"{column}{end}"
    for name, column in (("before", "skill_before"), ("after", "skill_after"), ("kept", "kept"))
    for end in ("", "_ci_low", "_ci_high")
}
"""Columns of the report, by their name in the bill of zeroing."""

COLUMNS = (
    "dimension",
    "active",
    "batch",
    "batch_given_protected",
    "batch_p_value",
    "batch_p_adjusted",
    "protected_given_batch",
    "protected_covariate",
    "protected_p_value",
    "protected_p_adjusted",
    "rank",
    "batch_left",
    "protected_kept",
    "batch_alone",
    "protected_alone",
    "chosen",
)
MEASURED = ("batch_left", "protected_kept", "batch_alone", "protected_alone")
"""Columns that a rule fills, as far as it looked."""


@dataclass(frozen=True)
class Question:
    """Codes, the batch and what is to be protected, of cells that have them all."""

    codes: np.ndarray
    """Shape (n_cells, n_dims)."""
    batch: pd.Series
    """Categories as strings."""
    protected: pd.DataFrame
    active: np.ndarray
    """Boolean mask of shape (n_dims,)."""
    seed: int

    @property
    def covariates(self) -> list[Covariate]:
        return check_factors(self.protected, len(self.codes))

    @property
    def batch_covariate(self) -> Covariate:
        return check_column(self.batch, len(self.codes), "batch")

    @property
    def standard_error(self) -> float:
        """About that of a skill near 0: of a balanced accuracy of a half over all cells, scaled to a skill."""
        return 1 / np.sqrt(max(len(self.codes), 1))

    def subset(self, cells: np.ndarray) -> Question:
        """The same question on some of the cells."""
        return Question(self.codes[cells], self.batch.iloc[cells], self.protected.iloc[cells], self.active, self.seed)

    def skills(self, zeroed: Sequence[int]) -> dict[str, float]:
        """Held-out skill of batch (named ``""``) and of every protected covariate in active dimensions, without some."""
        mask = self.active.copy()
        mask[list(zeroed)] = False
        kept = self.codes[:, mask] if mask.any() else np.zeros((len(self.codes), 1))
        columns = {"": self.batch} | {str(name): self.protected[name] for name in self.protected}
        repeats = int(np.clip(REPEATED_CELLS // max(len(kept), 1), 1, MAXIMUM_REPEATS))
        return {
            name: float(np.mean([neighbour_skill(kept, column, seed=self.seed + i) for i in range(repeats)]))
            for name, column in columns.items()
        }


class Choice(NamedTuple):
    """What a rule decided."""

    dimensions: tuple[int, ...]
    reason: str
    """Why there are none, a word: ``"insignificant"``, ``"mixed"``, ``"guard"``, ``"no gain"``, ``"all"``; or empty."""
    walk: pd.DataFrame
    """Skills after zeroing so many dimensions: ``n_zeroed``, ``dimension``, ``covariate``, ``role``, ``skill``, ``kept``."""


def batch_strata(question: Question) -> Strata:
    """Strata of the protected covariates, and whether batches can be compared within them."""
    return stratify(question.batch_covariate.labels, question.covariates)


def deciding_half(question: Question, strata: np.ndarray) -> np.ndarray:
    """Mask of the cells on which rules decide: every other cell of each batch and stratum, at random."""
    rng = np.random.default_rng(question.seed)
    order = np.lexsort((rng.random(len(strata)), question.batch_covariate.labels, strata))
    decide = np.zeros(len(strata), dtype=bool)
    decide[order[::2]] = True
    return decide


def thin(question: Question, strata: np.ndarray) -> Question:
    """At most as many cells as the rules need, in the proportions in which they are."""
    if len(strata) <= MAXIMUM_WALK_CELLS:
        return question
    rng = np.random.default_rng(question.seed)
    order = np.lexsort((rng.random(len(strata)), question.batch_covariate.labels, strata))
    taken = np.linspace(0, len(order) - 1, MAXIMUM_WALK_CELLS).astype(np.int64)
    return question.subset(np.sort(order[taken]))


def weigh_dimensions(question: Question, strata: np.ndarray, n_permutations: int) -> pd.DataFrame:
    """Table of the information that each dimension holds, and the order in which they would go.

    A dimension holds as much of the protected covariates as of that of which it holds most: with a sum, naming a covariate
    twice, or at two granularities, would change the rank.
    """
    rng = np.random.default_rng(question.seed)
    codes = question.codes[:, question.active]
    bins, n_bins = bin_codes(codes)
    batch, covariates = question.batch_covariate, question.covariates
    marginal = conditional_information(bins, n_bins, batch, np.zeros_like(strata), n_permutations, rng)
    given = conditional_information(bins, n_bins, batch, strata, n_permutations, rng)
    of_each = [
        conditional_information(bins, n_bins, covariate, batch.labels, n_permutations, rng) for covariate in covariates
    ]
    values = np.stack([information.value for information in of_each])
    most = values.argmax(axis=0)
    columns = np.arange(codes.shape[1])
    # The covariate was chosen among several by its value, which its p-value pays for.
    p_protected = np.stack([i.p_value for i in of_each])[most, columns] * len(covariates)
    difference = given.value - values[most, columns]
    rank = np.empty(len(columns), dtype=np.int64)
    rank[np.argsort(-difference, kind="stable")] = columns + 1
    active = {
        "batch": np.maximum(marginal.value, 0.0),
        "batch_given_protected": np.maximum(given.value, 0.0),
        "batch_p_value": given.p_value,
        "batch_p_adjusted": stats.false_discovery_control(given.p_value),
        "protected_given_batch": np.maximum(values[most, columns], 0.0),
        "protected_p_value": np.minimum(p_protected, 1.0),
        "protected_p_adjusted": stats.false_discovery_control(np.minimum(p_protected, 1.0)),
    }
    n_dims = len(question.active)
    frame = pd.DataFrame({"dimension": np.arange(n_dims), "active": question.active})
    for name in (*MEASURED, *active):
        frame[name] = np.full(n_dims, np.nan)
        if name in active:
            frame.loc[question.active, name] = active[name]
    frame["protected_covariate"] = ""
    frame.loc[question.active, "protected_covariate"] = [covariates[i].name for i in most]
    frame["rank"] = np.zeros(n_dims, dtype=np.int64)
    frame.loc[question.active, "rank"] = rank
    frame["chosen"] = False
    return frame[list(COLUMNS)]


def guarded(question: Question, frame: pd.DataFrame, fdr: float) -> Choice:
    """Zero dimension after dimension in order of rank, while no protected covariate suffers and batch still falls."""
    order = _candidates(frame, fdr)
    implied = _implied(question)
    gain, mixed = (max(GAIN, n * question.standard_error) for n in (1, 2))
    skills = [question.skills(())]
    told = _told(skills[0], question.standard_error)
    stopped = ""
    for n_zeroed in range(1, len(order) + 1):
        if skills[-1][""] <= implied + mixed:
            break
        if n_zeroed == int(question.active.sum()):
            stopped = "all"
            break
        skills.append(question.skills(order[:n_zeroed]))
        if not all(_keeps(skills[0][name], skills[-1][name]) for name in told):
            stopped = "guard"
            break
    walk = _walk_frame(question, order, skills)
    allowed = skills[:-1] if stopped == "guard" else skills
    left = np.array([max(step[""], implied) for step in allowed])
    # The fewest that do as well as any: what comes after them takes no more batch away.
    n_chosen = int(np.flatnonzero(left <= left.min() + gain)[0])
    if n_chosen:
        return Choice(tuple(order[:n_chosen]), "", walk)
    if left[0] <= implied + mixed:
        return Choice((), "mixed", walk)
    return Choice((), "insignificant" if not order else stopped if len(allowed) == 1 else "no gain", walk)


def dominant(question: Question, frame: pd.DataFrame, fdr: float) -> tuple[Choice, pd.DataFrame]:
    """Every dimension that, alone, tells more of batch than of any protected covariate; and the frame with these skills."""
    frame = frame.copy()
    others = np.arange(len(frame))
    for dimension in np.flatnonzero(frame["active"]):
        alone = question.skills(np.delete(others, dimension))
        frame.loc[dimension, "batch_alone"] = alone.pop("")
        frame.loc[dimension, "protected_alone"] = np.nanmax([0.0, *alone.values()])
    order = _candidates(frame, fdr)
    chosen = [d for d in order if frame.loc[d, "batch_alone"] > max(frame.loc[d, "protected_alone"], GAIN)]
    reason = "insignificant" if not order else "" if chosen else "no gain"
    if len(chosen) == int(frame["active"].sum()):
        chosen, reason = [], "all"
    return Choice(tuple(chosen), reason, _walk_frame(question, (), [question.skills(())])), frame


def explicit(question: Question, dimensions: Sequence[int]) -> Choice:
    """The dimensions that were asked for."""
    return Choice(tuple(dimensions), "", _walk_frame(question, (), [question.skills(())]))


def unknown(question: Question) -> tuple[pd.DataFrame, Choice, pd.DataFrame]:
    """Table of dimensions, choice and report where batches cannot be compared: nothing is known, and nothing is chosen."""
    n_dims = len(question.active)
    frame = pd.DataFrame(np.nan, index=range(n_dims), columns=list(COLUMNS))
    frame = frame.assign(dimension=np.arange(n_dims), active=question.active, protected_covariate="", chosen=False)
    names = ["", *map(str, question.protected)]
    skills = dict.fromkeys(names, np.nan)
    covariates = pd.DataFrame(
        {
            "covariate": [name or str(question.batch.name) for name in names],
            "role": ["protected" if name else "batch" for name in names],
        }
        | dict.fromkeys((*REPORTED.values(), "implied_skill"), np.nan)
    )
    return frame.assign(rank=0), Choice((), "", _walk_frame(question, (), [skills])), covariates


def add_walk(frame: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Enter what was chosen, and what the walk saw when it got to each dimension."""
    frame = frame.copy()
    steps = choice.walk[choice.walk["n_zeroed"] > 0]
    for dimension, step in steps.groupby("dimension"):
        frame.loc[dimension, "batch_left"] = step.loc[step["role"] == "batch", "skill"].item()
        frame.loc[dimension, "protected_kept"] = step.loc[step["role"] == "protected", "kept"].min()
    frame["chosen"] = frame["dimension"].isin(choice.dimensions)
    return frame


def report(question: Question, decide: np.ndarray, dimensions: Sequence[int]) -> pd.DataFrame:
    """Accuracy of batch and of every protected covariate before and after zeroing, on the cells that decided nothing."""
    test = ~decide
    left = question.active.copy()
    left[list(dimensions)] = False
    before = question.codes[:, question.active]
    after = question.codes[:, left] if left.any() else np.zeros((len(before), 1))
    blocks = make_blocks(len(before), None, N_BOOTSTRAP, np.random.default_rng(question.seed))
    cells = BeforeAndAfter(before, after, None, test, blocks, question.seed)
    implied = implied_skill(question.batch, question.protected, test=test, seed=question.seed)
    rows = [neighbour_row(cells, question.batch_covariate, "batch", implied)]
    rows += [neighbour_row(cells, covariate, "protected", np.nan) for covariate in question.covariates]
    frame = pd.DataFrame(rows).rename(columns={"implied": "implied_skill"} | REPORTED)
    frame["covariate"] = [str(question.batch.name), *map(str, question.protected)]
    told = frame["skill_before"] > 2 / np.sqrt(max(int(test.sum()), 1))  # two standard errors
    kept = frame["skill_after"].where(told) / frame["skill_before"]
    frame = frame.assign(kept=kept)[["covariate", "role", *REPORTED.values(), "implied_skill"]]
    frame.loc[~told, ["kept_ci_low", "kept_ci_high"]] = np.nan
    return frame.astype(dict.fromkeys(frame.columns[2:], np.float64))


def _candidates(frame: pd.DataFrame, fdr: float) -> list[int]:
    """Dimensions with batch that the protected covariates do not explain, in order of rank."""
    significant = frame[frame["active"] & (frame["batch_p_adjusted"] <= fdr)]
    return [int(dimension) for dimension in significant.sort_values("rank")["dimension"]]


def _implied(question: Question) -> float:
    return max(float(np.nan_to_num(implied_skill(question.batch, question.protected, seed=question.seed))), 0.0)


def _told(skills: dict[str, float], standard_error: float) -> list[str]:
    """Protected covariates that the codes tell beyond chance; the others have no skill to lose."""
    return [name for name, skill in skills.items() if name and skill > 2 * standard_error]


def _keeps(before: float, after: float) -> bool:
    return after >= min(KEPT_SKILL * before, before - SLACK)


def _kept(before: float, after: float, standard_error: float) -> float:
    return after / before if before > 2 * standard_error else np.nan


def _walk_frame(question: Question, order: Sequence[int], skills: list[dict[str, float]]) -> pd.DataFrame:
    rows = [
        (
            n_zeroed,
            -1 if n_zeroed == 0 else order[n_zeroed - 1],
            name or str(question.batch.name),
            "protected" if name else "batch",
            skill,
            _kept(skills[0][name], skill, question.standard_error),
        )
        for n_zeroed, step in enumerate(skills)
        for name, skill in step.items()
    ]
    columns = ["n_zeroed", "dimension", "covariate", "role", "skill", "kept"]
    return pd.DataFrame(rows, columns=columns).astype({"skill": np.float64, "kept": np.float64})
