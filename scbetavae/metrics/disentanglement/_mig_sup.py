"""MIG-sup: the mutual information gap between covariates, for each dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics._checks import check_choice
from scbetavae.metrics._information import Estimator, information
from scbetavae.metrics.disentanglement._records import Score, register_score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

register_score(Score("mig_sup", "MIG-sup", reference="Li2020"))


def mig_sup_of_matrix(scaled: np.ndarray, *, weighted: bool) -> np.ndarray:
    """MIG-sup of scaled information (..., n_dims, n_covariates); NaN with fewer than two covariates."""
    n_covariates = scaled.shape[-1]
    if n_covariates < 2:
        return np.full(scaled.shape[:-2], np.nan)
    two = np.partition(scaled, n_covariates - 2, axis=-1)[..., -2:]
    best = two[..., 1]
    weights = np.maximum(best, 0.0) if weighted else np.ones(best.shape)
    total = weights.sum(axis=-1)
    # Information with its bias removed may be a little below 0, and a gap so a little too large.
    return np.minimum(((best - two[..., 0]) * weights).sum(axis=-1) / np.where(total > 0, total, 1.0), 1.0)


def mig_sup(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    binning: str = "quantile",
    n_bins: int | None = None,
    correction: str | None = "miller_madow",
    weighting: str | None = "information",
    active: ArrayLike | None = None,
) -> float:
    r"""MIG-sup: the gap between the two covariates a dimension tells most about.

    .. math:: \operatorname{mean}_j \left[\frac{I(z_j; y_{(1)})}{H(y_{(1)})} - \frac{I(z_j; y_{(2)})}{H(y_{(2)})}\right]

    over active dimensions, each in proportion to its scaled information about its best covariate, so that dimensions
    that tell nothing do not vote.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims).
    factors
        Covariates, one row per cell. Those without two classes are left out.
    binning, n_bins, correction
        See `mutual_information_matrix`.
    weighting
        ``"information"``, or ``None`` for the plain mean of the paper.
    active
        Boolean mask of the dimensions that take part, by default `active_dimensions`.

    Returns
    -------
    A number in [0, 1]. NaN with fewer than two covariates; 0 if no dimension is active.

    Raises
    ------
    ValueError
        If shapes do not agree, codes are not finite, or an option is unknown.

    References
    ----------
    :cite:p:`Li2020`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import mig_sup
    >>> factors = pd.DataFrame({"a": np.arange(400) % 2, "b": np.arange(400) // 200})
    >>> mig_sup(factors.to_numpy(), factors)
    1.0
    """
    check_choice(weighting, ("information", None), "weighting")
    result = information(codes, factors, Estimator(binning, n_bins, correction), active=active)
    usable = result.entropies > 0
    return float(mig_sup_of_matrix(result.scaled[:, usable], weighted=weighting is not None))
