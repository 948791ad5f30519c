"""FactorVAE score (surrogate): which covariate was held fixed, read off the dimension that varies least."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae.metrics.disentanglement._betavae_score import draw_features
from scbetavae.metrics.disentanglement._records import Score, register_score

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
    """Surrogate of the FactorVAE score: which covariate was held fixed, by the least variable dimension :cite:p:`KimMnih2018`.

    Cells that share a value of the covariate stand in for simulated ones. A point is the dimension whose variance over
    ``batch_size`` cells, relative to all cells, is smallest; a majority vote per dimension predicts the covariate. Arguments,
    result and errors are those of :func:`betavae_score`.

    Examples
    --------
    >>> factors = pd.DataFrame({"a": np.arange(400) % 4, "b": np.arange(400) // 100})
    >>> factorvae_score(factors.to_numpy(), factors, n_train=100, n_test=50)
    1.0
    """
    drawn = draw_features(codes, factors, active, "variance", (batch_size, n_train, n_test), seed)
    if drawn is None:
        return float("nan")
    (features, which), (test_features, test_which) = drawn
    votes = np.zeros((features.shape[1], max(which.max(), test_which.max()) + 1))
    np.add.at(votes, (features.argmin(axis=1), which), 1)
    return float(np.mean(votes.argmax(axis=1)[test_features.argmin(axis=1)] == test_which))
