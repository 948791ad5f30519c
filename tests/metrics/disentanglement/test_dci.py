"""DCI: trees, gate, folds, parity."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import train_test_split

from scbetavae import metrics


def test_base_case(base, rotated):
    codes, factors = base
    aligned, turned = metrics.dci(codes, factors), metrics.dci(rotated, factors)
    assert min(aligned.disentanglement, aligned.completeness) >= 0.97
    assert turned.disentanglement < aligned.disentanglement - 0.2
    assert turned.completeness < aligned.completeness - 0.2
    assert aligned.per_factor["votes"].all()
    assert aligned.importance.shape == (10, 4)
    np.testing.assert_allclose(aligned.importance.sum(), 1)


@pytest.mark.parametrize("kind", ["numeric", "classes"])
def test_identity(identity, kind):
    codes, factors = identity[0][:1500, :4], identity[1].iloc[:1500, :4]
    factors = factors if kind == "numeric" else factors.astype(str)
    result = metrics.dci(codes, factors)
    assert min(result.disentanglement, result.completeness) >= 0.9
    twice = metrics.dci(np.hstack([codes, codes]), factors)
    assert twice.disentanglement >= 0.9
    assert twice.completeness == pytest.approx(1 - np.log(2) / np.log(8), abs=0.05)


def test_identity_of_ten_factors(identity):
    codes, factors = identity
    twice = metrics.dci(np.hstack([codes, codes]), factors)
    assert 0.9 <= twice.disentanglement <= 1
    assert twice.completeness == pytest.approx(0.699, abs=0.1)
    nothing = metrics.dci(np.zeros_like(codes), factors)
    assert (nothing.disentanglement, nothing.completeness) == (0, 0)


def test_noise_does_not_vote():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(600, 8))
    factors = pd.DataFrame({"a": rng.integers(0, 3, 600).astype(str), "b": rng.normal(size=600)})
    result = metrics.dci(codes, factors)
    assert (result.disentanglement, result.completeness) == (0, 0)
    assert not result.per_factor["votes"].any()
    assert abs(result.informativeness) < 0.05


def test_parity_with_gradient_boosting():
    rng = np.random.default_rng(0)
    factors = pd.DataFrame(rng.integers(0, 3, (240, 2)), columns=["a", "b"])
    codes = factors.to_numpy() @ [[1.0, 0.2, 0.0], [0.0, 1.0, 0.3]] + 0.3 * rng.normal(size=(240, 3))
    train, test = train_test_split(np.arange(240), test_size=1 / 3, random_state=0)
    columns, accuracy = [], []
    for name in factors:
        model = GradientBoostingClassifier(random_state=0).fit(codes[train], factors[name][train])
        columns.append(np.abs(model.feature_importances_))
        accuracy.append((model.predict(codes[test]) == factors[name][test]).mean())
    result = metrics.dci(codes, factors, importance="gbt")
    np.testing.assert_allclose(result.importance, np.column_stack(columns), atol=1e-12)
    np.testing.assert_allclose(result.per_factor["informativeness"], accuracy)
    expected = metrics.disentanglement_from_importance(np.column_stack(columns))
    assert result.disentanglement == pytest.approx(expected)


def test_invariance(base):
    codes, factors = base[0][:1000], base[1][:1000]
    expected = metrics.dci(codes, factors)
    dead = np.hstack([np.exp(codes / 3), np.zeros((1000, 2)), 1e-4 * codes[:, :1]])
    changed = metrics.dci(dead, factors)
    assert changed.disentanglement == pytest.approx(expected.disentanglement)
    assert changed.completeness == pytest.approx(expected.completeness)
    turned = metrics.dci(-codes[:, ::-1], factors)
    assert turned.disentanglement == pytest.approx(expected.disentanglement, abs=0.02)


def test_same_seed_same_numbers(base):
    codes, factors = base[0][:500], base[1][:500]
    pd.testing.assert_frame_equal(metrics.dci(codes, factors).importance, metrics.dci(codes, factors).importance)


def test_groups_are_held_out_whole():
    # The code names the donor; a covariate that is random over donors can be learned within them and not across.
    rng = np.random.default_rng(1)
    donor = np.repeat(np.arange(24), 30)
    status = rng.permutation(np.repeat([0, 1], 12))[donor]
    codes = np.column_stack([donor + 0.1 * rng.normal(size=720), rng.normal(size=720)])
    factors = pd.DataFrame({"status": status.astype(str), "other": rng.normal(size=720)})
    leaky = metrics.dci(codes, factors).per_factor.loc["status"]
    honest = metrics.dci(codes, factors, groups=donor).per_factor.loc["status"]
    assert leaky["informativeness"] > 0.7
    assert honest["informativeness"] < 0.5
    assert honest["p_value"] > 0.05
    with pytest.raises(ValueError, match="missing"):
        metrics.dci(codes, factors, groups=pd.Series(donor).where(donor > 0))


def test_single_covariate_and_single_dimension():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    codes = np.column_stack([label + 0.1 * rng.normal(size=200), rng.normal(size=200)])
    factors = pd.DataFrame({"y": label.astype(str)})
    result = metrics.dci(codes, factors)
    assert np.isnan(result.disentanglement)
    assert result.completeness > 0.9
    assert np.isnan(metrics.dci(codes[:, :1], factors).completeness)
