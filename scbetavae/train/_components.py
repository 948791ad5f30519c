r"""Independent components of log-normalized counts, to which the posterior means are anchored.

A component is linear in :math:`\ln(1 + 10^4 x / \ell)`: one weight per gene and one offset per group of cells. All random
numbers have a seed of their own: the same cells give the same components.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple, cast

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

SparseRows = Any  # scipy.sparse.csr_matrix, of whose shape type checkers know nothing

SCALE = 1e4  # counts to which a cell is scaled before the logarithm

_HORN_CELLS = 3000
_MOST_COMPONENTS = 50
_ITERATIONS = 50  # FastICA never stops turning Gaussian components; the others have converged by then
_RESTARTS, _RESTART_CELLS = 20, 5000
_CELLS_PER_PAIR = 5  # k components have k^2 parameters: with fewer cells, factors are split over components
_BOOTSTRAPS = 10
_BOOTSTRAP_CELLS = 5000


class Components(NamedTuple):
    """Independent components as a linear map.

    ``weights`` (n_genes, n_components), ``offsets`` (n_groups, n_components), and ``stability`` (n_components,): how well the
    components of resampled cells agree with these, in [0, 1].
    """

    weights: np.ndarray
    offsets: np.ndarray
    stability: np.ndarray

    def of(self, logs: SparseRows, groups: np.ndarray) -> np.ndarray:
        """Values of cells, array of shape ``(n_cells, n_components)``."""
        return logs @ self.weights + self.offsets[groups]


def log_normalize(counts: SparseRows) -> SparseRows:
    """Log-normalized counts (n_cells, n_genes), as ``sc.pp.normalize_total`` and ``log1p`` but in double precision."""
    counts = sparse.csr_matrix(counts)
    library = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    share = SCALE / np.maximum(library, np.finfo(float).tiny)
    logs = np.repeat(share, np.diff(counts.indptr))
    logs *= counts.data
    return sparse.csr_matrix((np.log1p(logs, out=logs), counts.indices, counts.indptr), counts.shape)


def independent_components(
    logs: SparseRows, groups: np.ndarray, most: int, *, n_components: int | None = None, seed: int = 0
) -> Components:
    """Independent components of the leading principal components, without a dense copy of the cells.

    The rotation is that of FastICA, the mean of several restarts; components are ordered by the variance
    that they explain and signed so that their third moment is positive. ``logs`` are log-normalized counts, sparse rows
    (n_cells, n_genes), centered within ``groups`` (n_cells,), numbered from 0. There are at most ``most`` components, by default
    as many as :func:`parallel_analysis` finds; fewer where the rank is lower, none where cells do not differ.
    """
    n_groups = int(groups.max(initial=0)) + 1
    most = min(most, logs.shape[0] - n_groups, logs.shape[1])
    k = parallel_analysis(logs, groups, most, seed) if n_components is None else min(n_components, most)
    means = group_means(logs, groups, n_groups)
    left, axes = _whitened(logs, groups, means, k, seed)
    if left.shape[1] == 0:
        return Components(np.zeros((logs.shape[1], 0)), np.zeros((n_groups, 0)), np.zeros(0))
    rotation = _consensus_rotation(left, seed)
    values = left @ rotation
    # The mixing column of a component is how the logarithms move with it: its norm is what it explains.
    mixing = (logs.T @ values - means.T @ _sums(values, groups, n_groups)) / len(values)
    order = np.argsort(-np.square(mixing).sum(axis=0), kind="stable")
    rotation = rotation[:, order] * np.where(np.mean(values[:, order] ** 3, axis=0) < 0, -1.0, 1.0)
    weights = axes @ rotation
    return Components(weights, -means @ weights, _stability(logs, groups, means, left @ rotation, seed))


def parallel_analysis(logs: SparseRows, groups: np.ndarray, most: int, seed: int = 0) -> int:
    """Number of leading principal components that exceed chance, at least 2 where there are as many.

    Rank by rank, the variance is compared with that of the same rank after every gene was permuted over the cells of each group
    :cite:p:`Horn1965`.

    At most ``most``, 50, and the square root of a fifth of the cells. Arguments as for :func:`independent_components`.
    """
    most = min(most, _MOST_COMPONENTS, max(2, math.isqrt(logs.shape[0] // _CELLS_PER_PAIR)))
    if most <= 2:
        return max(most, 0)
    rng = np.random.default_rng(seed)
    if logs.shape[0] > _HORN_CELLS:
        kept = np.sort(rng.choice(logs.shape[0], _HORN_CELLS, replace=False))
        logs, groups = logs[kept], groups[kept]
    n_groups = int(groups.max(initial=0)) + 1
    permuted = _permute_genes(logs, groups, rng)
    observed, chance = (
        _decompose(matrix, groups, group_means(matrix, groups, n_groups), most, seed)[1] for matrix in (logs, permuted)
    )
    exceeds = observed > chance
    leading = len(exceeds) if exceeds.all() else int(np.argmin(exceeds))
    return min(max(leading, 2), most)


def group_means(logs: SparseRows, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Mean of each gene in each group, array of shape ``(n_groups, n_genes)``; 0 for a group without cells."""
    members: SparseRows = sparse.csr_matrix(
        (np.ones(len(groups)), (groups, np.arange(len(groups)))), (n_groups, len(groups))
    )
    return (members @ logs).toarray() / np.maximum(np.bincount(groups, minlength=n_groups), 1)[:, None]


