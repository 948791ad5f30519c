"""What a change of codes cost: batch and conserved covariates, before and after."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scbetavae.metrics._checks import Covariate, check_codes, check_column, check_factors, check_groups
from scbetavae.metrics._resampling import Blocks, make_blocks
from scbetavae.metrics.integration import _ilisi
from scbetavae.metrics.integration._classifiers import (
    N_NEIGHBORS,
    composition_accuracy,
    make_forest_plan,
    make_neighbor_plan,
    predict_by_forest,
    predict_by_neighbors,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from scbetavae.metrics.integration._classifier_plan import Plan

_LEAST_SKILL = 0.05
"""Below this a ratio of accuracies says nothing."""

_N_BINS = 4
"""Quantile bins of a numeric conserved covariate, for iLISI within strata."""

_COLUMNS = ("before", "after", "kept")


class BeforeAndAfter(NamedTuple):
    """What every row of the report shares."""

    before: np.ndarray
    after: np.ndarray
    groups: np.ndarray | None
    test: np.ndarray | None
    blocks: Blocks
    seed: int


def evaluate_batch_removal(
    before: ArrayLike,
    after: ArrayLike,
    *,
    batch: ArrayLike | pd.Series,
    conserved: pd.DataFrame,
    groups: ArrayLike | pd.Series | None = None,
    test: ArrayLike | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Batch and conserved covariates in two sets of codes of the same cells.

    Both sets are classified on the same cells, in the same folds and resamples, so that differences are of the codes.

    Parameters
    ----------
    before, after
        Codes of shape (n_cells, n_dims); the numbers of dimensions may differ.
    batch
        Batch of every cell.
    conserved
        Conserved covariates, one row per cell, categorical or numeric. A cell that lacks one is left out for that one alone.
    groups
        Donor of every cell: folds hold out whole donors, and the bootstrap draws donors.
    test
        Boolean mask of the cells that are reported on, for example those that took no part in choosing dimensions.
    n_bootstrap
        Replicates behind the intervals, at least 0 (no intervals).
    seed
        Seed of folds, draws, trees and bootstrap.

    Returns
    -------
    Tidy DataFrame, a row per covariate and classifier, batch first:

    ``role``, ``covariate``, ``classifier``
        ``"batch"`` or ``"conserved"``; name of the column; ``"knn"`` (:func:`knn_accuracy`), ``"random_forest"``
        (:func:`random_forest_accuracy`) or, for batch alone, ``"ilisi"`` (:func:`ilisi`).
    ``before``, ``after``
        Accuracy in both sets of codes: 0 by chance, 1 if perfect. For iLISI 0 is separate and 1 is mixed.
    ``kept``
        For conserved covariates, ``after / before``; NaN where ``before`` is below 0.05.
    ``before_ci_low``, ``before_ci_high``, and so for ``after`` and ``kept``
        95% bootstrap intervals over held-out cells, or donors. That of ``kept`` is paired.
    ``expected``
        For batch, what the conserved covariates alone imply: :func:`expected_accuracy`, and for iLISI its value in ``before`` for
        batches permuted within strata of the conserved covariates (numeric ones cut at quartiles).
    ``n_cells``, ``n_classes``, ``flag``
        Cells that are reported on, classes (0 for a numeric covariate), and what to know about the row.

    Raises
    ------
    ValueError
        If shapes do not agree, codes are not finite, or groups are missing.

    References
    ----------
    :cite:p:`Korsunsky2019,Breiman2001`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import evaluate_batch_removal
    >>> rng = np.random.default_rng(0)
    >>> batch, kind = rng.choice(["1", "2"], 400), rng.choice(["B", "T"], 400)
    >>> codes = rng.normal(size=(400, 2)) * 0.1 + np.stack([batch == "1", kind == "B"], axis=1)
    >>> report = evaluate_batch_removal(codes, codes * [0, 1], batch=batch, conserved=pd.DataFrame({"cell type": kind}))
    >>> report.set_index(["role", "classifier"])[["before", "after"]].round(1).loc[("conserved", "knn")].tolist()
    [1.0, 1.0]
    >>> report.loc[report["classifier"] == "ilisi", ["before", "after"]].round(1).to_numpy().tolist()
    [[0.0, 1.0]]
    """
    first, second = check_codes(before), check_codes(after)
    of_batch = check_column(batch, len(first), "batch").as_classes()
    covariates = check_factors(conserved, len(first))
    if len(second) != len(first):
        msg = f"`before` has {len(first)} cells and `after` {len(second)}. Pass codes of the same cells."
        raise ValueError(msg)
    members = check_groups(groups, len(first))
    mask = None if test is None else np.asarray(test)
    rng = np.random.default_rng(seed)
    cells = BeforeAndAfter(first, second, members, mask, make_blocks(len(first), members, n_bootstrap, rng), seed)
    expected = composition_accuracy(of_batch, covariates, members, mask, seed)
    rows = [make(cells, of_batch, "batch", expected) for make in (neighbor_row, _forest_row)]
    rows.append(_ilisi_row(cells, of_batch, covariates))
    rows += [
        make(cells, covariate, "conserved", np.nan) for covariate in covariates for make in (neighbor_row, _forest_row)
    ]
    return _to_frame(rows)


