"""BetaVAE score (surrogate)."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae.metrics.disentanglement._interventions import draw_features
from scbetavae.metrics.disentanglement._records import Score, register_score

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
    r"""Surrogate of the BetaVAE score: which covariate was held fixed, predicted from differences of cells :cite:p:`Higgins2017`.

    The score was made for simulators, where one factor is fixed and all others are drawn anew. Cells cannot be simulated, so
    pairs of measured cells that share a value of the covariate stand in: covariates that go together stay together. A point is
    the mean of :math:`|z - z'|` over ``batch_size`` pairs, from which a logistic model predicts the covariate.

    Parameters
    ----------
    codes, factors, active
        As in :func:`mig`, and so are errors; dimensions are standardized first, numeric covariates are binned, and classes of one
        cell are left out.
    batch_size, n_train, n_test
        Pairs per point, and numbers of points; the defaults are the sizes of disentanglement_lib. At least 2, 10 and 1.
    seed
        Seed of the resampling.

    Returns
    -------
    Accuracy on test points in [0, 1], 1/K by chance. NaN with fewer than two usable covariates or no active dimension.

    Examples
    --------
    >>> from scbetavae.metrics import betavae_score
    >>> factors = pd.DataFrame({"a": np.arange(400) % 4, "b": np.arange(400) // 100})
    >>> betavae_score(factors.to_numpy(), factors, n_train=100, n_test=50)
    1.0
    """
    from sklearn.linear_model import LogisticRegression

    drawn = draw_features(codes, factors, active, "difference", (batch_size, n_train, n_test), seed)
    if drawn is None or len(np.unique(drawn[0][1])) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separable points never converge, and need not
        model = LogisticRegression(max_iter=200).fit(*drawn[0])
    return float(model.score(*drawn[1]))
