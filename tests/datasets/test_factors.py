"""The factors of simulated cells: shares, confounding, independence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, spearmanr

from scbetavae.datasets import simulate_counts

CONTINUOUS = ("phase_angle", "gradient", "library_size")
CATEGORICAL = ("cell_type", "condition", "batch")


def _factors(n_cells=4000, **arguments):
    return simulate_counts(n_cells, 10, **arguments).obs


def _codes(obs, name):
    return obs[name].cat.codes.to_numpy()


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_agreement_is_as_asked(probability):
    obs = _factors(n_cell_types=4, n_batches=4, confounding={("cell_type", "batch"): probability})
    agreement = (_codes(obs, "cell_type") == _codes(obs, "batch")).mean()
    expected = probability + (1 - probability) / 4
    assert abs(agreement - expected) <= 4 * np.sqrt(expected * (1 - expected) / 4000)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_continuous_factors_correlate_as_asked(probability):
    obs = _factors(confounding={("gradient", "library_size"): probability})
    assert abs(spearmanr(obs["gradient"], obs["library_size"]).statistic - probability) < 0.06


def test_full_confounding_is_a_function():
    obs = _factors(n_cell_types=4, confounding={("condition", "cell_type"): 1.0, ("cell_type", "batch"): 1.0})
    for name in ("condition", "batch"):
        assert obs.groupby("cell_type", observed=True)[name].nunique().max() == 1
    obs = _factors(confounding={("batch", "gradient"): 1.0})
    assert obs.groupby("batch", observed=True)["gradient"].max()["batch_0"] < 0.5


def test_nothing_is_related_without_confounding():
    obs = _factors()
    for i, first in enumerate(CATEGORICAL):
        for second in CATEGORICAL[i + 1 :]:
            table = np.histogram2d(_codes(obs, first), _codes(obs, second), bins=(obs[first].nunique(), 2))[0]
            assert chi2_contingency(table).pvalue > 1e-3
        for second in CONTINUOUS:
            assert abs(spearmanr(_codes(obs, first), obs[second]).statistic) < 0.06
    for i, first in enumerate(CONTINUOUS):
        for second in CONTINUOUS[i + 1 :]:
            assert abs(spearmanr(obs[first], obs[second]).statistic) < 0.06


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), probability=st.floats(0, 1), share=st.floats(0.05, 0.95))
def test_confounding_changes_no_share(seed, probability, share):
    obs = _factors(
        500,
        seed=seed,
        proportions={"cell_type": [share, 1 - share]},
        n_cell_types=2,
        confounding={("condition", "cell_type"): probability, ("gradient", "condition"): probability},
    )
    assert abs((obs["cell_type"] == "type_0").mean() - share) <= 1 / 500
    assert (obs["condition"] == "treated").sum() == 250
    np.testing.assert_allclose(np.sort(obs["gradient"]), (np.arange(500) + 0.5) / 500)


def test_imbalance_and_phase_shares_hold():
    obs = _factors(1000, n_cell_types=3, n_batches=2, proportions={"cell_type": [0.7, 0.2, 0.1], "batch": [0.9, 0.1]})
    assert obs["cell_type"].value_counts(sort=False).tolist() == [700, 200, 100]
    assert obs["batch"].value_counts(sort=False).tolist() == [900, 100]
    assert obs["phase"].value_counts(sort=False).tolist() == [500, 250, 250]
    assert obs.loc[obs["phase"] == "G1", "phase_angle"].max() < np.pi


def test_as_many_classes_as_cells():
    assert _factors(7, n_cell_types=7, proportions={"phase": [1 / 3, 1 / 3, 1 / 3]})["cell_type"].nunique() == 7


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"confounding": {("cell_typ", "batch"): 0.5}}, ValueError, "Did you mean 'cell_type'"),
        (
            {"confounding": {("cell_type", "donor"): 0.5}},
            ValueError,
            "factor='donor' is not allowed.*Choose from 'cell_type'",
        ),
        ({"confounding": {("cell_type", "batch"): 1.5}}, ValueError, r"=1.5 is not allowed: pass a number in \[0, 1\]"),
        ({"confounding": {("cell_type", "batch"): "high"}}, ValueError, "='high' is not allowed: pass a number"),
        ({"confounding": {"cell_type": 0.5}}, ValueError, "Pass pairs such as"),
        ({"confounding": 0.5}, TypeError, "confounding=0.5 is not a dict. Pass one such as"),
        ({"confounding": {("batch", "batch"): 0.5}}, ValueError, "pairs a factor with itself"),
        (
            {"confounding": {("cell_type", "batch"): 0.5, ("condition", "batch"): 0.5}},
            ValueError,
            "'batch' cannot follow both 'cell_type' and 'condition'",
        ),
        (
            {"confounding": {("batch", "phase"): 0.1, ("phase", "gradient"): 0.1, ("gradient", "batch"): 0.1}},
            ValueError,
            "confounding is circular: .*phase -> gradient -> batch",
        ),
        ({"proportions": {"celltype": [0.5, 0.5]}}, ValueError, "Did you mean 'cell_type'"),
        ({"proportions": {"gradient": [0.5, 0.5]}}, ValueError, "factor='gradient' is not allowed"),
        (
            {"proportions": {"cell_type": [0.5, 0.5]}},
            ValueError,
            "pass 4 numbers, one per class.*Or change n_cell_types",
        ),
        ({"proportions": {"cell_type": "abcd"}}, ValueError, "pass 4 numbers"),
        ({"proportions": {"batch": [0.5, 0.6]}}, ValueError, "has a sum of 1.1: .*that sum to 1"),
        ({"proportions": {"batch": [0.0, 1.0]}}, ValueError, "pass finite numbers above 0"),
        ({"proportions": [0.5, 0.5]}, TypeError, "is not a dict"),
        ({"n_cells": 5, "n_cell_types": 6}, ValueError, "n_cells=5 leaves the smallest class of 'cell_type'.*least 6 "),
        ({"proportions": {"batch": [0.9999, 0.0001]}}, ValueError, "smallest class of 'batch'.*at least 10000 cells"),
    ],
)
def test_bad_arguments_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        _factors(**arguments)
