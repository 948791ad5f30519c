"""Unsupervised disentanglement ranking: seeds should find the same dimensions."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_whole_number
from scbetavae.metrics._checks import check_matrix
from scbetavae.metrics.disentanglement._dimension_matching import ranks_of_models
from scbetavae.metrics.disentanglement._records import Score, register_score

register_score(Score("udr", "UDR", needs="seeds", reference="Duan2020"))

MINIMUM_SEEDS = 5


def udr_from_similarity(similarity: ArrayLike) -> float:
    r"""Agreement of two models from the similarity of their dimensions :cite:p:`Duan2020`.

    .. math:: \frac{1}{d_a + d_b} \left[\sum_b \frac{r_b^2}{\sum_a R_{ab}} + \sum_a \frac{r_a^2}{\sum_b R_{ab}}\right]

    with :math:`r` the largest entry of the column (row): 1 if every dimension has exactly one partner.

    Parameters
    ----------
    similarity
        Absolute similarity in [0, 1] of the informative dimensions of one model (rows) and the other (columns); negative or
        non-finite entries raise a ValueError.

    Returns
    -------
    A number in [0, 1]; 0 if nothing is similar, NaN if a model has no informative dimension.

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