def principal_axes(logs: SparseRows, n_components: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Principal component scores of unit variance (n_cells, k), gene weights (n_genes, k) and gene means (n_genes,)."""
    groups = np.zeros(logs.shape[0], dtype=np.int64)
    means = group_means(logs, groups, 1)
    left, axes = _whitened(logs, groups, means, min(n_components, min(logs.shape) - 1), seed)
    return left, axes, means[0]


def _whitened(
    logs: SparseRows, groups: np.ndarray, means: np.ndarray, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Principal component scores of unit variance (n_cells, k), and the gene weights (n_genes, k) that give them."""
    left, singular, right = _decompose(logs, groups, means, k, seed)
    root = np.sqrt(logs.shape[0])
    # Smaller values are rounding: the rank is lower than k.
    real = singular > 1e-6 * max(singular.max(initial=0.0), 1e-6 * root)
    return left[:, real] * root, right[real].T * (root / singular[real])


def _decompose(
    logs: SparseRows, groups: np.ndarray, means: np.ndarray, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leading singular triplets of the logarithms less the mean of their group, largest first."""
    if min(logs.shape) <= max(2 * k + 1, 20):  # too small for a Lanczos iteration, and small enough to be dense
        left, singular, right = np.linalg.svd(logs.toarray() - means[groups], full_matrices=False)
        return left[:, :k], singular[:k], right[:k]
    transposed, n_groups = logs.T, len(means)
    products: dict[str, Any] = {
        "matvec": lambda v: logs @ v - (means @ v)[groups],
        "rmatvec": lambda v: transposed @ v - means.T @ _sums(v, groups, n_groups),
    }
    products |= {"shape": logs.shape, "dtype": np.float64}
    centered = LinearOperator(**products)
    start = np.random.default_rng(seed).normal(size=min(logs.shape))
    if _is_constant(logs, groups, means):
        return np.zeros((logs.shape[0], 0)), np.zeros(0), np.zeros((0, logs.shape[1]))
    left, singular, right = cast("tuple[np.ndarray, ...]", svds(centered, k=k, v0=start))
    order = np.argsort(-singular)
    return left[:, order], singular[order], right[order]


def _is_constant(logs: SparseRows, groups: np.ndarray, means: np.ndarray) -> bool:
    """Whether all cells of a group are alike."""
    sizes, total = np.bincount(groups, minlength=len(means)), np.dot(logs.data, logs.data)
    return total - sizes @ np.square(means).sum(axis=1) <= 1e-12 * total


def _sums(values: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Sums of rows by group."""
    sums = np.zeros((n_groups, *values.shape[1:]))
    np.add.at(sums, groups, values)
    return sums


def _permute_genes(logs: SparseRows, groups: np.ndarray, rng: np.random.Generator) -> SparseRows:
    """Every gene permuted over the cells of each group, independently of all others."""
    columns = logs.tocsc(copy=True)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    rows = columns.indices
    for gene in range(columns.shape[1]):
        part = slice(columns.indptr[gene], columns.indptr[gene + 1])
        occupied = groups[rows[part]]
        for own in members:
            here = np.flatnonzero(occupied == groups[own[0]])
            rows[part.start + here] = rng.choice(own, len(here), replace=False)
    columns.has_sorted_indices = False
    return columns.tocsr()


def _consensus_rotation(whitened: np.ndarray, seed: int) -> np.ndarray:
    """Mean of several FastICA rotations of some cells, each matched to the most central of them, made orthogonal.

    No single restart is safe: the one with the largest contrast may miss a factor of two levels, because sparse components have
    a larger contrast. Most restarts find the factor, so their mean contains it (Icasso's idea).
    """
    some = whitened[:: -(-len(whitened) // _RESTART_CELLS)]
    rotations = [_rotate(some, seed + restart) for restart in range(_RESTARTS)]
    agreement = [sum(np.abs(_match(one.T @ other)[2]).sum() for other in rotations) for one in rotations]
    central = rotations[int(np.argmax(agreement))]
    total = np.zeros_like(central)
    for rotation in rotations:
        _, columns, correlation = _match(central.T @ rotation)
        total += rotation[:, columns] * np.sign(correlation)
    left, _, right = np.linalg.svd(total)
    return left @ right


def _rotate(whitened: np.ndarray, seed: int) -> np.ndarray:
    """One FastICA rotation of whitened scores (n_cells, k), an orthogonal matrix of shape (k, k)."""
    from sklearn.decomposition import fastica
    from sklearn.exceptions import ConvergenceWarning

    k = whitened.shape[1]
    if k == 1:
        return np.ones((1, 1))
    unmixing = np.random.default_rng(seed).normal(size=(k, k))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # Gaussian components have no unique rotation
        options: dict[str, Any] = {"whiten": False, "max_iter": _ITERATIONS, "tol": 1e-4, "w_init": unmixing}
        _, unmixing, _ = fastica(whitened, **options)
    return unmixing.T


def _stability(logs: SparseRows, groups: np.ndarray, means: np.ndarray, values: np.ndarray, seed: int) -> np.ndarray:
    """Mean absolute correlation of each component with its match among those of resampled cells (Icasso's idea)."""
    rng = np.random.default_rng(seed)
    n_cells, k = values.shape
    total = np.zeros(k)
    for repeat in range(_BOOTSTRAPS):
        drawn = np.sort(rng.integers(n_cells, size=min(n_cells, _BOOTSTRAP_CELLS)))
        own_means = group_means(logs[drawn], groups[drawn], len(means))
        left, axes = _whitened(logs[drawn], groups[drawn], own_means, k, seed)
        weights = axes @ _rotate(left, seed + repeat) if left.shape[1] else axes
        others = logs @ weights - (means @ weights)[groups]
        rows, _, agreement = _match(_absolute_correlation(values, others))
        total[rows] += agreement
    return np.clip(total / _BOOTSTRAPS, 0.0, 1.0)


def _match(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of rows and columns whose absolute correlations have the largest sum, and the correlations of the pairs."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-np.abs(correlation))
    return rows, columns, correlation[rows, columns]


def _absolute_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Absolute correlations between the columns of two arrays; 0 for a column that is constant."""
    first, second = (array - array.mean(axis=0) for array in (first, second))
    norms = np.outer(np.linalg.norm(first, axis=0), np.linalg.norm(second, axis=0))
    return np.abs(first.T @ second) / np.maximum(norms, np.finfo(float).tiny)
