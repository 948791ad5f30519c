r"""Bins of the codes: tie-safe quantile bins (default) and equal-width bins (parity modes).

Quantile bins depend on ranks alone, so one outlier cell or a strictly monotone map of a code moves nothing.
A group of equal values goes as a whole to the bin of its mid-rank. The default number of bins is odd: then the
middle cell has a bin of its own and a flip of sign mirrors the bins exactly.
"""

from __future__ import annotations

import numpy as np

MINIMUM_BINS, MAXIMUM_BINS = 5, 19
"""Bounds of the default number of quantile bins, :math:`N^{1/3}` in between."""

MAXIMUM_NUMERIC_CLASSES = 9
"""Quantile classes of a numeric covariate: fewer than bins, so that a little noise does not read as another class."""

REFINEMENT = 5
"""Fine bins in every coarse bin: one-dimension classifiers read the fine ones, mutual information the coarse."""


def default_bin_count(n_cells: int) -> int:
    """Smallest odd number not below n_cells^(1/3), from 5 to 19."""
    count = int(np.ceil(np.cbrt(max(n_cells, 1))))
    return int(np.clip(count + 1 - count % 2, MINIMUM_BINS, MAXIMUM_BINS))


def sort_order(values: np.ndarray) -> np.ndarray:
    """Order of the cells along every dimension; ``values`` is (n_dims, n_cells)."""
    return np.argsort(values, axis=1)


def restrict_order(order: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Order of the kept cells, renumbered, without sorting again."""
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
    """Bin index of every cell along every dimension.

    Parameters
    ----------
    values
        Array (n_dims, n_cells).
    n_bins
        Number of coarse bins. A dimension with at most this many distinct values keeps its values as bins.
    refinement
        Fine bins per coarse bin; integer division of the result by it gives the coarse bins.
    order
        `sort_order` of ``values``, if at hand.

    Returns
    -------
    Integer array (n_dims, n_cells) in [0, n_bins * refinement).
    """
    n_dims, n_cells = values.shape
    order = sort_order(values) if order is None else order
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
        group = np.cumsum(is_new) - 1
        if len(starts) <= n_bins:
            of_group = np.arange(len(starts)) * refinement
        else:
            ends = np.append(starts[1:], n_cells)
            of_group = _bins_of_positions(starts + ends - 1, n_cells, n_bins * refinement)
        bins[dimension, order[dimension]] = of_group[group]
    return bins


def _bins_of_positions(twice_position: np.ndarray, n_cells: int, n_bins: int) -> np.ndarray:
    """Bin of a (mid-)rank, given twice the rank so that all arithmetic is in integers.

    A rank exactly on a cut goes to the bin nearer the middle, which makes the rule mirror-symmetric.
    """
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
    """Class of every cell of a numeric covariate, numbered without holes.

    Each distinct value is a class if there are at most ``n_bins``; otherwise at most nine quantile classes.
    """
    distinct, labels = np.unique(values, return_inverse=True)
    if len(distinct) > n_bins:
        index = quantile_bins(values[None, :], min(n_bins, MAXIMUM_NUMERIC_CLASSES))[0]
        labels = np.unique(index, return_inverse=True)[1]
    return labels.reshape(-1)
