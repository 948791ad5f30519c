"""Active dimensions, class level, explicitness, surrogates, seeds, association, dimension table."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mutual_info_score

from scbetavae import metrics


def test_collapsed_dimensions_are_not_active():
    rng = np.random.default_rng(0)
    alive, dead = rng.normal(size=(500, 2)), 1e-3 * rng.normal(size=(500, 30))
    assert metrics.active_dimensions(np.hstack([alive, dead])).tolist() == [True] * 2 + [False] * 30
    assert metrics.active_dimensions(np.hstack([1e4 * alive, dead[:, :1]])).tolist() == [True, True, False]
    assert not metrics.active_dimensions(np.ones((5, 2))).any()
    assert not metrics.active_dimensions(np.zeros((0, 2))).any()


def test_active_by_divergence():
    codes = np.random.default_rng(0).normal(size=(500, 4)) * [1, 1, 1e-3, 0]
    assert metrics.active_dimensions(codes, kl=[0.5, 0.005, 0.5, 0.5]).tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="one value per dimension"):
        metrics.active_dimensions(codes, kl=[0.5])


def test_class_level_sees_one_dimension_per_class():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 6, 3000)
    codes = np.eye(6)[label] + 0.05 * rng.normal(size=(3000, 6))
    factors = pd.DataFrame({"type": label.astype(str)})
    row = metrics.class_alignment(codes, factors).loc["type"]
    assert metrics.mig(codes, factors)["type"] < 0.05
    assert row["lms"] > 0.8
    assert row["msgs"] > 0.6


def test_parity_with_drvi():
    rng = np.random.default_rng(0)
    label = rng.choice(4, 500, p=[0.4, 0.3, 0.2, 0.1])
    codes = rng.normal(size=(500, 5)) + np.eye(4)[label] @ rng.normal(size=(4, 5))
    similarity = np.zeros((5, 4))
    for j in range(5):
        edges = np.linspace(codes[:, j].min(), codes[:, j].max(), 11)[1:-1]
        bins = np.searchsorted(edges, codes[:, j], side="right")
        for c in range(4):
            similarity[j, c] = mutual_info_score(bins, label == c) / mutual_info_score(label == c, label == c)
    expected = metrics.class_alignment_from_similarity(similarity)
    factors = pd.DataFrame({"y": label.astype(str)})
    row = metrics.class_alignment(codes, factors, binning="width", correction=None).loc["y"]
    assert row.tolist() == pytest.approx([expected.lms, expected.msas, expected.msgs])


def test_binary_covariate_counts_once_at_class_level():
    rng = np.random.default_rng(0)
    label = rng.random(1000) < 0.5
    codes = np.column_stack([label, rng.normal(size=1000)]).astype(float)
    assert metrics.class_alignment(codes, pd.DataFrame({"y": label})).loc["y", "lms"] == pytest.approx(1)


def test_explicitness():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(400, 3))
    factors = pd.DataFrame(
        {
            "linear": np.where(codes[:, 0] > 0, "u", "d"),
            "number": codes[:, 1] * 3,
            "noise": rng.integers(0, 3, 400).astype(str),
            "one": "x",
        }
    )
    score = metrics.explicitness(codes, factors)
    assert score["linear"] > 0.98
    assert score["number"] > 0.98
    assert score["noise"] == pytest.approx(0.5, abs=0.07)
    assert np.isnan(score["one"])


def test_surrogates():
    rng = np.random.default_rng(0)
    factors = pd.DataFrame(rng.integers(0, 4, (800, 3)), columns=list("abc"))
    sizes = {"n_train": 200, "n_test": 100}
    for score in (metrics.betavae_score, metrics.factorvae_score):
        assert score(factors.to_numpy(), factors, **sizes) > 0.95
        assert score(rng.normal(size=(800, 3)), factors, **sizes) == pytest.approx(1 / 3, abs=0.15)
        assert np.isnan(score(factors.to_numpy(), factors[["a"]], **sizes))
        assert np.isnan(score(np.zeros((800, 2)), factors, **sizes))
        with pytest.raises(ValueError, match="n_train"):
            score(factors.to_numpy(), factors, n_train=0)


def test_udr():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(1000, 4))
    turned = [codes @ np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(5)]
    same = [codes[:, rng.permutation(4)] * rng.choice([-1, 1], 4) for _ in range(5)]
    assert metrics.udr(same).min() > 0.85
    assert metrics.udr(turned).max() < metrics.udr(same).min() - 0.2
    dead = [np.hstack([seed, np.zeros((1000, 3))]) for seed in same]
    pd.testing.assert_series_equal(metrics.udr(dead), metrics.udr(same))
    with pytest.raises(ValueError, match="at least 5"):
        metrics.udr(same[:3])
    with pytest.raises(ValueError, match="same cells"):
        metrics.udr([*same[:4], codes[:10]])


def test_association():
    rng = np.random.default_rng(0)
    donor = rng.integers(0, 6, 3000)
    factors = pd.DataFrame(
        {
            "donor": donor.astype(str),
            "sex": np.where(donor < 3, "f", "m"),
            "donor_id": pd.Categorical([f"D{d}" for d in donor]),
            "age": donor * 10.0 + rng.normal(size=3000),
            "noise": rng.integers(0, 3, 3000).astype(str),
            "one": "x",
        }
    )
    table = metrics.covariate_association(factors).set_index(["first", "second"])
    assert table.loc[("donor", "sex"), "relation"] == "first within second"
    assert table.loc[("sex", "donor_id"), "relation"] == "second within first"
    assert table.loc[("donor", "donor_id"), "relation"] == "alias"
    assert table.loc[("donor", "donor_id"), "association"] == pytest.approx(1)
    assert table.loc[("donor", "age"), "association"] > 0.95
    assert table.loc[("donor", "noise"), "association"] < 0.05
    assert np.isnan(table.loc[("donor", "one"), "association"])
    assert table.loc[("donor", "one"), "flag"] == "one class"
    assert metrics.covariate_association(factors[["sex"]]).empty


def test_cramers_v_is_unbiased_on_noise():
    rng = np.random.default_rng(0)
    small = [
        metrics.covariate_association(pd.DataFrame(rng.integers(0, 5, (60, 2)).astype(str)))["association"].item() ** 2
        for _ in range(40)
    ]
    assert np.mean(small) < 0.02  # the uncorrected V squared is 16 / (60 * 4) = 0.067


def test_dimension_table():
    rng = np.random.default_rng(0)
    label = rng.choice(["CD8+/CD45RA+ Naive Cytotoxic", "B", "rare"], 1000, p=[0.5, 0.499, 0.001])
    label[:1], label[1:] = "rare", np.where(label[1:] == "rare", "B", label[1:])
    codes = np.column_stack([rng.normal(size=1000), -1.0 * (label == "B"), np.zeros(1000)])
    table = metrics.dimension_covariate_table(codes, pd.DataFrame({"type": label, "age": codes[:, 0] ** 3}))
    assert len(table) == 3 * (1 + 3 + 1)
    row = table.query("dimension == 1 and `class` == 'B'").iloc[0]
    assert row["direction"] == pytest.approx(-1, abs=0.01)
    assert row["normalized"] == pytest.approx(1, abs=0.02)
    assert row["p_adjusted"] < 1e-9
    assert table.query("dimension == 0 and covariate == 'age'")["direction"].item() == pytest.approx(1)
    assert table.query("dimension == 0 and covariate == 'type'")["p_adjusted"].min() > 0.001
    assert table.query("`class` == 'rare'")["normalized"].isna().all()
    assert table.query("dimension == 2")[["mutual_information", "p_value"]].isna().all(axis=None)
    assert not table.query("dimension == 2")["active"].any()
