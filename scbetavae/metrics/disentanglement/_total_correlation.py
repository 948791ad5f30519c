"""Total correlation of a Gaussian with the covariance of the codes."""

import numpy as np
from numpy.typing import ArrayLike

from scbetavae._core.checks import finite_matrix
from scbetavae.metrics._checks import resolve_active
from scbetavae.metrics.disentanglement._records import Score, register_score

_RANGE = {"highest": float("inf"), "higher_is_better": False}
register_score(
    Score("gaussian_total_correlation", "Total correlation", **_RANGE, needs="codes", reference="Locatello2019")
)


def gaussian_total_correlation_from_covariance(covariance: ArrayLike) -> float:
    r"""Total correlation of a Gaussian with this covariance, in nats, at least 0 :cite:p:`Locatello2019`.

    .. math:: \mathrm{TC} = \frac{1}{2} \left(\sum_j \log \Sigma_{jj} - \log\det\Sigma\right)

    ``covariance`` is positive semi-definite, of shape (n_dims, n_dims). Unless square, symmetric and finite, a ValueError is
    raised. NaN if the matrix is singular: dimensions are collinear, and there is no finite value.

    Examples
    --------
    >>> round(gaussian_total_correlation_from_covariance([[1.0, 0.5], [0.5, 1.0]]), 4)
    0.1438
    """
    matrix = np.asarray(covariance, dtype=np.float64)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T):
        msg = f"`covariance` must be square, symmetric and finite, but it has shape {matrix.shape}."
        raise ValueError(msg)
    scale = np.diag(matrix)
    if len(scale) == 0:
        return 0.0
    if (scale <= 0).any():
        return float("nan")
    # The correlation matrix has the same total correlation, and a scale by which to call it singular.
    correlation = matrix / np.sqrt(np.outer(scale, scale))
    eigenvalues = np.linalg.eigvalsh(correlation)
    if eigenvalues[0] <= len(scale) * 1e-12:
        return float("nan")
    return float(max(-0.5 * np.log(eigenvalues).sum(), 0.0))


def gaussian_total_correlation(
    codes: ArrayLike, variances: ArrayLike | None = None, *, active: ArrayLike | None = None
) -> float:
    r"""Gaussian total correlation of posterior means, or of posterior samples, in nats, at least 0 :cite:p:`Locatello2019`.

    Uncorrelated means do not make uncorrelated samples, and the other way round; report both. Samples have the
    covariance :math:`\operatorname{Cov}(\mu) + \operatorname{diag}(\overline{\sigma^2})`, so none need be drawn.

    ``codes`` (posterior means), ``active`` and errors are as in :func:`mig`. With ``variances``, posterior variances of the same
    shape, at least 0, the result is that of samples. It is 0 with fewer than two active dimensions, NaN if dimensions are
    collinear or with fewer than two cells.

    Examples
    --------
    >>> gaussian_total_correlation(np.random.default_rng(0).normal(size=(5000, 2))) < 0.01
    True
    """
    array = finite_matrix(codes, "codes")
    mask = resolve_active(array, active)
    if len(array) < 2:
        return float("nan")
    if mask.sum() == 0:
        return 0.0
    covariance = np.atleast_2d(np.cov(array[:, mask], rowvar=False))
    if variances is not None:
        spread = np.asarray(variances, dtype=np.float64)
        if spread.shape != array.shape or not np.isfinite(spread).all() or (spread < 0).any():
            msg = f"`variances` must be finite, at least 0 and of shape {array.shape}, but it has shape {spread.shape}."
            raise ValueError(msg)
        covariance = covariance + np.diag(spread[:, mask].mean(axis=0))
    return gaussian_total_correlation_from_covariance(covariance)
