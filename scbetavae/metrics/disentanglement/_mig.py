"""Mutual information gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics._information import Estimator, information
from scbetavae.metrics.disentanglement._records import Score, register_score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

register_score(Score("mig", "MIG", per_covariate=True, reference="Chen2018"))


def top_gap(scores: np.ndarray) -> np.ndarray:
    """Best less second best along the last axis: 0 without any dimension, NaN with only one."""
    n_dims = scores.shape[-1]
    if n_dims == 0:
        return np.zeros(scores.shape[:-1])
    if n_dims == 1:
        return np.full(scores.shape[:-1], np.nan)
    two = np.partition(scores, n_dims - 2, axis=-1)[..., -2:]
    return two[..., 1] - two[..., 0]


def mig(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    binning: str = "quantile",
    n_bins: int | None = None,
    correction: str | None = "miller_madow",
    confounder: pd.Series | str | None = None,
    active: ArrayLike | None = None,
) -> pd.Series:
    r"""Mutual information gap of every covariate.

    .. math:: \mathrm{MIG}_k = \frac{I(z_{(1)}; y_k) - I(z_{(2)}; y_k)}{H(y_k)}

    with :math:`z_{(1)}, z_{(2)}` the two dimensions that tell most about covariate k. It does not see a dimension that
    packs two covariates; `dcimig` and `modularity` do.

    ``binning="width", n_bins=20, correction=None`` equals disentanglement_lib.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims).
    factors
        Covariates, one row per cell.
    binning, n_bins, correction
        See `mutual_information_matrix`.
    confounder
        Confounder: the name of a column of ``factors``, or a column of its own. Cells are weighted by
        :math:`p(a)p(b)/p(a,b)`, which makes covariate a independent of confounder b. NaN where the two overlap too
        little (effective sample size below max(200, 0.1 n_cells)).
    active
        Boolean mask of the dimensions that take part, by default `active_dimensions`.

    Returns
    -------
    Series indexed by covariate, in [0, 1]. NaN where undefined (a single active dimension, a single class, fewer than two
    labeled cells); 0 if no dimension is active.

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
    >>> from scbetavae.metrics import mig
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 3, 600)
    >>> codes = np.column_stack([label, rng.normal(size=600)])
    >>> round(float(mig(codes, pd.DataFrame({"label": label.astype(str)}))["label"]), 1)
    1.0
    """
    estimator = Estimator(binning, n_bins, correction)
    result = information(codes, factors, estimator, active=active, confounder=confounder)
    return pd.Series(np.minimum(top_gap(result.scaled.T), 1.0), index=list(result.names), name="mig")
