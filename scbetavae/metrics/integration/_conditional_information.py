r"""Information of dimensions about one covariate within strata of others, against a within-stratum null.

.. math:: I(z_j; y \mid s) = \sum_s p(s) \, I(z_j; y \mid s)

The plug-in estimate in each stratum is too large, the more so the fewer its cells. Its bias is the mean over permutations of
:math:`y` within strata, which keep every margin, and is subtracted. The permutations also say how far from 0 chance
reaches: under the null the statistic is close to a scaled chi-squared, so a gamma distribution with their mean and
variance gives p-values below one over the number of permutations :cite:p:`Winkler2016`.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from scbetavae.metrics import _contingency
from scbetavae.metrics._binning import default_bin_count
from scbetavae.metrics._checks import Covariate, renumber
from scbetavae.metrics._information import Estimator, LabeledCells
from scbetavae.metrics._resampling import permuted_tables

MINIMUM_EFFECTIVE_CELLS, MINIMUM_EFFECTIVE_SHARE = 50, 0.1
"""Batch and a conserved covariate are confounded beyond use below the larger of this many cells and this share of them."""

KEPT_BY_CROSSING = 0.8
"""A covariate is crossed into the strata if so much of the overlap that its margins promise is left."""


class Strata(NamedTuple):
    """Classes of cells that agree in the conserved covariates."""

    index: np.ndarray  # stratum of every cell
    crossed: tuple[str, ...]  # names of the covariates that the strata hold constant
    effective_cells: float
    problem: str  # why batch cannot be compared within strata, or an empty string


def conditional_information(
    bins: np.ndarray, covariate: Covariate, strata: np.ndarray, n_permutations: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Nats of binned dimensions (n_dims, n_cells) with a covariate within strata, less their permutation mean, and p-values."""
    labels = Estimator().classes(covariate, covariate.present)
    (n_dims, n_cells), n_bins = bins.shape, default_bin_count(bins.shape[1])
    value, null = np.zeros(n_dims), np.zeros((n_permutations, n_dims))
    for stratum in range(int(strata.max(initial=-1)) + 1):
        inside = strata == stratum
        observed, of_cell = np.unique(labels[inside], return_inverse=True)
        if len(observed) < 2:
            continue  # one class: no information, and nothing to permute
        classes = tuple(map(str, observed))
        cells = LabeledCells(covariate, inside, of_cell.reshape(-1), classes, bins[:, inside], n_bins)
        share = cells.n_cells / n_cells
        value += share * _contingency.plug_in_information(cells.tables())[0]
        permuted = permuted_tables(cells, None, n_permutations, rng)
        null += share * np.concatenate([_contingency.plug_in_information(tables) for tables in permuted])
    # The p-value is the tail of a gamma distribution with the moments of the null.
    mean, variance = null.mean(axis=0), null.var(axis=0, ddof=1)
    varies = variance > (1e-9 * np.maximum(mean, 1e-9)) ** 2
    safe_mean, safe_variance = np.where(varies, mean, 1.0), np.where(varies, variance, 1.0)
    tail = stats.gamma.sf(value, safe_mean**2 / safe_variance, scale=safe_variance / safe_mean)
    return value - mean, np.where(varies, tail, 1.0)


def effective_cells(batch: np.ndarray, strata: np.ndarray) -> float:
    r"""Cells that a comparison of batches within strata is worth.

    .. math:: N \, \frac{\sum_s \frac{n_s}{N} \left(1 - \sum_b p(b \mid s)^2\right)}{1 - \sum_b p(b)^2}

    All of them if batch and stratum are independent, none if the stratum determines the batch. It is the number of
    cells over the variance inflation factor of batch given strata (for two batches, N (1 - R^2)).
    """
    table = np.zeros((strata.max(initial=0) + 1, batch.max(initial=0) + 1))
    np.add.at(table, (strata, batch), 1)
    size, total = table.sum(axis=1), table.sum()
    within = (size - (table**2).sum(axis=1) / np.maximum(size, 1)).sum()
    overall = total - (table.sum(axis=0) ** 2).sum() / max(total, 1)
    return float(total * within / overall) if overall > 0 else 0.0


def stratify(batch: np.ndarray, conserved: list[Covariate]) -> Strata:
    """Cross the conserved covariates, in the order in which they are named, as far as cells suffice."""
    n_cells = len(batch)
    needed = max(MINIMUM_EFFECTIVE_CELLS, MINIMUM_EFFECTIVE_SHARE * n_cells)
    index, crossed, share = np.zeros(n_cells, dtype=np.int64), [], 1.0
    worst, problem = float(n_cells), ""
    for covariate in conserved:
        labels = Estimator().classes(covariate, covariate.present)
        alone = effective_cells(batch, labels)
        # Refused if even one covariate, alone, leaves too few effective cells.
        if alone < needed and alone <= worst:
            problem = (
                f"within classes of {covariate.name!r} a comparison of batches is worth {alone:.0f} of {n_cells} cells, "
                f"and needs {needed:.0f}"
            )
        worst = min(worst, alone)
        # Left out of the crossing where few strata would still have two batches.
        joint = renumber(index * (labels.max() + 1) + labels)
        joint_share = effective_cells(batch, joint) / n_cells
        if joint_share >= KEPT_BY_CROSSING * share * alone / n_cells and joint_share * n_cells >= min(needed, alone):
            index, share = joint, joint_share
            crossed.append(covariate.name)
    return Strata(index, tuple(crossed), share * n_cells, problem)
