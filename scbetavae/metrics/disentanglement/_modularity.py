"""Modularity: whether a dimension encodes one covariate alone."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_choice
from scbetavae.metrics._checks import check_matrix
from scbetavae.metrics._information import Estimator, information
from scbetavae.metrics.disentanglement._records import Score, register_score

register_score(Score("modularity", "Modularity", reference="RidgewayMozer2018"))


def modularity_of_matrix(matrix: np.ndarray, *, weighted: bool) -> np.ndarray:
    """Modularity of information matrices (..., n_dims, n_covariates); NaN with fewer than two covariates."""
    n_covariates = matrix.shape[-1]
    if n_covariates < 2:
        return np.full(matrix.shape[:-2], np.nan)
    matrix = np.maximum(matrix, 0.0)
    best = matrix.max(axis=-1)
    informative = best > 0
    relative = matrix / np.where(informative, best, 1.0)[..., None]
    spill = np.where(informative, (relative**2).sum(axis=-1) - 1.0, 0.0) / (n_covariates - 1)
    weights = best if weighted else informative.astype(np.float64)
    total = weights.sum(axis=-1)
    return ((1.0 - spill) * weights).sum(axis=-1) / np.where(total > 0, total, 1.0)


def modularity_from_mi(matrix: ArrayLike) -> float:
    r"""Modularity of a matrix of mutual information :cite:p:`RidgewayMozer2018`.

    .. math:: 1 - \frac{\sum_{k \ne k^*} m_{jk}^2}{m_{jk^*}^2 (K - 1)}, \qquad k^* = \arg\max_k m_{jk}

    averaged over the dimensions j that carry any information. (disentanglement_lib counts the others as 0.)

    ``matrix`` has shape (n_dims, n_covariates), at least 0 and finite, otherwise a ValueError is raised. Returns a number in
    [0, 1]; 0 if all is 0, NaN with fewer than two covariates.

    Examples
    --------
    >>> modularity_from_mi(5 * np.eye(5))
    1.0
    """
    return float(modularity_of_matrix(check_matrix(matrix), weighted=False))


def modularity(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    binning: str = "quantile",
    n_bins: int | None = None,
    correction: str | None = None,
    weighting: str | None = "information",
    active: ArrayLike | None = None,
) -> float:
    """Modularity of the active dimensions; see `modularity_from_mi` for the equation.

    A dimension of noise has tiny, arbitrary information and hence an arbitrary modularity. So each dimension is weighted by its
    information about its best covariate (``weighting=None``: the plain mean over active dimensions of the paper). Arguments,
    result and errors as in :func:`dcimig`, but the bias stays by default: where it is removed, zeros make noise look modular.

    Examples
    --------
    >>> factors = pd.DataFrame({"a": np.arange(400) % 2, "b": np.arange(400) // 200})
    >>> modularity(factors.to_numpy(), factors)
    1.0
    """
    check_choice(weighting, ("information", None), "weighting")
    result = information(codes, factors, Estimator(binning, n_bins, correction), active=active).usable()
    return float(modularity_of_matrix(result.matrix, weighted=weighting is not None))
