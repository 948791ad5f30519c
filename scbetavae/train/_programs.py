r"""Programs of genes, and the two-level factors that all cells share: targets for one dimension per program.

Independent components are uncorrelated, but indicators of exclusive classes are not, so that classes spread over several
components. Non-negative matrix factorization gives each class a program, but loses a factor of two levels that all classes
share, such as a condition. So these factors come from the independent components, and programs from expression without them.
All random numbers have a seed of their own: the same cells give the same programs.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from ._components import SparseRows, group_means, independent_components, parallel_analysis

_TARGETS_PER_COMPONENT = 2.5  # at 1.5 and 2, rare cell types share programs
_FEWEST_COMPONENTS = 10  # a shared factor may hide behind the classes
_KURTOSIS = -1.2  # of two levels -2, of a uniform distribution -1.2
_SHARED_WITH_ONE, _SHARED_WITH_ALL = 0.15, 0.22
_OCTILES = np.arange(1, 8) / 8
_CLUSTERS, _CLIP = 8, 4.0
_MARKER = 0.05
_ITERATIONS = 200
_SHRINKAGE_CELLS = 50.0
_TINY = np.finfo(float).tiny
_LEAST_SCALE = 1e-6


class Programs(NamedTuple):
    """Two-level factors that all cells share, and programs in expression without them, factors first.

    ``weights`` (n_genes, n_targets), ``offsets`` (n_groups, n_targets) and ``stability`` (n_targets,), NaN for programs, as for
    :class:`Components`; ``thresholds`` (n_factors,) between the two levels of each factor; ``log_changes`` (n_factors, n_genes),
    log scale of each gene above a threshold over that below it; ``log_scales`` (n_groups, n_genes), below all thresholds.
    """

    weights: np.ndarray
    offsets: np.ndarray
    stability: np.ndarray
    thresholds: np.ndarray
    log_changes: np.ndarray
    log_scales: np.ndarray


def find_programs(
    logs: SparseRows, groups: np.ndarray, most: int, *, n_components: int | None = None, seed: int = 0
) -> tuple[Programs, int]:
    """Shared two-level factors, and programs in expression without them; and the number that was looked for.

    Arguments as for :func:`independent_components`. By default there are two and a half times as many as components that exceed
    chance. For programs, each gene is scaled so that its mean is the same in all groups.
    """
    n_cells, n_genes = logs.shape
    n_groups = int(groups.max(initial=0)) + 1
    k = parallel_analysis(logs, groups, min(n_cells - n_groups, n_genes), seed)
    found = independent_components(logs, groups, n_genes, n_components=max(_FEWEST_COMPONENTS, k), seed=seed)
    wanted = int(_TARGETS_PER_COMPONENT * k) if n_components is None else n_components
    n_targets = min(wanted, most)
    values = found.of(logs, groups)
    shared = np.flatnonzero(is_shared_factor(values, k, seed))[: max(n_targets - 2, 0)]
    thresholds = _middle(values[:, shared])
    expression, log_scales = _without_groups(logs, groups)
    log_changes = np.zeros((len(shared), n_genes))
    for change, factor, threshold in zip(log_changes, values[:, shared].T, thresholds, strict=True):
        both = _side_scales(expression, logs, factor, factor > threshold)
        expression = _scaled(expression, both, (factor > threshold).astype(np.int64))
        log_scales += both[0]
        change[:] = both[1] - both[0]
    rank = min(max(2, n_targets - len(shared)), most - len(shared), n_cells, n_genes)
    weights = _factorize(expression, rank if values.shape[1] else 0, seed)
    use = np.maximum(expression @ weights, 0.0)
    means = group_means(sparse.csr_matrix(use), groups, n_groups)
    spread = (use - means[groups]).std(axis=0)
    real = spread > 1e-6 * np.maximum(use.max(axis=0, initial=0.0), 1e-300)
    weights, means = weights[:, real] / spread[real], means[:, real] / spread[real]
    programs = Programs(
        np.hstack([found.weights[:, shared], weights]),
        np.hstack([found.offsets[:, shared], -means]),
        np.concatenate([found.stability[shared], np.full(weights.shape[1], np.nan)]),
        thresholds,
        log_changes,
        log_scales,
    )
    return programs, wanted


def is_shared_factor(values: np.ndarray, n_leading: int | None = None, seed: int = 0) -> np.ndarray:
    """Components (n_cells, n_components) with two levels that no other component predicts: a boolean array (n_components,).

    A component of mean 0 and variance 1 has two levels if its excess kurtosis is at most -1.2, parted by the middle of its 5%
    and 95% quantiles. It is shared if the mutual information of its level is at most 15% of the level's entropy with the eighths
    of any other component, corrected for chance, and below 22% with 8 clusters of all others, and of the ``n_leading`` others
    that exceed chance: among many components of noise, clusters are not those of the cells.
    """
    shared = np.mean(values**4, axis=0) - 3.0 <= _KURTOSIS
    sides = values > _middle(values)
    eighths = [np.searchsorted(np.quantile(column, _OCTILES), column) for column in values.T]
    for d in np.flatnonzero(shared):
        others = np.delete(np.arange(values.shape[1]), d)
        side, leading = sides[:, d], others[others < (values.shape[1] if n_leading is None else n_leading)]
        with_one = max((_shared_information(side, eighths[j], correct=True) for j in others), default=0.0)
        sets = [others] if len(leading) == len(others) else [others, leading]
        shared[d] = with_one <= _SHARED_WITH_ONE and all(
            _shared_information(side, _clusters(values[:, members], seed)) < _SHARED_WITH_ALL for members in sets
        )
    return shared


def _middle(values: np.ndarray) -> np.ndarray:
    """Middle of the 5% and the 95% quantile of each column."""
    return np.quantile(values, [0.05, 0.95], axis=0).mean(axis=0)


def _shared_information(side: np.ndarray, codes: np.ndarray, *, correct: bool = False) -> float:
    """Mutual information of a side and a code per cell, as a share of the side's entropy; 0 for a single side."""
    from sklearn.metrics import mutual_info_score

    entropy = mutual_info_score(side, side)
    chance = (len(_OCTILES) / (2 * len(side))) if correct else 0.0
    return (mutual_info_score(side, codes) - chance) / entropy if entropy > 0 else 0.0


