"""FactorVAE score (surrogate)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics.disentanglement._interventions import CellSampler, check_sizes
from scbetavae.metrics.disentanglement._records import Score, register_score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

register_score(Score("factorvae_score", "FactorVAE score", needs="intervention", reference="KimMnih2018"))


def factorvae_score(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    batch_size: int = 64,
    n_train: int = 10_000,
    n_test: int = 5_000,
    active: ArrayLike | None = None,
    seed: int = 0,
) -> float:
    """Which covariate was held fixed, told from the dimension that varies least? A surrogate.

    Cells that share a value of the covariate stand in for simulated ones (see `betavae_score`). Every point is
    the dimension whose variance over the batch, relative to all cells, is smallest; a majority vote per dimension tells
    the covariate.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims); standardized first.
    factors
        Covariates, one row per cell; numeric ones are binned. Classes of one cell are left out.
    batch_size, n_train, n_test
        Cells per point, and numbers of points; the defaults are the sizes of disentanglement_lib.
    active
        Boolean mask of the dimensions that take part, by default `active_dimensions`.
    seed
        Seed of the resampling.

    Returns
    -------
    Accuracy on test points in [0, 1], 1/K by chance. NaN with fewer than two usable covariates or no active dimension.

    Raises
    ------
    ValueError
        If shapes do not agree, codes are not finite, or a size is too small.

    References
    ----------
    :cite:p:`KimMnih2018`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import factorvae_score
    >>> factors = pd.DataFrame({"a": np.arange(400) % 4, "b": np.arange(400) // 100})
    >>> factorvae_score(factors.to_numpy(), factors, n_train=100, n_test=50)
    1.0
    """
    check_sizes(batch_size, n_train, n_test)
    sampler = CellSampler(codes, factors, active)
    if not sampler.usable:
        return float("nan")
    rng = np.random.default_rng(seed)
    features, which = sampler.features(n_train, batch_size, "variance", rng)
    test_features, test_which = sampler.features(n_test, batch_size, "variance", rng)
    n_covariates = len(sampler.members)
    votes = np.bincount(features.argmin(axis=1) * n_covariates + which, minlength=features.shape[1] * n_covariates)
    told = votes.reshape(-1, n_covariates).argmax(axis=1)
    return float(np.mean(told[test_features.argmin(axis=1)] == test_which))
