"""Which dimensions hold batch and can be given up: information, rank, and what zeroing costs on held-out cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from scbetavae.metrics._batch_classifiers import expected_accuracy, knn_accuracy
from scbetavae.metrics._checks import Covariate, check_column, check_factors
from scbetavae.metrics._conditional_information import (
    Strata,
    bin_codes,
    conditional_information,
    stratify,
)
from scbetavae.metrics._evaluate_batch_removal import BeforeAndAfter, neighbor_row
from scbetavae.metrics._resampling import make_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT_SKILL = 0.97
"""Share of its held-out accuracy that every conserved covariate keeps while the stepwise rule goes on."""

SLACK = 0.01
"""... or it loses no more than this."""

GAIN = 0.02
"""Batch accuracy that further dimensions must remove to be worth zeroing; one standard error if that is larger. The same, or
two standard errors, above what is expected, batch is as good as mixed."""

REPEATED_CELLS, MAXIMUM_REPEATS = 1_500, 5
"""Folds are drawn anew until so many cells were predicted, or so often: a decision must not hang on the draw."""

MAXIMUM_WALK_CELLS = 5_000
"""Cells on which the rules measure accuracies at most."""

N_BOOTSTRAP = 200
"""Replicates behind the intervals of the report."""

REPORTED = {
    f"{name}{end}": f"{column}{end}"
    for name, column in (("before", "accuracy_before"), ("after", "accuracy_after"), ("kept", "kept"))
    for end in ("", "_ci_low", "_ci_high")
}
"""Columns of the report, by their name in the report of zeroing."""

COLUMNS = (
    "dimension",
    "active",
    "batch",
    "batch_given_conserved",
    "batch_p_value",
    "batch_p_adjusted",
    "conserved_given_batch",
    "conserved_covariate",
    "conserved_p_value",
    "conserved_p_adjusted",
    "rank",
    "batch_left",
    "conserved_kept",
    "batch_alone",
    "conserved_alone",
    "chosen",
)
MEASURED = ("batch_left", "conserved_kept", "batch_alone", "conserved_alone")
"""Columns that a rule fills, as far as it looked."""


@dataclass(frozen=True)
class Question:
    """Codes, the batch and what is to be conserved, of cells that have them all."""

    codes: np.ndarray
    """Shape (n_cells, n_dims)."""
    batch: pd.Series
    """Categories as strings."""
    conserved: pd.DataFrame
    active: np.ndarray
    """Boolean mask of shape (n_dims,)."""
    seed: int

    @property
    def covariates(self) -> list[Covariate]:
        return check_factors(self.conserved, len(self.codes))

    @property
    def batch_covariate(self) -> Covariate:
        return check_column(self.batch, len(self.codes), "batch")

    @property
    def standard_error(self) -> float:
        """About that of a accuracy near 0: of a balanced accuracy of a half over all cells, scaled to a accuracy."""
        return 1 / np.sqrt(max(len(self.codes), 1))

    def subset(self, cells: np.ndarray) -> Question:
        """The same question on some of the cells."""
        return Question(self.codes[cells], self.batch.iloc[cells], self.conserved.iloc[cells], self.active, self.seed)

    def accuracies(self, zeroed: Sequence[int]) -> dict[str, float]:
        """Held-out accuracy of batch (named ``""``) and of every conserved covariate in active dimensions, without some."""
        mask = self.active.copy()
        mask[list(zeroed)] = False
        kept = self.codes[:, mask] if mask.any() else np.zeros((len(self.codes), 1))
        columns = {"": self.batch} | {str(name): self.conserved[name] for name in self.conserved}
        repeats = int(np.clip(REPEATED_CELLS // max(len(kept), 1), 1, MAXIMUM_REPEATS))
        return {
            name: float(np.mean([knn_accuracy(kept, column, seed=self.seed + i) for i in range(repeats)]))
            for name, column in columns.items()
        }


class Choice(NamedTuple):
    """What a rule decided."""

    dimensions: tuple[int, ...]
    reason: str
    """Why there are none, a word: ``"insignificant"``, ``"mixed"``, ``"guard"``, ``"no gain"``, ``"all"``; or empty."""
    steps: pd.DataFrame
    """Accuracies after zeroing dimensions: ``n_zeroed``, ``dimension``, ``covariate``, ``role``, ``accuracy``, ``kept``."""


def batch_strata(question: Question) -> Strata:
    """Strata of the conserved covariates, and whether batches can be compared within them."""
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

    A dimension holds as much of the conserved covariates as of that of which it holds most: with a sum, naming a covariate
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
    p_conserved = np.stack([i.p_value for i in of_each])[most, columns] * len(covariates)
    difference = given.value - values[most, columns]
    rank = np.empty(len(columns), dtype=np.int64)
    rank[np.argsort(-difference, kind="stable")] = columns + 1
    active = {
        "batch": np.maximum(marginal.value, 0.0),
        "batch_given_conserved": np.maximum(given.value, 0.0),
        "batch_p_value": given.p_value,
        "batch_p_adjusted": stats.false_discovery_control(given.p_value),
        "conserved_given_batch": np.maximum(values[most, columns], 0.0),
        "conserved_p_value": np.minimum(p_conserved, 1.0),
        "conserved_p_adjusted": stats.false_discovery_control(np.minimum(p_conserved, 1.0)),
    }
    n_dims = len(question.active)
    frame = pd.DataFrame({"dimension": np.arange(n_dims), "active": question.active})
    for name in (*MEASURED, *active):
        frame[name] = np.full(n_dims, np.nan)
        if name in active:
            frame.loc[question.active, name] = active[name]
    frame["conserved_covariate"] = ""
    frame.loc[question.active, "conserved_covariate"] = [covariates[i].name for i in most]
    frame["rank"] = np.zeros(n_dims, dtype=np.int64)
    frame.loc[question.active, "rank"] = rank
    frame["chosen"] = False
    return frame[list(COLUMNS)]


def stepwise(question: Question, frame: pd.DataFrame, fdr: float) -> Choice:
    """Zero dimension after dimension in order of rank, while no conserved covariate suffers and batch still falls."""
    order = _candidates(frame, fdr)
    expected = _expected(question)
    gain, mixed = (max(GAIN, n * question.standard_error) for n in (1, 2))
    accuracies = [question.accuracies(())]
    told = _told(accuracies[0], question.standard_error)
    stopped = ""
    for n_zeroed in range(1, len(order) + 1):
        if accuracies[-1][""] <= expected + mixed:
            break
        if n_zeroed == int(question.active.sum()):
            stopped = "all"
            break
        accuracies.append(question.accuracies(order[:n_zeroed]))
        if not all(_keeps(accuracies[0][name], accuracies[-1][name]) for name in told):
            stopped = "guard"
            break
    steps = _steps_frame(question, order, accuracies)
    allowed = accuracies[:-1] if stopped == "guard" else accuracies
    left = np.array([max(step[""], expected) for step in allowed])
    # The fewest that do as well as any: what comes after them takes no more batch away.
    n_chosen = int(np.flatnonzero(left <= left.min() + gain)[0])
    if n_chosen:
        return Choice(tuple(order[:n_chosen]), "", steps)
    if left[0] <= expected + mixed:
        return Choice((), "mixed", steps)
    return Choice((), "insignificant" if not order else stopped if len(allowed) == 1 else "no gain", steps)


def dominant(question: Question, frame: pd.DataFrame, fdr: float) -> tuple[Choice, pd.DataFrame]:
    """Every dimension that, alone, tells more of batch than of any conserved covariate; and the frame with these accuracies."""
    frame = frame.copy()
    others = np.arange(len(frame))
    for dimension in np.flatnonzero(frame["active"]):
        alone = question.accuracies(np.delete(others, dimension))
        frame.loc[dimension, "batch_alone"] = alone.pop("")
        frame.loc[dimension, "conserved_alone"] = np.nanmax([0.0, *alone.values()])
    order = _candidates(frame, fdr)
    chosen = [d for d in order if frame.loc[d, "batch_alone"] > max(frame.loc[d, "conserved_alone"], GAIN)]
    reason = "insignificant" if not order else "" if chosen else "no gain"
    if len(chosen) == int(frame["active"].sum()):
        chosen, reason = [], "all"
    return Choice(tuple(chosen), reason, _steps_frame(question, (), [question.accuracies(())])), frame


def explicit(question: Question, dimensions: Sequence[int]) -> Choice:
    """The dimensions that were asked for."""
    return Choice(tuple(dimensions), "", _steps_frame(question, (), [question.accuracies(())]))


def unknown(question: Question) -> tuple[pd.DataFrame, Choice, pd.DataFrame]:
    """Table of dimensions, choice and report where batches cannot be compared: nothing is known, and nothing is chosen."""
    n_dims = len(question.active)
    frame = pd.DataFrame(np.nan, index=range(n_dims), columns=list(COLUMNS))
    frame = frame.assign(dimension=np.arange(n_dims), active=question.active, conserved_covariate="", chosen=False)
    names = ["", *map(str, question.conserved)]
    accuracies = dict.fromkeys(names, np.nan)
    covariates = pd.DataFrame(
        {
            "covariate": [name or str(question.batch.name) for name in names],
            "role": ["conserved" if name else "batch" for name in names],
        }
        | dict.fromkeys((*REPORTED.values(), "expected_accuracy"), np.nan)
    )
    return frame.assign(rank=0), Choice((), "", _steps_frame(question, (), [accuracies])), covariates


def add_steps(frame: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Enter what was chosen, and what the steps saw when it got to each dimension."""
    frame = frame.copy()
    steps = choice.steps[choice.steps["n_zeroed"] > 0]
    for dimension, step in steps.groupby("dimension"):
        frame.loc[dimension, "batch_left"] = step.loc[step["role"] == "batch", "accuracy"].item()
        frame.loc[dimension, "conserved_kept"] = step.loc[step["role"] == "conserved", "kept"].min()
    frame["chosen"] = frame["dimension"].isin(choice.dimensions)
    return frame


