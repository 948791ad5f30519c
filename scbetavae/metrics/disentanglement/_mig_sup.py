"""MIG-sup: the gap between the two covariates about which a dimension has most information."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_choice
from scbetavae.metrics._information import Estimator, information
from scbetavae.metrics.disentanglement._mig import top_gap
from scbetavae.metrics.disentanglement._records import Score, register_score

register_score(Score("mig_sup", "MIG-sup", reference="Li2020"))


def mig_sup_of_matrix(scaled: np.ndarray, *, weighted: bool) -> np.ndarray:
    """MIG-sup of scaled information (..., n_dims, n_covariates); NaN with fewer than two covariates."""
    if scaled.shape[-1] < 2:
        return np.full(scaled.shape[:-2], np.nan)
    best = scaled.max(axis=-1)
    weights = np.maximum(best, 0.0) if weighted else np.ones(best.shape)
    total = weights.sum(axis=-1)
    # Information with its bias removed may be a little below 0, and a gap so a little too large.
    return np.minimum((top_gap(scaled) * weights).sum(axis=-1) / np.where(total > 0, total, 1.0), 1.0)


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
    r"""MIG-sup: the gap between the two covariates about which a dimension has most information :cite:p:`Li2020`.

    .. math:: \operatorname{mean}_j \left[\frac{I(z_j; y_{(1)})}{H(y_{(1)})} - \frac{I(z_j; y_{(2)})}{H(y_{(2)})}\right]

    over active dimensions, each weighted by its scaled information about its best covariate, so that uninformative
    dimensions do not count (``weighting=None``: the plain mean of the paper). Arguments, result and errors as in :func:`dcimig`.

    Examples
    --------
    >>> factors = pd.DataFrame({"a": np.arange(400) % 2, "b": np.arange(400) // 200})
    >>> mig_sup(factors.to_numpy(), factors)
    1.0
    """
    check_choice(weighting, ("information", None), "weighting")
    result = information(codes, factors, Estimator(binning, n_bins, correction), active=active).usable()
    return float(mig_sup_of_matrix(result.scaled, weighted=weighting is not None))