def neighbor_row(cells: BeforeAndAfter, covariate: Covariate, role: str, expected: float) -> dict[str, Any]:
    """The row of k-NN accuracy."""
    plan = make_neighbor_plan(covariate, cells.groups, cells.test, cells.seed)
    predict = partial(predict_by_neighbors, plan=plan, n_neighbors=N_NEIGHBORS, seed=cells.seed)
    return _classifier_row(cells, covariate, role, "knn", plan, predict) | {"expected": expected}


def _forest_row(cells: BeforeAndAfter, covariate: Covariate, role: str, expected: float) -> dict[str, Any]:
    plan = make_forest_plan(covariate, cells.groups, cells.test, cells.seed)
    predict = partial(predict_by_forest, plan=plan, seed=cells.seed)
    return _classifier_row(cells, covariate, role, "random_forest", plan, predict) | {"expected": expected}


def _classifier_row(
    cells: BeforeAndAfter,
    covariate: Covariate,
    role: str,
    name: str,
    plan: Plan,
    predict: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    said = [predict(codes) for codes in (cells.before, cells.after)]
    values = [plan.accuracy(predicted) for predicted in said]
    replicates = [plan.replicates(predicted, cells.blocks) for predicted in said]
    counted = {"n_cells": len(plan.reported), "n_classes": plan.n_classes, "flag": plan.problem}
    return _row(role, covariate.name, name, values, replicates) | counted


def _ilisi_row(cells: BeforeAndAfter, batch: Covariate, conserved: list[Covariate]) -> dict[str, Any]:
    values, replicates = [], []
    for codes in (cells.before, cells.after):
        hoods = _ilisi.find_neighborhoods(codes, batch.labels, _ilisi.N_NEIGHBORS, test=cells.test, seed=cells.seed)
        if codes is cells.before:
            within = np.nan if hoods.is_empty else hoods.permuted(batch.labels, cells.seed, _strata(conserved))
            expected = hoods.score(within, batch.labels, cells.seed)
        index = hoods.indices(batch.labels)
        sums = np.zeros((2, cells.blocks.n_blocks))
        if not hoods.is_empty:
            np.add.at(sums, (slice(None), cells.blocks.index[hoods.cells]), np.stack([index, np.ones(len(index))]))
        total, n = sums @ cells.blocks.weights.T
        values.append(hoods.score(index.mean(), batch.labels, cells.seed))
        replicates.append(hoods.score(np.where(n > 0, total / np.maximum(n, 1), np.nan), batch.labels, cells.seed))
    flag = "fewer than two batches" if hoods.is_empty else ""
    extra = {"expected": expected, "n_cells": len(hoods.cells), "n_classes": len(batch.classes), "flag": flag}
    return _row("batch", batch.name, "ilisi", values, replicates) | extra


def _row(
    role: str, covariate: str, classifier: str, values: list[float], replicates: list[np.ndarray]
) -> dict[str, Any]:
    """Values, and the ends of their intervals."""
    columns: dict[str, Any] = {"role": role, "covariate": covariate, "classifier": classifier}
    kept, kept_replicates = np.nan, np.full(len(replicates[0]), np.nan)
    if role == "conserved" and values[0] >= _LEAST_SKILL:
        kept = values[1] / values[0]
        base = replicates[0]
        kept_replicates = np.where(base > 0, replicates[1] / np.where(base > 0, base, 1.0), np.nan)
    for name, value, drawn in zip(_COLUMNS, (*values, kept), (*replicates, kept_replicates), strict=True):
        finite = drawn[np.isfinite(drawn)]
        low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
        columns |= {name: value, f"{name}_ci_low": low, f"{name}_ci_high": high}
    return columns


def _strata(covariates: list[Covariate]) -> np.ndarray:
    """Combination of conserved covariates of every cell; missing is a stratum of its own."""
    columns = []
    for covariate in covariates:
        if not covariate.is_numeric:
            columns.append(covariate.labels)
            continue
        edges = np.nanquantile(covariate.values, np.arange(1, _N_BINS) / _N_BINS)
        columns.append(np.where(covariate.present, np.searchsorted(edges, covariate.values, side="right"), -1))
    return np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _to_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    numbers = [f"{name}{end}" for name in _COLUMNS for end in ("", "_ci_low", "_ci_high")]
    frame[[*numbers, "expected"]] = frame[[*numbers, "expected"]].astype(np.float64)
    frame[["n_cells", "n_classes"]] = frame[["n_cells", "n_classes"]].astype(np.int64)
    return frame[["role", "covariate", "classifier", *numbers, "expected", "n_cells", "n_classes", "flag"]]
