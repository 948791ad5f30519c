"""Which dimensions encode batch and can be given up: information, rank, and what removing them costs on held-out cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from scbetavae._core.constants import CONSERVED_SHARE, CONSERVED_SLACK, LEAST_GAIN
from scbetavae.metrics._checks import Covariate, check_codes, check_column, check_factors, take_cells
from scbetavae.metrics._resampling import make_blocks
from scbetavae.metrics.integration._classifiers import classifier_accuracy, composition_accuracy
from scbetavae.metrics.integration._conditional_information import bin_codes, conditional_information, stratify
from scbetavae.metrics.integration._evaluate_batch_removal import BeforeAndAfter, neighbor_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

METHODS = ("stepwise", "dominant")
REPEATED_CELLS, MAXIMUM_REPEATS = 1_500, 5
"""Folds are drawn again until this many cells were predicted, or this often: a decision must not depend on one draw."""

MAXIMUM_STEP_CELLS = 5_000
"""Cells on which steps measure accuracies at most."""

N_BOOTSTRAP = 200
"""Replicates behind the intervals of the report."""

REPORTED = {
    f"{name}{end}": f"{column}{end}"
    for name, column in (("before", "accuracy_before"), ("after", "accuracy_after"), ("kept", "kept"))
    for end in ("", "_ci_low", "_ci_high")
}
"""Columns of the search's report, by their name in the batch-removal report."""

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
"""Columns that a method fills as far as it looked."""

Status = Literal["found", "none", "refused", "not possible"]
Reason = Literal["", "insignificant", "mixed", "conservation", "no gain", "all"]


@dataclass(frozen=True)
class BatchSearch:
    """Result of a search for batch dimensions.

    Attributes
    ----------
    dimensions
        One row per dimension: information about batch and conserved covariates, rank, and whether it was chosen.
    report
        One row per covariate, batch first: k-NN accuracy with and without the chosen dimensions on held-out cells.
    steps
        One row per step of backward elimination and covariate.
    status
        ``"found"``, ``"none"``, ``"refused"`` (batch and a conserved covariate are confounded) or ``"not possible"`` (too few
        cells of a batch or class).
    reason
        Why no dimension was chosen: ``"insignificant"``, ``"mixed"``, ``"conservation"``, ``"no gain"``, ``"all"``; or empty.
    problem
        Why batches cannot be compared within the conserved covariates; empty if they can.
    stratified_by
        Conserved covariates that were held constant.
    effective_cells
        Number of cells that a comparison of batches within strata is worth.
    held_out
        Boolean mask of the cells that took no part in the decision, (n_cells,).
    """

    dimensions: pd.DataFrame
    report: pd.DataFrame
    steps: pd.DataFrame
    status: Status
    reason: Reason
    problem: str
    stratified_by: tuple[str, ...]
    effective_cells: float
    held_out: np.ndarray

    @property
    def chosen(self) -> list[int]:
        """Dimensions that encode batch and can be given up, in order of number."""
        return sorted(int(d) for d in self.dimensions.loc[self.dimensions["chosen"].astype(bool), "dimension"])


