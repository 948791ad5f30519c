"""P-values of permutations in closed form, and the least that they can be."""

import numpy as np
import pandas as pd
import pytest

from scbetavae import metrics
from scbetavae.metrics._resampling import permutation_p_value


@pytest.mark.parametrize(("value", "k"), [(2.5, 0), (2.0, 1), (0.5, 2), (0.0, 3), (-1.0, 4)])
def test_the_data_count_as_one_permutation(value, k):
    null = np.array([-0.5, 0.0, 1.0, 2.0])
    assert permutation_p_value(value, null) == (1 + k) / (1 + 4)
    assert permutation_p_value([value, 9.0], np.stack([null, null], axis=1)).tolist() == [(1 + k) / 5, 1 / 5]


@pytest.mark.parametrize("n", [9, 24])
def test_a_perfect_embedding_has_the_least_p_value(n):
    rng = np.random.default_rng(0)
    factors = pd.DataFrame({"kind": rng.choice(list("abc"), 240), "sex": rng.choice(["f", "m"], 240)})
    codes = np.stack([pd.factorize(factors[name], sort=True)[0] for name in factors], axis=1).astype(float)
    scores = ["mig", "sap", "modularity", "dcimig", "mig_sup", "lms", "explicitness"]
    frame = metrics.score_frame(codes, factors, metrics=scores, n_permutations=n, n_bootstrap=0)
    assert frame["p_value"].tolist() == [1 / (1 + n)] * len(frame)
    predicted = metrics.condition_prediction(codes[:, ::-1], factors["sex"], n_permutations=n, n_bootstrap=0)
    assert predicted.loc[0, ["accuracy", "p_value", "p_adjusted"]].tolist() == [1.0, 1 / (1 + n), 1 / (1 + n)]
    assert metrics.dci(codes, factors).per_factor["p_value"].tolist() == [1 / 1000] * 2


def test_an_uninformative_embedding_has_the_largest_p_value():
    labels = np.tile(["a", "b"], 60)
    frame = metrics.condition_prediction(np.zeros((120, 1)), labels, active=np.ones(1, bool), n_permutations=9)
    assert frame.loc[0, "p_value"] == 1.0
