"""Mutual information of every dimension with every covariate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics._checks import check_codes
from scbetavae.metrics._information import Estimator, information

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def mutual_information_matrix(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    binning: str = "quantile",
    n_bins: int | None = None,
    correction: str | None = "miller_madow",
) -> pd.DataFrame:
    r"""Mutual information of every dimension with every covariate.

    .. math:: I(z_j; y_k) = \sum_{b, c} p(b, c) \log \frac{p(b, c)}{p(b)\, p(c)}

    with b the bin of :math:`z_j` and c the class of :math:`y_k`. Cells without a label are left out for that covariate
    alone. Numeric covariates become at most nine quantile classes. All dimensions are in the result, also dead ones.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims).
    factors
        Covariates, one row per cell: categorical, boolean, string or numeric columns.
    binning
        ``"quantile"``: tie-safe quantile bins. ``"width"``: equal-width bins, under which integer covariates
        count as classes.
    n_bins
        Number of bins; by default the smallest odd number not below n_cells^(1/3), from 5 to 19, and 20 of equal width.
    correction
        ``"miller_madow"`` removes the bias of the plug-in estimate; ``None`` keeps it.

    Returns
    -------
    DataFrame of shape (n_dims, n_covariates), in nats, at least 0; NaN for a covariate with fewer than two labeled
    cells.

    Raises
    ------
    ValueError
        If shapes do not agree, codes are not finite, or an option is unknown.

    References
    ----------
    :cite:p:`Chen2018`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import mutual_information_matrix
    >>> codes = np.array([[1, 1], [2, 1], [1, 2], [2, 2]])
    >>> factors = pd.DataFrame({"a": [2, 2, 1, 1], "b": [1, 2, 1, 2]})
    >>> mutual_information_matrix(codes, factors).round(3).to_numpy().tolist()
    [[0.0, 0.693], [0.693, 0.0]]
    """
    array = check_codes(codes)
    everything = np.ones(array.shape[1], dtype=bool)
    result = information(array, factors, Estimator(binning, n_bins, correction), active=everything)
    return pd.DataFrame(
        np.maximum(result.matrix, 0.0),
        columns=list(result.names),
        index=pd.RangeIndex(array.shape[1], name="dimension"),
    )