def _clusters(values: np.ndarray, seed: int) -> np.ndarray:
    """Cluster of every cell; one cluster without values."""
    from sklearn.cluster import KMeans

    if values.shape[1] == 0:
        return np.zeros(len(values), dtype=int)
    clipped = np.clip(values, -_CLIP, _CLIP)
    n_clusters = min(_CLUSTERS, len(np.unique(clipped, axis=0)))
    options: dict[str, Any] = {"n_init": 10, "random_state": seed}
    return KMeans(n_clusters, **options).fit_predict(clipped)


def _side_scales(expression: SparseRows, logs: SparseRows, factor: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Log scales (2, n_genes), below and above, that give a gene correlated with a factor the lower of both means."""
    means = np.stack([np.asarray(expression[side].mean(axis=0)).ravel() for side in (~above, above)])
    marks = (np.abs(_correlation(logs, factor)) > _MARKER) & (means.max(axis=0) > 0)
    scales = np.zeros_like(means)
    scales[:, marks] = np.log(np.maximum(means.min(axis=0) / np.maximum(means, _TINY), _LEAST_SCALE))[:, marks]
    return scales


def _without_groups(logs: SparseRows, groups: np.ndarray) -> tuple[SparseRows, np.ndarray]:
    """Expression in which a gene has the same mean in all groups, whose own means are shrunk by 50 cells; and log scales."""
    n_groups = int(groups.max(initial=0)) + 1
    log_scales = np.zeros((n_groups, logs.shape[1]))
    if n_groups == 1:
        return logs, log_scales
    overall = np.asarray(logs.mean(axis=0)).ravel()
    sizes = np.bincount(groups, minlength=n_groups)[:, None]
    shrunk = (sizes * group_means(logs, groups, n_groups) + _SHRINKAGE_CELLS * overall) / (sizes + _SHRINKAGE_CELLS)
    np.log(overall / np.maximum(shrunk, _TINY), out=log_scales, where=overall > 0)
    return _scaled(logs, log_scales, groups), log_scales


def _scaled(matrix: SparseRows, log_scales: np.ndarray, rows: np.ndarray) -> SparseRows:
    """Entries times the scale of their gene in the row of ``log_scales`` that belongs to their cell."""
    per_entry = np.exp(log_scales[np.repeat(rows, np.diff(matrix.indptr)), matrix.indices])
    return sparse.csr_matrix((matrix.data * per_entry, matrix.indices, matrix.indptr), matrix.shape)


def _correlation(logs: SparseRows, factor: np.ndarray) -> np.ndarray:
    """Correlation of each gene with a factor, 0 for a constant gene."""
    factor = factor - factor.mean()
    n = len(factor)
    means = np.asarray(logs.mean(axis=0)).ravel()
    spread = np.sqrt(np.maximum(np.asarray(logs.power(2).mean(axis=0)).ravel() - means**2, 0.0))
    scale = spread * factor.std() * n
    return np.divide(logs.T @ factor, scale, out=np.zeros(len(means)), where=scale > 0)


def _factorize(expression: SparseRows, rank: int, seed: int) -> np.ndarray:
    """Pseudoinverse (n_genes, n_programs) of the programs of norm 1, the one that explains most first."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    if rank < 1 or expression.sum() == 0:
        return np.zeros((expression.shape[1], 0))
    options: dict[str, Any] = {"n_components": rank, "init": "nndsvda", "solver": "cd", "max_iter": _ITERATIONS}
    model = NMF(random_state=seed, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        use = model.fit_transform(expression)
    norms = np.linalg.norm(model.components_, axis=1)
    explained = np.linalg.norm(use, axis=0) * norms
    order = np.argsort(-explained, kind="stable")
    order = order[explained[order] > 1e-6 * explained.max()]
    return np.linalg.pinv(model.components_[order] / norms[order, None])