def report(question: Question, decide: np.ndarray, dimensions: Sequence[int]) -> pd.DataFrame:
    """Accuracy of batch and of every conserved covariate before and after zeroing, on the cells that decided nothing."""
    test = ~decide
    left = question.active.copy()
    left[list(dimensions)] = False
    before = question.codes[:, question.active]
    after = question.codes[:, left] if left.any() else np.zeros((len(before), 1))
    blocks = make_blocks(len(before), None, N_BOOTSTRAP, np.random.default_rng(question.seed))
    cells = BeforeAndAfter(before, after, None, test, blocks, question.seed)
    expected = expected_accuracy(question.batch, question.conserved, test=test, seed=question.seed)
    rows = [neighbor_row(cells, question.batch_covariate, "batch", expected)]
    rows += [neighbor_row(cells, covariate, "conserved", np.nan) for covariate in question.covariates]
    frame = pd.DataFrame(rows).rename(columns={"expected": "expected_accuracy"} | REPORTED)
    frame["covariate"] = [str(question.batch.name), *map(str, question.conserved)]
    told = frame["accuracy_before"] > 2 / np.sqrt(max(int(test.sum()), 1))  # two standard errors
    kept = frame["accuracy_after"].where(told) / frame["accuracy_before"]
    frame = frame.assign(kept=kept)[["covariate", "role", *REPORTED.values(), "expected_accuracy"]]
    frame.loc[~told, ["kept_ci_low", "kept_ci_high"]] = np.nan
    return frame.astype(dict.fromkeys(frame.columns[2:], np.float64))


