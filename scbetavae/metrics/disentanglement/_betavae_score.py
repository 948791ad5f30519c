"""BetaVAE score (surrogate)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics.disentanglement._interventions import CellSampler, check_sizes
from scbetavae.metrics.disentanglement._records import Score, register_score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

register_score(Score("betavae_score", "BetaVAE score", needs="intervention", reference="Higgins2017"))


def betavae_score(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    batch_size: int = 64,
    n_train: int = 10_000,
    n_test: int = 5_000,
    active: ArrayLike | None = None,
    seed: int = 0,
) -> float:
    r"""Which covariate was held fixed, told from differences between cells? A surrogate.

    The score was made for simulators, where one factor is fixed and all others are drawn anew. Cells cannot
    be simulated, so pairs of measured cells that share a value of the covariate stand in: covariates that go together stay
    together. A point is the mean of :math:`|z - z'|` over ``batch_size`` pairs; a logistic model tells the covariate.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims); standardized first.
    factors
        Covariates, one row per cell; numeric ones are binned. Classes of one cell are left out.
    batch_size, n_train, n_test
        Pairs per point, and numbers of points; the defaults are the sizes of disentanglement_lib.
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
    :cite:p:`Higgins2017`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import betavae_score
    >>> factors = pd.DataFrame({"a": np.arange(400) % 4, "b": np.arange(400) // 100})
    >>> betavae_score(factors.to_numpy(), factors, n_train=100, n_test=50)
    1.0
    """
    from sklearn.linear_model import LogisticRegression

    check_sizes(batch_size, n_train, n_test)
    sampler = CellSampler(codes, factors, active)
    if not sampler.usable:
        return float("nan")
    rng = np.random.default_rng(seed)
    features, which = sampler.features(n_train, batch_size, "difference", rng)
    test_features, test_which = sampler.features(n_test, batch_size, "difference", rng)
    if len(np.unique(which)) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separable points never converge, and need not
        model = LogisticRegression(max_iter=200).fit(features, which)
    return float(model.score(test_features, test_which))
