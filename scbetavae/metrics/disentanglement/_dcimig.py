"""DCIMIG: a gap between covariates, of the dimension that serves each best."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae.metrics._information import Estimator, information
from scbetavae.metrics.disentanglement._mig import top_gap
from scbetavae.metrics.disentanglement._records import Score, register_score

register_score(Score("dcimig", "DCIMIG", reference="Sepliarskaia2019"))


def dcimig_of_matrix(matrix: np.ndarray, entropies: np.ndarray) -> np.ndarray:
    """DCIMIG of information matrices (..., n_dims, n_covariates); NaN with fewer than two covariates."""
    n_dims, n_covariates = matrix.shape[-2:]
    if n_covariates < 2 or n_dims == 0:
        return np.full(matrix.shape[:-2], np.nan if n_covariates < 2 else 0.0)
    of_best = np.arange(n_covariates) == matrix.argmax(axis=-1)[..., None]
    served = np.where(of_best, top_gap(matrix)[..., None], 0.0).max(axis=-2)
    total = entropies.sum(axis=-1)
    # Information with its bias removed may be a little below 0, and a gap so a little too large.
    return np.minimum(served.sum(axis=-1) / np.where(total > 0, total, np.nan), 1.0)


def dcimig(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    binning: str = "quantile",
    n_bins: int | None = None,
    correction: str | None = "miller_madow",
    active: ArrayLike | None = None,
) -> float:
    r"""DCIMIG: catches a dimension that packs two covariates :cite:p:`Sepliarskaia2019`.

    Every dimension is assigned to the covariate about which it has most information, and its gap is that information less the
    information about its second covariate. A covariate is served by the largest gap among its dimensions:

    .. math:: \frac{\sum_k \max_{j \to k} \left[I(z_j; y_k) - \max_{l \ne k} I(z_j; y_l)\right]}{\sum_k H(y_k)}

    Arguments and errors as in :func:`mig`; covariates without two classes are left out. Returns a number in [0, 1]; NaN with
    fewer than two covariates, 0 if no dimension is active.

    Examples
    --------
    >>> factors = pd.DataFrame({"a": np.arange(400) % 2, "b": np.arange(400) // 200})
    >>> dcimig(factors.to_numpy(), factors)
    1.0
    """
    result = information(codes, factors, Estimator(binning, n_bins, correction), active=active).usable()
    return float(dcimig_of_matrix(result.matrix, result.entropies))
