"""What a change of the embedding cost: batch and conserved covariates, before and after."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import finite_matrix
from scbetavae.metrics._checks import Covariate, check_column, check_factors, check_groups, check_mask, renumber
from scbetavae.metrics._held_out import accuracies, bootstrap_accuracy, make_plan
from scbetavae.metrics._resampling import Blocks, make_blocks
from scbetavae.metrics.integration import _classifiers

_LEAST_ACCURACY = 0.05  # below this a ratio of accuracies is meaningless
_N_BINS = 4  # quantile bins of a numeric conserved covariate, for iLISI within strata
_COLUMNS = ("before", "after", "kept")
_NUMBERS = [f"{name}{end}" for name in _COLUMNS for end in ("", "_ci_low", "_ci_high")]


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
    """Batch-removal report: accuracy for batch and conserved covariates in two embeddings of the same cells.

    Both are evaluated on the same cells, in the same folds and resamples, so that differences are of the embeddings.

    Parameters
    ----------
    before, after
        Embeddings of shape (n_cells, n_dims); the numbers of dimensions may differ.
    batch, conserved
        Batch of every cell; conserved covariates, one row per cell, categorical or numeric. A cell that lacks one of these is
        left out for that one alone.
    groups
        Donor of every cell: folds hold out whole donors, and the bootstrap draws donors.
    test
        Boolean mask of the cells that are reported on, for example those that took no part in choosing dimensions.
    n_bootstrap, seed
        Replicates behind the intervals, at least 0 (no intervals); seed of folds, draws, trees and bootstrap.

    Returns
    -------
    Tidy DataFrame, one row per covariate and classifier, batch first:

    ``role``, ``covariate``, ``classifier``
        ``"batch"`` or ``"conserved"``; name of the column; ``"knn"`` (:func:`knn_accuracy`), ``"random_forest"``
        (:func:`random_forest_accuracy`) or, for batch alone, ``"ilisi"`` (:func:`ilisi`).
    ``before``, ``after``, ``kept``
        Accuracy in both embeddings: 0 by chance, 1 if perfect. For iLISI 0 is separate and 1 is mixed. For conserved covariates
        ``after / before``; NaN where ``before`` is below 0.05.
    ``before_ci_low``, ``before_ci_high``, and so for ``after`` and ``kept``
        95% bootstrap intervals over held-out cells, or donors. That of ``kept`` is paired.
    ``expected``
        For batch, what is expected from composition: :func:`expected_accuracy`, and for iLISI its value in ``before`` for batches
        permuted within strata of the conserved covariates (numeric ones cut at quartiles).
    ``n_cells``, ``n_classes``, ``flag``
        Cells that are reported on, classes (0 for a numeric covariate), and what to know about the row.

    Raises
    ------
    ValueError
        If shapes do not agree, embeddings are not finite, or groups are missing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> batch, kind = rng.choice(["1", "2"], 400), rng.choice(["B", "T"], 400)
    >>> codes = rng.normal(size=(400, 2)) * 0.1 + np.stack([batch == "1", kind == "B"], axis=1)
    >>> report = evaluate_batch_removal(codes, codes * [0, 1], batch=batch, conserved=pd.DataFrame({"cell type": kind}))
    >>> report[["classifier", "before", "after"]].round(1).values.tolist()[2:4]
    [['ilisi', 0.0, 1.0], ['knn', 1.0, 1.0]]
    """
    first, second = finite_matrix(before, "before"), finite_matrix(after, "after")
    of_batch = check_column(batch, len(first), "batch", classes=True)
    covariates = check_factors(conserved, len(first))
    if len(second) != len(first):
        msg = f"`before` has {len(first)} cells and `after` {len(second)}. Pass embeddings of the same cells."
        raise ValueError(msg)
    members = check_groups(groups, len(first))
    mask = check_mask(test, len(first), "test", part=True)
    blocks = make_blocks(len(first), members, n_bootstrap, np.random.default_rng(seed))
    cells = BeforeAndAfter(first, second, members, mask, blocks, seed)
    expected = _classifiers.composition_accuracy(of_batch, covariates, members, mask, seed)
    rows = [
        classifier_row(cells, of_batch, "batch", expected),
        classifier_row(cells, of_batch, "batch", expected, "random_forest"),
        _ilisi_row(cells, of_batch, covariates),
    ]
    for covariate in covariates:
        rows += [classifier_row(cells, covariate, "conserved", np.nan, name) for name in ("knn", "random_forest")]
    frame = pd.DataFrame(rows)
    types = dict.fromkeys([*_NUMBERS, "expected"], np.float64) | dict.fromkeys(("n_cells", "n_classes"), np.int64)
    return frame.astype(types)[["role", "covariate", "classifier", *types, "flag"]]


def classifier_row(
    cells: BeforeAndAfter, covariate: Covariate, role: str, expected: float, name: str = "knn"
) -> dict[str, Any]:
    """The row of k-NN accuracy or of a random forest."""
    plan = make_plan(covariate, cells.groups, cells.test, cells.seed, _classifiers.LIMITS[name])
    predict = _classifiers.predict_by_neighbors if name == "knn" else _classifiers.predict_by_forest
    predicted = [predict(codes, plan, cells.seed) for codes in (cells.before, cells.after)]
    values = [float(accuracies(row[None], plan.reported)[0]) for row in predicted]
    replicates = [bootstrap_accuracy(row, plan.reported, cells.blocks) for row in predicted]
    target = plan.reported
    counted = {"n_cells": len(target.keep), "n_classes": target.n_classes, "flag": target.problem}
    return _row(role, covariate.name, name, values, replicates) | counted | {"expected": expected}


def _ilisi_row(cells: BeforeAndAfter, batch: Covariate, conserved: list[Covariate]) -> dict[str, Any]:
    strata, blocks = [], cells.blocks  # combinations of conserved covariates; missing is a stratum of its own
    for covariate in conserved:
        values = covariate.values
        if covariate.is_numeric:
            edges = np.nanquantile(values, np.arange(1, _N_BINS) / _N_BINS)
            values = np.where(covariate.present, np.searchsorted(edges, values, side="right"), -1)
        strata.append(values)
    hoods = [
        _classifiers.find_neighborhoods(codes, batch.values, test=cells.test, seed=cells.seed) for codes in cells[:2]
    ]
    scores, n_cells = [], len(hoods[0].cells)
    for near in hoods if hoods[0].neighbors.size else ():
        index, of_cell = near.indices(batch.values), blocks.index[near.cells]
        sums = (np.bincount(of_cell, weights=w, minlength=blocks.n_blocks) for w in (index, None))
        total, n = (blocks.weights @ of_block for of_block in sums)
        within = np.nan if scores else near.permuted(batch.values, cells.seed, renumber(np.stack(strata, axis=1)))
        means = np.r_[index.mean(), within, np.where(n > 0, total / np.maximum(n, 1), np.nan)]
        scores.append(near.rescaled(means, batch.values, cells.seed))
    flag = "" if scores else "fewer than two batches"
    scores = scores or [np.full(2 + len(blocks.weights), np.nan)] * 2
    extra = {"expected": scores[0][1], "n_cells": n_cells, "flag": flag, "n_classes": len(batch.classes)}
    return _row("batch", batch.name, "ilisi", [s[0] for s in scores], [s[2:] for s in scores]) | extra


def _row(
    role: str, covariate: str, classifier: str, values: list[float], replicates: list[np.ndarray]
) -> dict[str, Any]:
    """Values, and the ends of their percentile intervals."""
    columns: dict[str, Any] = {"role": role, "covariate": covariate, "classifier": classifier}
    kept, kept_replicates = np.nan, np.full(len(replicates[0]), np.nan)
    if role == "conserved" and values[0] >= _LEAST_ACCURACY:
        kept, base = values[1] / values[0], replicates[0]
        kept_replicates = np.where(base > 0, replicates[1] / np.where(base > 0, base, 1.0), np.nan)
    for name, value, drawn in zip(_COLUMNS, (*values, kept), (*replicates, kept_replicates), strict=True):
        finite = drawn[np.isfinite(drawn)]
        low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
        columns |= {name: value, f"{name}_ci_low": low, f"{name}_ci_high": high}
    return columns
