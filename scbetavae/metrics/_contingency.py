r"""Contingency tables of (dimension, bin, class), and what the scores read off them.

Tables have the shape (..., n_dims, n_bins, n_classes); the leading axis counts blocks of cells (donors, for the bootstrap) or
replicates (bootstrap samples, permutations), and every reader here works over it at once.
"""

from typing import NamedTuple

import numpy as np


class Tables(NamedTuple):
    """Counts, or sums of weights with the sums of squared weights, ``None`` for unweighted counts."""

    counts: np.ndarray
    squares: np.ndarray | None = None


def count_tables(
    bins: np.ndarray,
    labels: np.ndarray,
    n_bins: int,
    n_classes: int,
    *,
    blocks: np.ndarray | None = None,
    n_blocks: int = 1,
) -> np.ndarray:
    """Cells per (block, dimension, bin, class), from bins (n_dims, n_cells); all cells are one block without ``blocks``."""
    offset = labels if blocks is None else blocks * (n_bins * n_classes) + labels
    tables = np.empty((n_blocks, len(bins), n_bins, n_classes))
    for dimension, of_cell in enumerate(bins):
        counted = np.bincount(of_cell * n_classes + offset, minlength=n_blocks * n_bins * n_classes)
        tables[:, dimension] = counted.reshape(n_blocks, n_bins, n_classes)
    return tables