def _candidates(frame: pd.DataFrame, fdr: float) -> list[int]:
    """Dimensions with batch that the conserved covariates do not explain, in order of rank."""
    significant = frame[frame["active"] & (frame["batch_p_adjusted"] <= fdr)]
    return [int(dimension) for dimension in significant.sort_values("rank")["dimension"]]


def _expected(question: Question) -> float:
    return max(float(np.nan_to_num(expected_accuracy(question.batch, question.conserved, seed=question.seed))), 0.0)


def _told(accuracies: dict[str, float], standard_error: float) -> list[str]:
    """Conserved covariates that the codes tell beyond chance; the others have no accuracy to lose."""
    return [name for name, accuracy in accuracies.items() if name and accuracy > 2 * standard_error]


def _keeps(before: float, after: float) -> bool:
    return after >= min(KEPT_SKILL * before, before - SLACK)


def _kept(before: float, after: float, standard_error: float) -> float:
    return after / before if before > 2 * standard_error else np.nan


def _steps_frame(question: Question, order: Sequence[int], accuracies: list[dict[str, float]]) -> pd.DataFrame:
    rows = [
        (
            n_zeroed,
            -1 if n_zeroed == 0 else order[n_zeroed - 1],
            name or str(question.batch.name),
            "conserved" if name else "batch",
            accuracy,
            _kept(accuracies[0][name], accuracy, question.standard_error),
        )
        for n_zeroed, step in enumerate(accuracies)
        for name, accuracy in step.items()
    ]
    columns = ["n_zeroed", "dimension", "covariate", "role", "accuracy", "kept"]
    return pd.DataFrame(rows, columns=columns).astype({"accuracy": np.float64, "kept": np.float64})
