r"""How close predicted cells come to real ones, relative to no change.

A profile is the mean over cells of the logarithm of normalized counts,

.. math:: m_g = \frac{1}{n} \sum_i \log\Big(1 + 10^4 \, \frac{x_{ig}}{\sum_h x_{ih}}\Big)

and with the profiles of the predicted cells, of the real source and of the real target cells, the relative error is

.. math:: \frac{\sum_g (m^\text{predicted}_g - m^\text{target}_g)^2}{\sum_g (m^\text{source}_g - m^\text{target}_g)^2}

The logarithm is not linear: noisy counts have a lower profile than their expectation. Compare counts with counts, never counts
with the smooth expectation of a decoder.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from scbetavae._core.checks import check_whole_number

COUNTS_PER_CELL = 1e4  # total to which counts are scaled before the logarithm


def log_profile(counts: Any) -> np.ndarray:
    """Mean over cells of log(1 + counts per 10 000), natural logarithm, of shape (n_genes,).

    ``counts`` has shape (n_cells, n_genes), an array or sparse matrix. A cell without counts adds zeros. No cell, and values that
    are negative or not finite, raise a ValueError.

    Examples
    --------
    >>> log_profile(np.array([[1, 9], [0, 5]])).round(2).tolist()
    [3.45, 9.16]
    """
    return np.asarray(_log_normalize(counts).mean(axis=0)).ravel()


def _log_normalize(counts: Any) -> Any:
    """log(1 + counts per 10 000) of every cell, checked."""
    matrix: Any = sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    if matrix.shape[0] == 0:
        msg = "`counts` has no cells, so it has no mean. Pass at least one cell."
        raise ValueError(msg)
    if matrix.nnz and (not np.isfinite(matrix.data).all() or matrix.data.min() < 0):
        msg = "`counts` holds values that are negative or not finite. Pass counts, or expected counts, of at least 0."
        raise ValueError(msg)
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    scale = np.divide(COUNTS_PER_CELL, totals, out=np.zeros_like(totals), where=totals > 0)
    matrix.data = np.log1p(matrix.data * np.repeat(scale, np.diff(matrix.indptr)))
    return matrix


def relative_error(predicted: ArrayLike, source: ArrayLike, target: ArrayLike) -> float:
    """Squared distance of prediction and target over that of source and target :cite:p:`Lotfollahi2019`.

    0 for a perfect prediction, 1 for no change, more for what is worse than no change, NaN if source and target are equal.
    Profiles have shape (n_genes,); different shapes, or values that are not finite, raise a ValueError.

    Examples
    --------
    >>> relative_error([1.0, 2.0], source=[0.0, 0.0], target=[2.0, 4.0])
    0.25
    """
    of_predicted, of_source, of_target = _profiles(predicted, source, target)
    scale = ((of_source - of_target) ** 2).sum()
    return float(((of_predicted - of_target) ** 2).sum() / scale) if scale > 0 else float("nan")


def squared_correlation(predicted: ArrayLike, target: ArrayLike) -> float:
    """Squared Pearson correlation of two profiles over genes, the R2 of the literature on counterfactuals.

    It is optimistic: genes differ far more from each other than a gene between conditions, so that the source itself correlates
    with the target. It also ignores a constant factor. In [0, 1]; NaN if a profile is constant. Profiles are as in
    :func:`relative_error`.

    Examples
    --------
    >>> round(squared_correlation([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]), 6)
    1.0
    """
    first, second = (profile - profile.mean() for profile in _profiles(predicted, target))
    scale = (first**2).sum() * (second**2).sum()
    return float(min((first @ second) ** 2 / scale, 1.0)) if scale > 0 else float("nan")


def differential_genes(source: ArrayLike, target: ArrayLike, n_top: int = 50) -> np.ndarray:
    """Positions of the ``n_top`` genes (at least 1; all if there are fewer) whose profiles differ most.

    The largest absolute difference comes first; among equals the first gene. Profiles are as in :func:`relative_error`.

    Examples
    --------
    >>> differential_genes([0.0, 0.0, 0.0], [1.0, -3.0, 2.0], n_top=2).tolist()
    [1, 2]
    """
    check_whole_number(n_top, "n_top", 1)
    source, target = _profiles(source, target)
    return np.argsort(-np.abs(target - source), kind="stable")[:n_top]


def split_half_error(
    source: ArrayLike, target_counts: Any, *, genes: ArrayLike | None = None, n_splits: int = 20, seed: int = 0
) -> tuple[float, float]:
    """Relative error and squared correlation of half of the target cells, predicted by the other half, means over random splits.

    This is the error from sampling the target cells alone. A prediction is compared with all target cells, whose profile is less
    noisy than that of a half, so one that is less noisy than real cells can come below it.

    Parameters
    ----------
    source, target_counts
        Profile of the source cells, of shape (n_genes,); counts of the target cells as in :func:`log_profile`. With fewer than
        two target cells both results are NaN.
    genes
        Positions of the genes to compare; all unless given.
    n_splits, seed
        Random splits to average over, at least 1; their seed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> few, many = (rng.poisson([[1, 2, 20, 9]] * n) for n in (10, 1000))
    >>> source = log_profile(rng.poisson([[9, 2, 20, 1]] * 100))
    >>> split_half_error(source, many)[0] < split_half_error(source, few)[0]
    True
    """
    check_whole_number(n_splits, "n_splits", 1)
    logs = _log_normalize(target_counts)
    chosen = slice(None) if genes is None else np.asarray(genes)
    source, _ = _profiles(source, np.asarray(logs.mean(axis=0)).ravel())
    n_cells = logs.shape[0]
    if n_cells < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    half = n_cells // 2
    choose = np.zeros((n_splits, n_cells))
    for row in choose:
        row[rng.permutation(n_cells)[:half]] = 1.0
    first = (choose @ logs) / half
    second = ((1 - choose) @ logs) / (n_cells - half)
    pairs = [(a[chosen], b[chosen]) for a, b in zip(first, second, strict=True)]
    errors = [relative_error(a, source[chosen], b) for a, b in pairs]
    return float(np.mean(errors)), float(np.mean([squared_correlation(a, b) for a, b in pairs]))


def _profiles(*profiles: ArrayLike) -> list[np.ndarray]:
    arrays = [np.asarray(profile, dtype=np.float64) for profile in profiles]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 1 or not all(np.isfinite(array).all() for array in arrays):
        got = f"Profiles have shapes {[array.shape for array in arrays]}, or hold NaN or infinite values"
        msg = f"{got}. Pass finite arrays of one shape (n_genes,), as log_profile makes them."
        raise ValueError(msg)
    return arrays