def coarsen(tables: np.ndarray, refinement: int) -> np.ndarray:
    """Merge every ``refinement`` neighboring bins."""
    *lead, n_bins, n_classes = tables.shape
    return tables.reshape(*lead, n_bins // refinement, refinement, n_classes).sum(axis=-2)


def x_log_x(counts: np.ndarray) -> np.ndarray:
    """``x * log(x)``, 0 at 0."""
    return counts * np.log(np.maximum(counts, np.finfo(np.float64).tiny))


def entropy(counts: np.ndarray) -> np.ndarray:
    """Plug-in entropy in nats over the last axis; NaN where there is no count."""
    total = counts.sum(axis=-1)
    safe = np.where(total > 0, total, 1.0)
    return np.where(total > 0, np.log(safe) - x_log_x(counts).sum(axis=-1) / safe, np.nan)


def class_entropy(tables: Tables) -> np.ndarray:
    """Plug-in entropy of the covariate, nats, shape (...,)."""
    return entropy(tables.counts[..., 0, :, :].sum(axis=-2))


def mutual_information(tables: Tables, *, correct: bool) -> np.ndarray:
    """Mutual information of every dimension with the covariate, nats, shape (..., n_dims); NaN where there are no counts."""
    information = plug_in_information(tables.counts)
    return remove_bias(information, tables) if correct else information


def plug_in_information(counts: np.ndarray) -> np.ndarray:
    """Mutual information of the empirical distribution, shape (..., n_dims)."""
    total = counts.sum(axis=(-1, -2))
    safe = np.where(total > 0, total, 1.0)
    by_bin, by_class = counts.sum(axis=-1), counts.sum(axis=-2)
    joint = x_log_x(counts).sum(axis=(-1, -2))
    information = (joint - x_log_x(by_bin).sum(axis=-1) - x_log_x(by_class).sum(axis=-1) + x_log_x(total)) / safe
    return np.where(total > 0, np.maximum(information, 0.0), np.nan)


def remove_bias(information: np.ndarray, tables: Tables) -> np.ndarray:
    r"""Less the Miller-Madow bias :math:`(m_{xy} - m_x - m_y + 1)/2N`, if positive, with :math:`m` the occupied cells."""

    # With weights, an occupied cell contributes (sum of squared weights) / (sum of weights) instead of 1. Unrelated columns may
    # come a little below 0. This is cut where a user sees it, and not before: noise would tie at 0, and p-values with it.
    def occupied(*axes: int) -> np.ndarray:
        counts = tables.counts.sum(axis=axes)
        return counts > 0 if tables.squares is None else _ratio(tables.squares.sum(axis=axes), counts)

    total = tables.counts.sum(axis=(-1, -2))
    bias = occupied().sum(axis=(-1, -2)) - occupied(-1).sum(axis=-1) - occupied(-2).sum(axis=-1) + occupied(-1, -2)
    return information - np.maximum(bias / (2 * np.where(total > 0, total, 1.0)), 0.0)


def against_rest(counts: np.ndarray) -> np.ndarray:
    """Tables (..., n_dims, n_classes, 2, n_bins) of each class and the rest."""
    of_class = np.ascontiguousarray(counts.swapaxes(-1, -2))
    rest = np.maximum(of_class.sum(axis=-2, keepdims=True) - of_class, 0.0)
    return np.stack([of_class, rest], axis=-2)


def class_information(tables: Tables, *, correct: bool) -> np.ndarray:
    """``I(bin; 1[y = c]) / H(1[y = c])``, (..., n_dims, n_classes); NaN for a class of one cell, or of all."""
    squares = None if tables.squares is None else against_rest(tables.squares)
    pairs = Tables(against_rest(tables.counts), squares)
    sizes = pairs.counts.sum(axis=-1)
    effective = sizes[..., 0] if squares is None else _ratio(sizes[..., 0] ** 2, squares.sum(axis=-1)[..., 0])
    defined = (effective > 1.5) & (sizes[..., 1] > 1e-9 * sizes.sum(axis=-1))
    scaled = mutual_information(pairs, correct=correct) / np.where(defined, entropy(sizes), 1.0)
    return np.where(defined, np.minimum(scaled, 1.0), np.nan)


def one_dimension_accuracy(tables: np.ndarray) -> np.ndarray:
    r"""Chance-corrected accuracy (..., n_dims) of naming class c in bin b with probability :math:`p(b|c) / \sum_l p(b|l)`."""
    # Naming the likeliest class instead makes the accuracy of noise, and the gap of the best two dimensions, vary ten times as
    # much. Each cell is left out of the table that classifies it: all cells of a (bin, class) have the same answer.
    size = tables.sum(axis=-2, keepdims=True)
    usable = size >= 2
    n_classes = usable.sum(axis=-1)[..., 0]
    share = np.where(usable, tables / np.where(usable, size, 1.0), 0.0)
    # The share of the cell's own class once it is left out; entries without cells are multiplied by 0 below.
    own = np.maximum(tables - 1, 0.0) / np.where(usable, size - 1, 1.0)
    whole = share.sum(axis=-1, keepdims=True) - share + own
    # In a bin that the left-out cell leaves empty nothing is known but the number of classes.
    guess = np.broadcast_to(1.0 / np.maximum(n_classes, 1)[..., None, None], own.shape).copy()
    posterior = np.divide(own, whole, out=guess, where=whole > 1e-12)
    recall = (share * posterior).sum(axis=-2)
    accuracy = recall.sum(axis=-1) / np.maximum(n_classes, 1)
    chance = 1.0 / np.maximum(n_classes, 2)
    return np.where(n_classes >= 2, (accuracy - chance) / (1 - chance), np.nan)


def overlap_weights(joint: np.ndarray) -> np.ndarray:
    r"""Weights :math:`p(a)p(b)/p(a,b)` of (class a, stratum b) that make them independent, mean 1 over cells; 0 without cells."""
    total = joint.sum(axis=(-1, -2), keepdims=True)
    expected = joint.sum(axis=-1, keepdims=True) * joint.sum(axis=-2, keepdims=True)
    weights = _ratio(expected, joint * total)
    mean = _ratio((weights * joint).sum(axis=(-1, -2), keepdims=True), total)
    return _ratio(weights, np.broadcast_to(mean, weights.shape))


def weighted_tables(tables: np.ndarray, n_strata: int) -> Tables:
    """Weight tables of (class, stratum) pairs, the stratum running fastest, by `overlap_weights` and sum the strata out."""
    split = tables.reshape(*tables.shape[:-1], -1, n_strata)
    weights = overlap_weights(split[..., 0, :, :, :].sum(axis=-3))[..., None, None, :, :]
    weighted = split * weights
    return Tables(weighted.sum(axis=-1), (weighted * weights).sum(axis=-1))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise ratio, 0 where the denominator is 0 (or rounding below it)."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    positive = denominator > 1e-12
    return np.divide(numerator, denominator, out=np.zeros(denominator.shape), where=positive)
