"""Mutual information of every dimension with every covariate."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import finite_matrix
from scbetavae.metrics._information import Estimator, information


def mutual_information_matrix(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    binning: str = "quantile",
    n_bins: int | None = None,
    correction: str | None = "miller_madow",
) -> pd.DataFrame:
    r"""Mutual information of every dimension, active or not, with every covariate :cite:p:`Chen2018`.

    .. math:: I(z_j; y_k) = \sum_{b, c} p(b, c) \log \frac{p(b, c)}{p(b)\, p(c)}

    with b the bin of :math:`z_j` and c the class of :math:`y_k`. Numeric covariates become at most nine quantile classes.
    Arguments and errors as in :func:`mig`.

    Returns
    -------
    DataFrame of shape (n_dims, n_covariates), in nats, at least 0; NaN for a covariate with fewer than two labeled cells.

    Examples
    --------
    >>> factors = pd.DataFrame({"a": [2, 2, 1, 1], "b": [1, 2, 1, 2]})
    >>> mutual_information_matrix(factors[["b", "a"]].to_numpy(), factors).round(3).to_numpy().tolist()
    [[0.0, 0.693], [0.693, 0.0]]
    """
    array = finite_matrix(codes, "codes")
    everything = np.ones(array.shape[1], dtype=bool)
    result = information(array, factors, Estimator(binning, n_bins, correction), active=everything)
    index = pd.RangeIndex(array.shape[1], name="dimension")
    return pd.DataFrame(np.maximum(result.matrix, 0.0), columns=result.names, index=index)
