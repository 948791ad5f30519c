"""Models that differ in their seed: which dimension of one is which of another, and how well they agree (UDR)."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from scbetavae._core.checks import check_whole_number, finite_matrix
from scbetavae.metrics._binning import rank_rows
from scbetavae.metrics._checks import check_matrix, resolve_active
from scbetavae.metrics.disentanglement._records import Score, register_score


class DimensionMatches(NamedTuple):
    """Dimensions of several models, matched to those of one of them."""

    reference: int
    """Position of the model whose active dimensions, in their order, the others are matched to."""
    dimensions: np.ndarray
    """Dimension of each model (rows) that matches each of the reference (columns); -1 where it has none left."""
    signs: np.ndarray
    """1 or -1, so that multiplication orients the dimension as in the reference; 0 where there is no match."""
    agreement: np.ndarray
    """Mean absolute Spearman correlation with the matches in the other models, (models, dims), in [0, 1]; NaN without a match."""


def match_dimensions(
    codes_per_seed: Sequence[ArrayLike], *, active: Sequence[ArrayLike] | None = None
) -> DimensionMatches:
    r"""Match the active dimensions of models of the same cells, one to one.

    The reference :math:`r` is the model that the others resemble most, and :math:`\pi_b` the assignment of the dimensions of
    model :math:`b` to its own, with :math:`\rho` the Spearman correlation over cells:

    .. math:: \pi_b = \arg\max_\pi \sum_d |\rho(z^r_d, z^b_{\pi(d)})|, \qquad
              r = \arg\max_a \sum_{b \ne a} \max_\pi \sum_d |\rho(z^a_d, z^b_{\pi(d)})|

    A model with fewer active dimensions than the reference lacks some of them; dimensions only other models have are left out.

    Parameters
    ----------
    codes_per_seed
        Posterior means of the same cells, at least two, in the same order, one array of shape (n_cells, n_dims) per model. Fewer
        than two models, or other cells, raise a ValueError.
    active
        One boolean mask per model, by default :func:`active_dimensions` of each.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(size=(500, 3))
    >>> matches = match_dimensions([z, -z[:, [2, 0, 1]]])
    >>> matches.dimensions.tolist(), matches.signs.tolist()
    ([[0, 1, 2], [1, 2, 0]], [[1, 1, 1], [-1, -1, -1]])
    """
    ranks, columns = ranks_of_models(codes_per_seed, active)
    alike = np.zeros((len(ranks), len(ranks)))
    for a, b in combinations(range(len(ranks)), 2):
        alike[a, b] = alike[b, a] = np.abs(_assign(ranks[a], ranks[b])[1]).sum()
    totals = alike.sum(axis=1).round(9)  # rounded, so that equals are equal; the first of them is taken
    reference = max(range(len(ranks)), key=lambda model: (totals[model], len(ranks[model])))
    positions, signs = (np.zeros((len(ranks), len(ranks[reference])), dtype=np.int64) for _ in range(2))
    for model, own in enumerate(ranks):
        positions[model], correlation = _assign(ranks[reference], own)
        signs[model] = np.where(positions[model] < 0, 0, np.where(correlation < 0, -1, 1))
    dimensions = np.full_like(positions, -1)
    for kept, found, into in zip(columns, positions, dimensions, strict=True):
        into[found >= 0] = kept[found[found >= 0]]
    return DimensionMatches(reference, dimensions, signs, _agreement(ranks, positions))


def ranks_of_models(
    codes_per_seed: Sequence[ArrayLike], active: Sequence[ArrayLike] | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scaled ranks of the active dimensions of each model, (n_active, n_cells), and their numbers."""
    arrays = [finite_matrix(codes, "codes") for codes in codes_per_seed]
    sizes = sorted({len(array) for array in arrays})
    masks = [None] * len(arrays) if active is None else list(active)
    if len(arrays) < 2 or len(sizes) > 1 or sizes[0] < 2 or len(masks) != len(arrays):
        got = f"{len(arrays)} models of {sizes} cells with {len(masks)} masks"
        msg = (
            f"Got {got}. Pass at least two models of the same cells, two cells or more, and one mask per model or none."
        )
        raise ValueError(msg)
    columns = [np.flatnonzero(resolve_active(array, mask)) for array, mask in zip(arrays, masks, strict=True)]
    return [rank_rows(array[:, kept].T) for array, kept in zip(arrays, columns, strict=True)], columns


