"""How many batches there are, effectively, among the neighbors of a cell (iLISI); how well clusters agree with labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_whole_number, finite_matrix
from scbetavae.metrics._checks import check_column
from scbetavae.metrics.integration._classifiers import MAXIMUM_NEIGHBOR_QUERIES, MAXIMUM_NEIGHBOR_REFERENCES

N_NEIGHBORS = 30
_N_PERMUTATIONS = 10


def ilisi(codes: ArrayLike, batch: ArrayLike | pd.Series, *, n_neighbors: int = N_NEIGHBORS, seed: int = 0) -> float:
    r"""Integration local inverse Simpson index, on a scale from separate to mixed :cite:p:`Korsunsky2019`.

    The effective number of batches among the nearest other cells of cell :math:`i` is
    :math:`L_i = 1 / \sum_b p_{ib}^2`, with :math:`p_{ib}` the share of batch :math:`b` among them. The score compares its
    mean with what it is for permuted batches,

    .. math:: \frac{\bar L - 1}{\bar L_\text{permuted} - 1},

    clipped to [0, 1]: 0 if every neighborhood has one batch, 1 if neighborhoods look like random cells, also small ones and with
    batches of unequal size. NaN with fewer than two batches or three cells. Neighbors count alike: 30 of them, the perplexity of
    the Gaussian weights in the original.

    Parameters
    ----------
    codes, batch
        Embedding of shape (n_cells, n_dims), finite, otherwise a ValueError is raised; batch of every cell. Cells without one are
        left out.
    n_neighbors, seed
        Neighbors of a cell, at least 2; seed of the permutations, and of the draw as in :func:`knn_accuracy`.

    Examples
    --------
    >>> batch = np.repeat(["plate 1", "plate 2"], 200)
    >>> codes = np.random.default_rng(0).normal(size=(400, 2))
    >>> round(ilisi(codes, batch), 1), ilisi(codes + 20 * (batch == "plate 1")[:, None], batch)
    (1.0, 0.0)
    """
    array = finite_matrix(codes, "codes")
    labels = check_column(batch, len(array), "batch").as_classes().values
    check_whole_number(n_neighbors, "n_neighbors", 2)
    hoods = find_neighborhoods(array, labels, n_neighbors, seed=seed)
    return float(hoods.score(hoods.indices(labels).mean(), labels, seed))


@dataclass(frozen=True)
class Neighborhoods:
    """Nearest other cells of some cells."""

    cells: np.ndarray  # cells whose neighbors were looked for, (n_queries,)
    neighbors: np.ndarray  # (n_queries, n_neighbors)
    taken: np.ndarray  # cells among which they were looked for

    @property
    def is_empty(self) -> bool:
        return self.neighbors.size == 0

    def indices(self, labels: np.ndarray) -> np.ndarray:
        """Inverse Simpson index of each neighborhood, (n_queries,)."""
        if self.is_empty:
            return np.full(max(len(self.cells), 1), np.nan)
        near = labels[self.neighbors]
        squares = sum(((near == label).mean(axis=1) ** 2 for label in range(labels.max() + 1)), np.zeros(len(near)))
        return 1 / squares

    def permuted(self, labels: np.ndarray, seed: int, strata: np.ndarray | None = None) -> float:
        """Mean index for labels permuted over the cells, or within strata of them."""
        rng = np.random.default_rng(seed)
        groups = [self.taken]
        if strata is not None:
            groups = [self.taken[strata[self.taken] == stratum] for stratum in np.unique(strata[self.taken])]
        means, drawn = [], labels.copy()
        for _ in range(_N_PERMUTATIONS):
            for group in groups:
                drawn[group] = rng.permutation(labels[group])
            means.append(self.indices(drawn).mean())
        return float(np.mean(means))

    def score(self, mean: Any, labels: np.ndarray, seed: int) -> np.ndarray:
        """Mean index, or several, on the scale from separate (0) to mixed (1)."""
        null = self.permuted(labels, seed) if not self.is_empty else np.nan
        return np.clip((np.asarray(mean) - 1) / (null - 1 if null > 1 else np.nan), 0.0, 1.0)


def find_neighborhoods(
    codes: np.ndarray, labels: np.ndarray, n_neighbors: int, *, test: np.ndarray | None = None, seed: int = 0
) -> Neighborhoods:
    """Neighbors of the labeled cells (of those in `test`, if given) among all labeled cells."""
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(seed)
    # In random order, so that equally near cells are taken at random.
    taken = rng.permutation(np.flatnonzero(labels >= 0))[:MAXIMUM_NEIGHBOR_REFERENCES]
    cells = taken if test is None else taken[test[taken]]
    cells = cells[:MAXIMUM_NEIGHBOR_QUERIES]
    k = min(n_neighbors, len(taken) - 1)
    if k < 2 or not len(cells) or len(np.unique(labels[taken])) < 2:
        return Neighborhoods(cells, np.zeros((len(cells), 0), dtype=np.int64), taken)
    centered = codes - codes.mean(axis=0)  # distances come from inner products, which lose digits far from the origin
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(centered[taken])
    found = taken[search.kneighbors(centered[cells], return_distance=False)]
    # Without the cell itself, which need not be the first among duplicates, nor be there at all.
    others = np.argsort(found == cells[:, None], axis=1, kind="stable")[:, :k]
    return Neighborhoods(cells, np.take_along_axis(found, others, axis=1), taken)


_STARTS: Any = 10


def kmeans_ari(codes: ArrayLike, labels: ArrayLike | pd.Series, *, seed: int = 0) -> float:
    r"""Adjusted Rand index of k-means clusters and labels :cite:p:`HubertArabie1985`.

    As many clusters as there are classes, found without the labels from ten starts (``seed``). With :math:`n_{ij}` the cells of
    class :math:`i` in cluster :math:`j`, :math:`a_i` and :math:`b_j` its margins and :math:`n` the cells,

    .. math:: \frac{\sum_{ij} \binom{n_{ij}}{2} - E}{\frac{1}{2}\left[\sum_i \binom{a_i}{2} + \sum_j \binom{b_j}{2}\right] - E},
        \qquad E = \sum_i \binom{a_i}{2} \sum_j \binom{b_j}{2} \Big/ \binom{n}{2}.

    ``codes`` has shape (n_cells, n_dims), dimensions as they are; other numbers of ``labels`` raise a ValueError. Numbers are
    names of classes, and cells without a label are left out. Returns 1 if clusters and classes are the same, 0 in the mean over
    random partitions, at least -0.5; NaN with fewer than two classes.

    Examples
    --------
    >>> labels = np.repeat(["B cell", "T cell"], 50)
    >>> kmeans_ari(np.random.default_rng(0).normal(size=(100, 2)) + 20 * (labels == "B cell")[:, None], labels)
    1.0
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    array = finite_matrix(codes, "codes")
    covariate = check_column(np.asarray(labels, dtype=object), len(array), "labels").as_classes()
    labeled = covariate.present
    truth = covariate.values[labeled]
    n_classes = len(np.unique(truth))
    if n_classes < 2:
        return float("nan")
    # An embedding that takes fewer values than there are classes has no more clusters than values.
    n_clusters = min(n_classes, len(np.unique(array[labeled], axis=0)))
    clusters = KMeans(n_clusters, n_init=_STARTS, random_state=seed).fit_predict(array[labeled])
    return float(adjusted_rand_score(truth, clusters))
