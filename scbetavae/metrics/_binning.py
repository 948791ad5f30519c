r"""Bins and ranks along dimensions: tie-safe quantile bins (default) and equal-width bins (parity modes).

Quantile bins depend on ranks alone, so one outlier cell or a strictly monotone map of a dimension changes nothing.
A group of equal values goes as a whole to the bin of its mid-rank. The default number of bins is odd: then the
middle cell has a bin of its own and a flip of sign mirrors the bins exactly.
"""

import numpy as np
from scipy import stats

MINIMUM_BINS, MAXIMUM_BINS = 5, 19  # bounds of the default number of quantile bins, N^(1/3) in between
MAXIMUM_NUMERIC_CLASSES = 9
"""Quantile classes of a numeric covariate: fewer than bins, so that a little noise does not read as another class."""

REFINEMENT = 5
"""Fine bins in every coarse bin: one-dimension classifiers read the fine ones, mutual information the coarse."""


def default_bin_count(n_cells: int) -> int:
    """Smallest odd number not below n_cells^(1/3), from 5 to 19."""
    count = int(np.ceil(np.cbrt(max(n_cells, 1))))
    return int(np.clip(count + 1 - count % 2, MINIMUM_BINS, MAXIMUM_BINS))


def restrict_order(order: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Order of the kept cells along every dimension, renumbered, without sorting again."""
    if keep.all():
        return order
    renumber = np.cumsum(keep) - 1
    kept = np.empty((len(order), int(keep.sum())), dtype=np.int64)
    for dimension, row in enumerate(order):
        kept[dimension] = renumber[row[keep[row]]]
    return kept


def quantile_bins(
    values: np.ndarray, n_bins: int, *, refinement: int = 1, order: np.ndarray | None = None
) -> np.ndarray:
    """Bins in [0, n_bins * refinement) of ``values`` (n_dims, n_cells); at most ``n_bins`` distinct values keep a bin each."""
    n_dims, n_cells = values.shape
    order = np.argsort(values, axis=1) if order is None else order
    bins = np.empty((n_dims, n_cells), dtype=np.int64)
    without_ties = _bins_of_positions(2 * np.arange(n_cells), n_cells, n_bins * refinement)
    for dimension in range(n_dims):
        ranked = values[dimension, order[dimension]]
        is_new = np.ones(n_cells, dtype=bool)
        is_new[1:] = ranked[1:] != ranked[:-1]
        if is_new.all() and n_cells > n_bins:
            bins[dimension, order[dimension]] = without_ties
            continue
        starts = np.flatnonzero(is_new)
        if len(starts) <= n_bins:
            of_group = np.arange(len(starts)) * refinement
        else:
            ends = np.append(starts[1:], n_cells)
            of_group = _bins_of_positions(starts + ends - 1, n_cells, n_bins * refinement)
        bins[dimension, order[dimension]] = of_group[np.cumsum(is_new) - 1]
    return bins


def _bins_of_positions(twice_position: np.ndarray, n_cells: int, n_bins: int) -> np.ndarray:
    """Bin of a (mid-)rank, given twice the rank; a rank exactly on a cut goes to the bin nearer the middle."""
    scaled = n_bins * (twice_position + 1)
    index, remainder = np.divmod(scaled, max(2 * n_cells, 1))
    return index - ((remainder == 0) & (2 * index > n_bins))


def width_bins(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Equal-width bins between the smallest and the largest value of every dimension, (n_dims, n_cells)."""
    bins = np.zeros(values.shape, dtype=np.int64)
    for dimension, row in enumerate(values):
        if len(row) and row.max() > row.min():
            edges = np.linspace(row.min(), row.max(), n_bins + 1)
            bins[dimension] = np.searchsorted(edges[1:-1], row, side="right")
    return bins


def bin_covariate(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Classes of a numeric covariate, without gaps: its values if at most ``n_bins`` are distinct, else up to 9 quantile bins."""
    distinct, labels = np.unique(values, return_inverse=True)
    if len(distinct) > n_bins:
        index = quantile_bins(values[None, :], min(n_bins, MAXIMUM_NUMERIC_CLASSES))[0]
        labels = np.unique(index, return_inverse=True)[1]
    return labels.reshape(-1)


def rank_rows(values: np.ndarray) -> np.ndarray:
    """Mid-ranks along the last axis, centered and scaled to unit length (all 0 for a constant row)."""
    ranks = stats.rankdata(values, axis=1) - (values.shape[1] + 1) / 2
    length = np.sqrt((ranks**2).sum(axis=1, keepdims=True))
    return ranks / np.where(length > 0, length, 1.0)


def spearman_squared(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Squared Spearman correlation of every row with the target; NaN if the target is constant."""
    if len(target) < 2 or target.max() == target.min():
        return np.full(len(values), np.nan)
    return np.minimum((rank_rows(values) @ rank_rows(target[None])[0]) ** 2, 1.0)