def search_batch_dimensions(
    codes: ArrayLike,
    batch: pd.Series,
    conserved: pd.DataFrame,
    *,
    active: np.ndarray,
    method: str = "stepwise",
    n_permutations: int = 100,
    fdr: float = 0.05,
    seed: int = 0,
) -> BatchSearch:
    r"""Search for dimensions that encode batch and can be given up without loss of the conserved covariates.

    Decides on half of the cells and reports on the other; :func:`scbetavae.tl.find_batch_dimensions` says how.

    Parameters
    ----------
    codes
        Embedding of shape (n_cells, n_dims).
    batch
        Batch of every cell.
    conserved
        Conserved covariates, one row per cell, at least one column. Cells without batch or one of them take no part.
    active
        Boolean mask of the dimensions that take part, (n_dims,).
    method
        ``"stepwise"`` (backward elimination) or ``"dominant"``.
    n_permutations
        Permutations within strata behind the removal of bias and the p-values.
    fdr
        False discovery rate of the test for batch over dimensions, in (0, 1).
    seed
        Seed of halves, permutations and folds.

    Returns
    -------
    BatchSearch

    Raises
    ------
    ValueError
        If shapes do not agree or the embedding is not finite.

    References
    ----------
    :cite:p:`Benjamini1995,Winkler2016`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import search_batch_dimensions
    >>> rng = np.random.default_rng(0)
    >>> batch, kind = rng.choice(["1", "2"], 400), rng.choice(["B", "T"], 400)
    >>> codes = rng.normal(size=(400, 3)) + 6.0 * np.stack([batch == "1", kind == "B", batch == "x"], axis=1)
    >>> found = search_batch_dimensions(codes, pd.Series(batch), pd.DataFrame({"kind": kind}), active=np.ones(3, bool))
    >>> found.status, found.chosen
    ('found', [0])
    """
    array = check_codes(codes)
    of_batch = check_column(batch, len(array), "batch").as_classes()
    covariates = check_factors(conserved, len(array))
    keep = np.flatnonzero(np.logical_and.reduce([c.present for c in (of_batch, *covariates)]))
    question = Question(array, of_batch, covariates, np.asarray(active), seed).subset(keep)
    strata = stratify(question.batch.labels, question.conserved)
    decide = deciding_half(question, strata.index)
    half = question.subset(np.flatnonzero(decide))
    frame = weigh_dimensions(half, strata.index[decide], n_permutations)
    half = thin(half, strata.index[decide])
    if strata.problem:
        choice = Choice((), "", _steps_frame(half, (), [half.accuracies(())]))
    elif method == "stepwise":
        choice = stepwise(half, frame, fdr)
    else:
        choice, frame = dominant(half, frame, fdr)
    held_out = np.zeros(len(array), dtype=bool)
    held_out[keep[~decide]] = True
    return BatchSearch(
        dimensions=add_steps(frame, choice),
        report=report(question, decide, choice.dimensions),
        steps=choice.steps,
        status="refused" if strata.problem else "found" if choice.dimensions else "none",
        reason=choice.reason,
        problem=strata.problem,
        stratified_by=strata.crossed,
        effective_cells=float(strata.effective_cells),
        held_out=held_out,
    )


def impossible_search(active: np.ndarray, batch: str, conserved: Sequence[str], n_cells: int) -> BatchSearch:
    """Result where batches or classes have too few cells to be compared: nothing is known, and nothing is chosen."""
    n_dims = len(active)
    frame = pd.DataFrame(np.nan, index=range(n_dims), columns=list(COLUMNS))
    frame = frame.assign(dimension=np.arange(n_dims), active=active, conserved_covariate="", chosen=False, rank=0)
    names = [batch, *conserved]
    roles = ["batch"] + ["conserved"] * len(conserved)
    unknown = dict.fromkeys((*REPORTED.values(), "expected_accuracy"), np.nan)
    steps = {"n_zeroed": 0, "dimension": -1, "covariate": names, "role": roles, "accuracy": np.nan, "kept": np.nan}
    return BatchSearch(
        dimensions=frame,
        report=pd.DataFrame({"covariate": names, "role": roles} | unknown),
        steps=pd.DataFrame(steps),
        status="not possible",
        reason="",
        problem="",
        stratified_by=(),
        effective_cells=float("nan"),
        held_out=np.zeros(n_cells, dtype=bool),
    )


