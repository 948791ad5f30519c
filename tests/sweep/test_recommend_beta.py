"""The recommendation: the front by its definition, the knee where it was put, and ties said to be ties."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from scbetavae.sweep import recommend_beta


def make_sweep(settings, *, n_seeds=3, spread=0.0, metric="mig", covariate="all", method="beta_vae"):
    """Settings are (beta, likelihood, score); seeds lie evenly around them."""
    rows = []
    for beta, nll, score in settings:
        for seed, offset in enumerate(np.linspace(-1, 1, n_seeds) if n_seeds > 1 else [0.0]):
            row = {"kind": "model", "method": method, "beta": beta, "seed": seed, "status": "done", "level": ""}
            rows.append(
                row | {"metric": "nll", "covariate": "", "value": nll + offset * spread * 100, "normalized": np.nan}
            )
            rows.append(
                row | {"metric": metric, "covariate": covariate, "value": -9.0, "normalized": score + offset * spread}
            )
    return pd.DataFrame(rows)


BENT = [(0.5, 500.0, 0.1), (1.0, 501.0, 0.2), (4.0, 503.0, 0.6), (10.0, 520.0, 0.7), (20.0, 530.0, 0.5)]


def test_the_knee_of_a_bent_front():
    recommendation = recommend_beta(make_sweep(BENT, spread=1e-3))
    assert (recommendation.method, recommendation.beta) == ("beta_vae", 4.0)
    settings = recommendation.settings.set_index("beta")
    assert settings["on_front"].to_dict() == {0.5: True, 1.0: True, 4.0: True, 10.0: True, 20.0: False}
    assert settings["recommended"].to_dict() == {0.5: False, 1.0: False, 4.0: True, 10.0: False, 20.0: False}
    for text in (
        "beta 4 is at the knee",
        "3.0 nats for 0.50 of the score",
        "17.0 nats more for another 0.10",
        "5 settings",
    ):
        assert text in recommendation.reason
    assert recommendation.tied == ()
    assert "No other setting is tied with it" in recommendation.reason
    assert str(recommendation) == recommendation.reason
    html = recommendation._repr_html_()
    assert "beta 4 is at the knee" in html
    assert "<table" in html


def test_intervals_are_those_of_a_t_test():
    settings = recommend_beta(make_sweep(BENT, spread=0.01)).settings.set_index("beta")
    interval = ttest_1samp([0.59, 0.6, 0.61], 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(settings.loc[4.0, ["score_low", "score_high"]].astype(float), interval)
    interval = ttest_1samp([502.0, 503.0, 504.0], 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(settings.loc[4.0, ["nll_low", "nll_high"]].astype(float), interval)


def test_overlap_in_both_is_a_tie_and_in_one_is_not():
    sweep = make_sweep([(1.0, 500.0, 0.1), (4.0, 501.0, 0.6), (5.0, 502.0, 0.61), (10.0, 540.0, 0.62)], spread=0.01)
    recommendation = recommend_beta(sweep)
    assert recommendation.beta == 4.0
    assert recommendation.tied == ("beta 5",)  # beta 10 overlaps in the score alone, beta 1 in the likelihood alone
    assert "It is tied with beta 5" in recommendation.reason
    wide = recommend_beta(make_sweep(BENT, spread=5.0))
    assert len(wide.tied) == 4
    assert "It is a tie" in wide.reason
    assert "every other setting" in wide.reason


def test_one_seed_tells_nothing_apart():
    recommendation = recommend_beta(make_sweep(BENT, n_seeds=1))
    assert recommendation.beta == 4.0
    assert len(recommendation.tied) == 4
    assert "There is one seed per setting" in recommendation.reason


def with_agreement(sweep, agreement):
    """Rows of the agreement of seeds, by beta."""
    rows = sweep[sweep["metric"] == "nll"].assign(metric="agreement", covariate="all", level="seeds")
    return pd.concat([sweep, rows.assign(value=rows["beta"].map(agreement))], ignore_index=True)


TIED = [(1.0, 500.0, 0.1), (4.0, 501.0, 0.6), (5.0, 502.0, 0.61), (10.0, 540.0, 0.62)]


def test_of_tied_settings_the_one_whose_seeds_agree_most():
    sweep = make_sweep(TIED, spread=0.01)
    recommendation = recommend_beta(with_agreement(sweep, {1.0: 0.99, 4.0: 0.7, 5.0: 0.9, 10.0: 0.95}))
    assert recommendation.beta == 5.0  # 1 and 10 agree more, but are not tied
    assert recommendation.tied == ("beta 4",)
    assert "beta 4 is at the knee" in recommendation.reason
    assert "Recommended is beta 5" in recommendation.reason
    assert "0.90, compared with 0.70 for beta 4" in recommendation.reason
    settings = recommendation.settings.set_index("beta")
    assert settings["agreement"].to_dict() == pytest.approx({1.0: 0.99, 4.0: 0.7, 5.0: 0.9, 10.0: 0.95})
    assert settings.index[settings["recommended"]].tolist() == [5.0]
    assert settings.index[settings["tied"]].tolist() == [4.0]


@pytest.mark.parametrize(
    "agreement", [{4.0: 0.8, 5.0: 0.79}, {4.0: 0.8, 5.0: 0.8}, {4.0: 0.8}, {5.0: 0.8}, {}, {1.0: 1.0, 10.0: 1.0}]
)
def test_the_knee_stays_where_no_tied_setting_agrees_more(agreement):
    recommendation = recommend_beta(with_agreement(make_sweep(TIED, spread=0.01), agreement))
    assert recommendation.beta == 4.0
    assert recommendation.tied == ("beta 5",)
    assert "Recommended is" not in recommendation.reason


def test_objectives_are_compared_by_agreement_too():
    sweep = pd.concat(
        [make_sweep(TIED, spread=0.01), make_sweep([(4.0, 501.5, 0.6)], spread=0.01, method="beta_tcvae")]
    )
    rows = with_agreement(sweep, {4.0: 0.7, 5.0: 0.6})
    rows.loc[(rows["metric"] == "agreement") & (rows["method"] == "beta_tcvae"), "value"] = 0.8
    recommendation = recommend_beta(rows)
    assert (recommendation.method, recommendation.beta) == ("beta_tcvae", 4.0)
    assert recommendation.tied == ("beta_vae with beta 4", "beta_vae with beta 5")


def test_best_in_both():
    recommendation = recommend_beta(make_sweep([(1.0, 500.0, 0.6), (4.0, 510.0, 0.3)]))
    assert recommendation.beta == 1.0
    assert "best in both" in recommendation.reason


@pytest.mark.parametrize("middle", [0.45, 0.2])
def test_no_knee_on_a_straight_or_hollow_front(middle):
    sweep = make_sweep([(1.0, 500.0, 0.1), (2.0, 505.0, middle), (4.0, 510.0, 0.8)])
    recommendation = recommend_beta(sweep)
    assert recommendation.beta == 1.0
    assert "No knee detected" in recommendation.reason
    assert "The other end, beta 4" in recommendation.reason


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=7))
def test_front_by_its_definition(points):
    grid = [(float(i + 1), float(nll), score / 10) for i, (nll, score) in enumerate(points)]
    recommendation = recommend_beta(make_sweep(grid, n_seeds=1))
    found = recommendation.settings["on_front"].tolist()
    for i, (nll, score) in enumerate(points):
        beaten = any(
            other_nll <= nll and other >= score and (other_nll, other) != (nll, score) for other_nll, other in points
        )
        assert found[i] == (not beaten)
    assert recommendation.settings.loc[recommendation.settings["recommended"], "on_front"].all()


@settings(deadline=None)
@given(st.floats(0.1, 100), st.floats(-1000, 1000))
def test_units_do_not_move_the_knee(scale, shift):
    moved = [(beta, scale * nll + shift, score) for beta, nll, score in BENT]
    assert recommend_beta(make_sweep(moved, n_seeds=1)).beta == 4.0


def test_lower_is_better_for_total_correlation():
    settings = [(1.0, 500.0, 3.0), (4.0, 501.0, 1.0), (10.0, 520.0, 0.9)]
    sweep = make_sweep(settings, metric="gaussian_total_correlation")
    assert recommend_beta(sweep, "gaussian_total_correlation").beta == 4.0
    assert recommend_beta(sweep, "gaussian_total_correlation", higher_is_better=True).beta == 1.0


def test_several_objectives_baselines_and_failures_are_named():
    sweep = pd.concat([make_sweep(BENT), make_sweep([(4.0, 499.0, 0.9)], method="beta_tcvae")])
    baseline = {
        "kind": "baseline",
        "method": "ica",
        "beta": np.nan,
        "seed": 0,
        "status": "done",
        "level": "",
        "metric": "mig",
    }
    unscored = {
        "kind": "model",
        "method": "beta_vae",
        "beta": 99.0,
        "seed": 0,
        "status": "done",
        "level": "",
        "metric": "nll",
    }
    failed = {
        "kind": "model",
        "method": "beta_vae",
        "beta": 77.0,
        "seed": 0,
        "status": "failed",
        "level": "",
        "metric": "",
    }
    rows = [
        baseline | {"covariate": "all", "value": 0.0, "normalized": 0.95},
        unscored | {"covariate": "", "value": 1.0, "normalized": np.nan},
        failed | {"covariate": "", "value": np.nan, "normalized": np.nan},
    ]
    recommendation = recommend_beta(pd.concat([sweep, pd.DataFrame(rows)], ignore_index=True))
    assert (recommendation.method, recommendation.beta) == ("beta_tcvae", 4.0)
    for text in ("beta_tcvae with beta 4", "ica, has normalized mig 0.95, better", "1 settings have no such score"):
        assert text in recommendation.reason


def test_what_is_not_there_is_refused():
    sweep = make_sweep(BENT)
    with pytest.raises(
        ValueError, match=r"score='migg' is not allowed\. Did you mean 'mig'\? Choose from 'nll', 'mig'"
    ):
        recommend_beta(sweep, "migg")
    with pytest.raises(ValueError, match="covariate='labels' is not allowed"):
        recommend_beta(sweep, covariate="labels")
    with pytest.raises(ValueError, match="column='null'"):
        recommend_beta(sweep, column="null")
    with pytest.raises(KeyError, match="no column 'status'"):
        recommend_beta(sweep.drop(columns="status"))
    with pytest.raises(ValueError, match="no finished run"):
        recommend_beta(sweep.assign(status="failed"))
    with pytest.raises(ValueError, match="nothing to weigh"):
        recommend_beta(sweep[sweep["metric"] == "mig"])
    two = pd.concat([make_sweep(BENT, covariate="labels"), make_sweep(BENT, covariate="batch")])
    with pytest.raises(ValueError, match="for several values of covariate: 'labels', 'batch'"):
        recommend_beta(two)
    assert recommend_beta(two.drop_duplicates(), covariate="batch").beta == 4.0
    assert recommend_beta(sweep, column="value").beta == 0.5  # all scores are alike, so the best likelihood is
