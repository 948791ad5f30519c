"""Tests of two means: p-values are scipy's, effect sizes follow from their definition, intervals agree with both."""

import numpy as np
import pytest
from scipy import special, stats

from scbetavae.metrics import mean_difference


def draw(n_first, n_second, n_dims=4, seed=0):
    rng = np.random.default_rng(seed)
    shift = np.linspace(0, 3, n_dims)
    return rng.normal(size=(n_first, n_dims)), 1.7 * rng.normal(size=(n_second, n_dims)) + shift


def correction(df):
    return special.gamma(df / 2) / (np.sqrt(df / 2) * special.gamma((df - 1) / 2))


@pytest.mark.parametrize(("n_first", "n_second"), [(3, 3), (4, 11), (20, 7)])
def test_without_pairs_it_is_welch(n_first, n_second):
    first, second = draw(n_first, n_second)
    frame = mean_difference(first, second, paired=False)
    expected = stats.ttest_ind(second, first, equal_var=False)
    np.testing.assert_allclose(frame["statistic"], expected.statistic)
    np.testing.assert_allclose(frame["p_value"], expected.pvalue)
    np.testing.assert_allclose(frame["df"], expected.df)
    np.testing.assert_allclose(frame["difference"], second.mean(axis=0) - first.mean(axis=0))
    a, b = first.var(axis=0, ddof=1), second.var(axis=0, ddof=1)
    df = (a + b) ** 2 / (a**2 / (n_first - 1) + b**2 / (n_second - 1))
    np.testing.assert_allclose(frame["effect_size"], correction(df) * frame["difference"] / np.sqrt((a + b) / 2))


@pytest.mark.parametrize("n_donors", [3, 8])
def test_of_pairs_it_is_the_paired_test(n_donors):
    first, second = draw(n_donors, n_donors)
    second = second + 2 * first
    frame = mean_difference(first, second, paired=True)
    expected = stats.ttest_rel(second, first)
    np.testing.assert_allclose(frame["statistic"], expected.statistic)
    np.testing.assert_allclose(frame["p_value"], expected.pvalue)
    assert frame["df"].eq(n_donors - 1).all()
    for row, x, y in zip(frame.itertuples(), first.T, second.T, strict=True):
        (a, c), (_, b) = np.cov(x, y)
        df = (n_donors - 1) * (a + b) ** 2 / (a**2 + b**2 + 2 * c**2)
        assert row.effect_size == pytest.approx(correction(df) * (y - x).mean() / np.sqrt((a + b) / 2))


def test_of_equal_groups_it_is_the_usual_hedges_g():
    first = draw(6, 6)[0]
    frame = mean_difference(first, first[::-1] + 2.0, paired=False)
    pooled = first.std(axis=0, ddof=1)
    np.testing.assert_allclose(frame["effect_size"], correction(10) * 2.0 / pooled)
    np.testing.assert_allclose(frame["effect_size"], (1 - 3 / (4 * 12 - 9)) * 2.0 / pooled, rtol=2e-3)  # Hedges 1981


@pytest.mark.parametrize("paired", [True, False])
def test_ends_of_the_interval_are_those_that_the_statistic_allows(paired):
    first, second = draw(5, 5)
    frame = mean_difference(first, second, paired=paired)
    scale = frame["statistic"] * np.sqrt((first.var(axis=0, ddof=1) + second.var(axis=0, ddof=1)) / 2)
    for end, p in (("ci_low", 0.975), ("ci_high", 0.025)):
        noncentrality = frame[end] * scale / frame["difference"]
        np.testing.assert_allclose(stats.nct.cdf(frame["statistic"], frame["df"], noncentrality), p, atol=1e-4)


@pytest.mark.parametrize("paired", [True, False])
def test_an_interval_without_zero_is_a_p_value_below_five_percent(paired):
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 4, 300))
    frame = mean_difference(first, second + 1.5, paired=paired)
    significant = frame["p_value"] < 0.05
    assert 0.05 < significant.mean() < 0.95
    assert ((frame["ci_low"] > 0) | (frame["ci_high"] < 0)).equals(significant)
    assert frame["effect_size"].between(frame["ci_low"], frame["ci_high"]).all()


@pytest.mark.parametrize(("paired", "n_donors", "correlation"), [(True, 3, 0.9), (True, 8, 0.5), (False, 6, 0.0)])
def test_intervals_cover_and_the_effect_size_is_hardly_biased(paired, n_donors, correlation):
    rng = np.random.default_rng(0)
    first, noise = rng.normal(size=(2, n_donors, 4000))
    second = correlation * first + np.sqrt(1 - correlation**2) * noise + 1.0
    frame = mean_difference(first, second, paired=paired)
    covered = ((frame["ci_low"] <= 1) & (frame["ci_high"] >= 1)).mean()
    assert 0.93 < covered < 0.98
    assert frame["effect_size"].mean() == pytest.approx(1.0, abs=0.13)


def test_reversed_groups_reverse_the_signs():
    first, second = draw(4, 6)
    there, back = mean_difference(first, second, paired=False), mean_difference(second, first, paired=False)
    for one, other in (("effect_size", "effect_size"), ("ci_low", "ci_high"), ("statistic", "statistic")):
        np.testing.assert_allclose(there[one], -back[other], rtol=1e-5)
    np.testing.assert_allclose(there["p_value"], back["p_value"])


def test_what_does_not_vary_is_not_tested():
    first = np.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.4]])
    for paired, second in ((True, first + 0.3), (False, np.full((3, 2), 2.0))):
        frame = mean_difference(first, second, paired=paired)
        assert frame["difference"].notna().all()
        assert frame.loc[0].drop("difference").isna().all()
    assert frame.loc[1].notna().all()  # one of the groups varies


@pytest.mark.parametrize("sign", [1, -1])
def test_intervals_of_very_large_statistics(sign):
    first = np.array([[0.0], [1.0], [0.5], [0.2]])
    shifts = sign * 10.0 ** np.arange(1, 8)
    frame = mean_difference(np.repeat(first, 7, axis=1), first + 0.1 * first[::-1] + shifts, paired=True)
    assert frame["statistic"].abs().max() > 1e6
    ratios = frame[["ci_low", "ci_high"]].div(frame["effect_size"], axis=0).to_numpy()
    np.testing.assert_allclose(ratios[3:], np.tile(ratios[-1], (4, 1)), rtol=2e-3)