@dataclass(frozen=True)
class Question:
    """Embedding, batch and conserved covariates of cells that have them all."""

    codes: np.ndarray
    batch: Covariate
    conserved: list[Covariate]
    active: np.ndarray
    seed: int

    @property
    def standard_error(self) -> float:
        """About that of an accuracy near 0: of a balanced accuracy of one half over all cells, scaled to an accuracy."""
        return 1 / np.sqrt(max(len(self.codes), 1))

    def subset(self, cells: np.ndarray) -> Question:
        """The same question on some of the cells."""
        conserved = [observed(take_cells(covariate, cells)) for covariate in self.conserved]
        return Question(self.codes[cells], observed(take_cells(self.batch, cells)), conserved, self.active, self.seed)

    def accuracies(self, zeroed: Sequence[int]) -> dict[str, float]:
        """Held-out accuracy of batch (named ``""``) and of each conserved covariate in active dimensions, without some."""
        mask = self.active.copy()
        mask[list(zeroed)] = False
        kept = self.codes[:, mask] if mask.any() else np.zeros((len(self.codes), 1))
        columns = {"": self.batch} | {covariate.name: covariate for covariate in self.conserved}
        seeds = range(self.seed, self.seed + int(np.clip(REPEATED_CELLS // max(len(kept), 1), 1, MAXIMUM_REPEATS)))
        return {
            name: float(np.mean([classifier_accuracy(kept, c, seed=s) for s in seeds])) for name, c in columns.items()
        }


class Choice(NamedTuple):
    """What a method decided."""

    dimensions: tuple[int, ...]
    reason: Reason
    steps: pd.DataFrame


def observed(covariate: Covariate) -> Covariate:
    """A covariate with the classes that its cells have, numbered without gaps."""
    if covariate.is_numeric:
        return covariate
    kinds, labels = np.unique(covariate.labels, return_inverse=True)
    return Covariate(covariate.name, labels.reshape(-1), tuple(covariate.classes[k] for k in kinds), None)


def deciding_half(question: Question, strata: np.ndarray) -> np.ndarray:
    """Mask of the cells on which rules decide: every other cell of each batch and stratum, at random."""
    rng = np.random.default_rng(question.seed)
    order = np.lexsort((rng.random(len(strata)), question.batch.labels, strata))
    decide = np.zeros(len(strata), dtype=bool)
    decide[order[::2]] = True
    return decide


def thin(question: Question, strata: np.ndarray) -> Question:
    """At most as many cells as the rules need, in the proportions in which they are."""
    if len(strata) <= MAXIMUM_STEP_CELLS:
        return question
    rng = np.random.default_rng(question.seed)
    order = np.lexsort((rng.random(len(strata)), question.batch.labels, strata))
    taken = np.linspace(0, len(order) - 1, MAXIMUM_STEP_CELLS).astype(np.int64)
    return question.subset(np.sort(order[taken]))


def weigh_dimensions(question: Question, strata: np.ndarray, n_permutations: int) -> pd.DataFrame:
    """Table of the information that each dimension holds, and the order in which they would go.

    A dimension holds as much of the conserved covariates as of that of which it holds most: with a sum, naming a covariate
    twice, or at two granularities, would change the rank.
    """
    rng = np.random.default_rng(question.seed)
    codes = question.codes[:, question.active]
    bins, n_bins = bin_codes(codes)
    batch, covariates = question.batch, question.conserved
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
    gain, mixed = (max(LEAST_GAIN, n * question.standard_error) for n in (1, 2))
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
            stopped = "conservation"
            break
    steps = _steps_frame(question, order, accuracies)
    allowed = accuracies[:-1] if stopped == "conservation" else accuracies
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
    chosen = [d for d in order if frame.loc[d, "batch_alone"] > max(frame.loc[d, "conserved_alone"], LEAST_GAIN)]
    reason = "insignificant" if not order else "" if chosen else "no gain"
    if len(chosen) == int(frame["active"].sum()):
        chosen, reason = [], "all"
    return Choice(tuple(chosen), reason, _steps_frame(question, (), [question.accuracies(())])), frame


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
    expected = composition_accuracy(question.batch, question.conserved, test=test, seed=question.seed)
    rows = [neighbor_row(cells, question.batch, "batch", expected)]
    rows += [neighbor_row(cells, covariate, "conserved", np.nan) for covariate in question.conserved]
    frame = pd.DataFrame(rows).rename(columns={"expected": "expected_accuracy"} | REPORTED)
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
    return max(float(np.nan_to_num(composition_accuracy(question.batch, question.conserved, seed=question.seed))), 0.0)


def _told(accuracies: dict[str, float], standard_error: float) -> list[str]:
    """Conserved covariates that the codes tell beyond chance; the others have no accuracy to lose."""
    return [name for name, accuracy in accuracies.items() if name and accuracy > 2 * standard_error]


def _keeps(before: float, after: float) -> bool:
    return after >= min(CONSERVED_SHARE * before, before - CONSERVED_SLACK)


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
