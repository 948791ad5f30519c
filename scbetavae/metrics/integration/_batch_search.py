"""Which dimensions encode batch and can be removed, and what removing them costs on held-out cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import finite_matrix
from scbetavae.metrics._checks import check_column, check_factors
from scbetavae.metrics._held_out import stratified_order
from scbetavae.metrics._resampling import make_blocks
from scbetavae.metrics.integration import _elimination
from scbetavae.metrics.integration._classifiers import composition_accuracy
from scbetavae.metrics.integration._conditional_information import stratify
from scbetavae.metrics.integration._elimination import Choice, Question, Reason
from scbetavae.metrics.integration._evaluate_batch_removal import BeforeAndAfter, classifier_row

N_BOOTSTRAP = 200  # replicates behind the intervals of the report
REPORTED = {
    f"{name}{end}": f"{column}{end}"
    for name, column in (("before", "accuracy_before"), ("after", "accuracy_after"), ("kept", "kept"))
    for end in ("", "_ci_low", "_ci_high")
}
"""Columns of the search's report, by their name in the batch-removal report."""

Status = Literal["found", "none", "refused", "not possible"]


@dataclass(frozen=True)
class BatchSearch:
    """Result of a search for batch dimensions."""

    dimensions: pd.DataFrame
    """One row per dimension: information about batch and conserved covariates, rank, and whether it was chosen."""
    chosen: list[int]
    """Dimensions that encode batch and can be removed, in order of number."""
    report: pd.DataFrame
    """One row per covariate, batch first: k-NN accuracy with and without the chosen dimensions on held-out cells."""
    steps: pd.DataFrame
    """One row per step of backward elimination and covariate."""
    status: Status
    """``"refused"``: batch and a conserved covariate are confounded. ``"not possible"``: too few cells of a batch or class."""
    reason: Reason
    """Why no dimension was chosen, or empty."""
    problem: str
    """Why batches cannot be compared within the conserved covariates; empty if they can."""
    stratified_by: tuple[str, ...]
    """Conserved covariates that were held constant."""
    effective_cells: float
    """Number of cells that a comparison of batches within strata is worth."""
    held_out: np.ndarray
    """Boolean mask of the cells that took no part in the decision, (n_cells,)."""


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
    """Search for dimensions that encode batch and can be removed without loss of the conserved covariates.

    Decides on half of the cells and reports on the other; :func:`scbetavae.tl.find_batch_dimensions` says how.

    Parameters
    ----------
    codes
        Embedding of shape (n_cells, n_dims), finite, otherwise a ValueError is raised.
    batch, conserved
        Batch of every cell; conserved covariates, one row per cell, at least one column. Cells without batch or one of them take
        no part.
    active
        Boolean mask of the dimensions that take part, (n_dims,).
    method
        ``"stepwise"`` (backward elimination) or ``"dominant"``.
    n_permutations
        Permutations within strata behind the removal of bias and the p-values :cite:p:`Winkler2016`.
    fdr, seed
        False discovery rate :cite:p:`Benjamini1995` of the test for batch over dimensions, in (0, 1); seed of halves,
        permutations and folds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> batch, kind = rng.choice(["1", "2"], 400), rng.choice(["B", "T"], 400)
    >>> codes = rng.normal(size=(400, 3)) + 6.0 * np.stack([batch == "1", kind == "B", batch == "x"], axis=1)
    >>> found = search_batch_dimensions(codes, pd.Series(batch), pd.DataFrame({"kind": kind}), active=np.ones(3, bool))
    >>> found.status, found.chosen
    ('found', [0])
    """
    array = finite_matrix(codes, "codes")
    of_batch = check_column(batch, len(array), "batch", classes=True)
    covariates = check_factors(conserved, len(array))
    keep = np.flatnonzero(np.logical_and.reduce([c.present for c in (of_batch, *covariates)]))
    question = Question(array, of_batch, covariates, np.asarray(active), seed).subset(keep)
    strata = stratify(question.batch.values, question.conserved)
    decide = np.zeros(len(keep), dtype=bool)
    decide[stratified_order(strata.index, question.batch.values, seed)[::2]] = True
    half = question.subset(np.flatnonzero(decide))
    frame = _elimination.weigh_dimensions(half, strata.index[decide], n_permutations)
    half = _elimination.thin(half, strata.index[decide])
    if strata.problem:
        choice = Choice((), "", _elimination.steps_frame(half, (), [half.accuracies(())]))
    elif method == "stepwise":
        choice = _elimination.stepwise(half, frame, fdr)
    else:
        choice, frame = _elimination.dominant(half, frame, fdr)
    held_out = np.zeros(len(array), dtype=bool)
    held_out[keep[~decide]] = True
    return BatchSearch(
        dimensions=_elimination.add_steps(frame, choice),
        chosen=sorted(choice.dimensions),
        report=report(question, ~decide, choice.dimensions),
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
    names = [batch, *conserved]
    roles = ["batch"] + ["conserved"] * len(conserved)
    unknown = dict.fromkeys((*REPORTED.values(), "expected_accuracy"), np.nan)
    steps = {"n_zeroed": 0, "dimension": -1, "covariate": names, "role": roles, "accuracy": np.nan, "kept": np.nan}
    return BatchSearch(
        dimensions=_elimination.empty_frame(active),
        chosen=[],
        report=pd.DataFrame({"covariate": names, "role": roles} | unknown),
        steps=pd.DataFrame(steps),
        status="not possible",
        reason="",
        problem="",
        stratified_by=(),
        effective_cells=float("nan"),
        held_out=np.zeros(n_cells, dtype=bool),
    )


def report(question: Question, held_out: np.ndarray, dimensions: Sequence[int]) -> pd.DataFrame:
    """Accuracy of batch and of every conserved covariate before and after zeroing, on the cells that decided nothing."""
    before, after = question.keep_dimensions(()), question.keep_dimensions(dimensions)
    blocks = make_blocks(len(before), None, N_BOOTSTRAP, np.random.default_rng(question.seed))
    cells = BeforeAndAfter(before, after, None, held_out, blocks, question.seed)
    expected = composition_accuracy(question.batch, question.conserved, test=held_out, seed=question.seed)
    rows = [classifier_row(cells, question.batch, "batch", expected)]
    rows += [classifier_row(cells, covariate, "conserved", np.nan) for covariate in question.conserved]
    frame = pd.DataFrame(rows).rename(columns={"expected": "expected_accuracy"} | REPORTED)
    known = frame["accuracy_before"] > 2 / np.sqrt(max(int(held_out.sum()), 1))  # two standard errors
    frame["kept"] = frame["accuracy_after"].where(known) / frame["accuracy_before"]
    frame.loc[~known, ["kept_ci_low", "kept_ci_high"]] = np.nan
    frame = frame[["covariate", "role", *REPORTED.values(), "expected_accuracy"]]
    return frame.astype(dict.fromkeys(frame.columns[2:], np.float64))
