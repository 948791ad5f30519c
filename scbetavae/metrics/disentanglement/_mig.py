"""Mutual information of every dimension with every covariate, and its gap."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import finite_matrix
from scbetavae.metrics._information import Estimator, information
from scbetavae.metrics.disentanglement._records import Score, register_score

register_score(Score("mig", "MIG", per_covariate=True, reference="Chen2018"))


def top_gap(scores: np.ndarray) -> np.ndarray:
    """Best less second best along the last axis: 0 without any dimension, NaN with only one."""
    n_dims = scores.shape[-1]
    if n_dims < 2:
        return np.full(scores.shape[:-1], np.nan if n_dims else 0.0)
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
    r"""Mutual information gap of every covariate :cite:p:`Chen2018`.

    .. math:: \mathrm{MIG}_k = \frac{I(z_{(1)}; y_k) - I(z_{(2)}; y_k)}{H(y_k)}

    with :math:`z_{(1)}, z_{(2)}` the two dimensions with most information about covariate k. It misses a dimension that packs two
    covariates, unlike `dcimig` and `modularity`. ``binning="width", n_bins=20, correction=None`` is that of disentanglement_lib.

    Parameters
    ----------
    codes
        Latent representation of shape (n_cells, n_dims).
    factors
        Covariates, one row per cell: categorical, boolean, string or numeric columns. Cells without a label are left out for that
        covariate alone.
    binning
        ``"quantile"``: tie-safe quantile bins. ``"width"``: equal-width bins, under which integer covariates count as classes.
    n_bins
        Number of bins; by default the smallest odd number not below n_cells^(1/3), from 5 to 19, and 20 of equal width.
    correction
        ``"miller_madow"`` removes the bias of the plug-in estimate; ``None`` keeps it.
    confounder
        Name of a column of ``factors``, or a column of its own. Cells are weighted by :math:`p(a)p(b)/p(a,b)`, which makes
        covariate a independent of confounder b. NaN where the effective sample size is below max(200, 0.1 n_cells).
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

    Examples
    --------
    >>> label = np.random.default_rng(0).integers(0, 3, 600)
    >>> codes = np.column_stack([label, np.random.default_rng(1).normal(size=600)])
    >>> round(float(mig(codes, pd.DataFrame({"label": label.astype(str)}))["label"]), 1)
    1.0
    """
    estimator = Estimator(binning, n_bins, correction)
    result = information(codes, factors, estimator, active=active, confounder=confounder)
    return pd.Series(np.minimum(top_gap(result.scaled.T), 1.0), index=result.names, name="mig")


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

    with b the bin of :math:`z_j` and c the class of :math:`y_k`; numeric covariates become at most nine quantile classes.
    Arguments and errors as in :func:`mig`. Returns a DataFrame of shape (n_dims, n_covariates), in nats, at least 0; NaN for a
    covariate with fewer than two labeled cells.

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