def _assign(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row of ``second`` for each row of ``first``, -1 for none, and their correlation, 0 for none."""
    correlation = first @ second.T
    rows, columns = linear_sum_assignment(-np.abs(correlation))
    position, value = np.full(len(first), -1, dtype=np.int64), np.zeros(len(first))
    position[rows], value[rows] = columns, correlation[rows, columns]
    return position, value


def _agreement(ranks: list[np.ndarray], positions: np.ndarray) -> np.ndarray:
    """Mean absolute correlation of every match with its counterparts, (models, dims)."""
    total, pairs = np.zeros(positions.shape), np.zeros(positions.shape)
    for a, b in combinations(range(len(ranks)), 2):
        both = (positions[a] >= 0) & (positions[b] >= 0)
        products = ranks[a][positions[a][both]] * ranks[b][positions[b][both]]
        total[np.ix_([a, b], both)] += np.minimum(np.abs(products.sum(axis=1)), 1.0)
        pairs[np.ix_([a, b], both)] += 1
    return np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)


register_score(Score("udr", "UDR", needs="seeds", reference="Duan2020"))

MINIMUM_SEEDS = 5


def udr_from_similarity(similarity: ArrayLike) -> float:
    r"""Agreement of two models from the similarity of their dimensions :cite:p:`Duan2020`.

    .. math:: \frac{1}{d_a + d_b} \left[\sum_b \frac{r_b^2}{\sum_a R_{ab}} + \sum_a \frac{r_a^2}{\sum_b R_{ab}}\right]

    with :math:`r` the largest entry of the column (row): 1 if every dimension has exactly one partner, 0 if nothing is similar,
    NaN if a model has no informative dimension. ``similarity`` is absolute, in [0, 1], of the informative dimensions of one model
    (rows) and the other (columns); negative or non-finite entries raise a ValueError.

    Examples
    --------
    >>> udr_from_similarity(np.eye(3))
    1.0
    """
    matrix = check_matrix(similarity, "similarity")
    if 0 in matrix.shape:
        return float("nan")
    total = 0.0
    for axis in (0, 1):
        best, sums = matrix.max(axis=axis), matrix.sum(axis=axis)
        total += float((best**2 / np.where(sums > 0, sums, 1.0)).sum())
    return total / sum(matrix.shape)


def udr(
    codes_per_seed: Sequence[ArrayLike],
    *,
    active: Sequence[ArrayLike] | None = None,
    minimum_seeds: int = MINIMUM_SEEDS,
) -> pd.Series:
    """Unsupervised disentanglement ranking, which needs no labels :cite:p:`Duan2020`.

    Models that differ only in their seed should find the same dimensions, up to order and sign. The similarity of two dimensions
    is their absolute Spearman correlation over cells, among active dimensions only. The score of a model is the median over
    the other models of `udr_from_similarity`, one value in [0, 1] per seed; NaN for a model without active dimensions.

    ``codes_per_seed`` and ``active`` are as in :func:`match_dimensions`, one per seed, and so are errors. Fewer than
    ``minimum_seeds`` raise a ValueError: the median over few pairs says little.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(size=(2000, 3))
    >>> bool(udr([z, -z, z[:, ::-1], 2 * z, z + 1]).min() > 0.9)
    True
    """
    check_whole_number(minimum_seeds, "minimum_seeds", 2)
    if len(codes_per_seed) < minimum_seeds:
        msg = f"UDR got {len(codes_per_seed)} seeds and needs at least {minimum_seeds}. Train more, or lower `minimum_seeds`."
        raise ValueError(msg)
    ranks, _ = ranks_of_models(codes_per_seed, active)
    pairwise = np.full((len(ranks), len(ranks)), np.nan)
    for a, b in combinations(range(len(ranks)), 2):
        pairwise[a, b] = pairwise[b, a] = udr_from_similarity(np.minimum(np.abs(ranks[a] @ ranks[b].T), 1.0))
    medians = [float(np.median(row[~np.isnan(row)])) if (~np.isnan(row)).any() else float("nan") for row in pairwise]
    return pd.Series(medians, index=pd.RangeIndex(len(medians), name="seed"), name="udr")
