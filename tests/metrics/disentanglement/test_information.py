"""Mutual information, MIG, and the scores that read the same tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from scbetavae import metrics
from scbetavae.metrics import _contingency


def information_by_scikit_learn(codes, factors, n_bins):
    """Equal-width bins and scikit-learn's plug-in estimate, one pair at a time."""
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    for j in range(codes.shape[1]):
        edges = np.histogram(codes[:, j], n_bins)[1][:-1]
        bins = np.digitize(codes[:, j], edges)
        for k, name in enumerate(factors):
            matrix[j, k] = mutual_info_score(bins, factors[name])
    return matrix


@pytest.fixture(scope="module")
def labeled():
    rng = np.random.default_rng(3)
    factors = pd.DataFrame({"a": rng.integers(0, 5, 700), "b": rng.integers(0, 30, 700), "c": rng.integers(0, 2, 700)})
    codes = factors.to_numpy() @ rng.normal(size=(3, 6)) + rng.normal(size=(700, 6))
    return codes, factors


def test_small_example():
    codes = np.array([[1, 2, 1, 2], [1, 1, 2, 2]]).T
    factors = np.array([[1, 2, 1, 2], [2, 2, 1, 1]]).T
    matrix = metrics.mutual_information_matrix(codes, pd.DataFrame(factors))
    np.testing.assert_allclose(matrix, np.log(2) * np.eye(2), atol=1e-12)


def test_parity_with_disentanglement_lib(labeled):
    codes, factors = labeled
    expected = information_by_scikit_learn(codes, factors, 20)
    options = {"binning": "width", "n_bins": 20, "correction": None}
    np.testing.assert_allclose(metrics.mutual_information_matrix(codes, factors, **options), expected, atol=1e-12)
    entropy = np.array([mutual_info_score(factors[name], factors[name]) for name in factors])
    ordered = np.sort(expected, axis=0)[::-1]
    score = metrics.mig(codes, factors, **options)
    np.testing.assert_allclose(score, (ordered[0] - ordered[1]) / entropy, atol=1e-12)
    best = expected.max(axis=1)
    modular = 1 - ((expected**2).sum(axis=1) - best**2) / (best**2 * 2)
    np.testing.assert_allclose(
        metrics.modularity(codes, factors, weighting=None, **options), modular.mean(), atol=1e-12
    )


def test_plug_in_quantile_tables_equal_scikit_learn(labeled):
    codes, factors = labeled
    matrix = metrics.mutual_information_matrix(codes, factors.astype(str), n_bins=7, correction=None)
    ranks = codes.argsort(axis=0).argsort(axis=0)
    bins = (7 * (2 * ranks + 1)) // (2 * len(codes))
    expected = [[mutual_info_score(bins[:, j], factors[name]) for name in factors] for j in range(6)]
    np.testing.assert_allclose(matrix, expected, atol=1e-12)


def test_correction_removes_the_bias_of_noise():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(2000, 40))
    factors = pd.DataFrame({"y": rng.choice(6, 2000, p=[0.5, 0.3, 0.1, 0.06, 0.03, 0.01]).astype(str)})
    plug_in = metrics.mutual_information_matrix(codes, factors, n_bins=13, correction=None).to_numpy().mean()
    corrected = metrics.mutual_information_matrix(codes, factors, n_bins=13).to_numpy().mean()
    assert plug_in == pytest.approx(12 * 5 / (2 * 2000), rel=0.1)
    assert corrected < 0.2 * plug_in


def test_identity(identity):
    codes, factors = identity
    for score in (metrics.mig, metrics.sap):
        assert 0.9 <= score(codes, factors).mean() <= 1
        assert score(np.zeros_like(codes), factors).mean() == 0
        assert 0 <= score(np.hstack([codes, codes]), factors).mean() <= 0.2
    for score in (metrics.modularity, metrics.dcimig, metrics.mig_sup):
        assert 0.9 <= score(codes, factors) <= 1
        assert score(np.zeros_like(codes), factors) == 0


def test_base_case(base):
    codes, factors = base
    assert (metrics.mig(codes, factors) >= [0.85, 0.86, 0.93, 0.71]).all()
    assert (metrics.sap(codes, factors) >= 0.9).all()
    assert metrics.modularity(codes, factors) > 0.97


def test_rotation_lowers_the_scores(base, rotated):
    codes, factors = base
    for score in (metrics.mig, metrics.sap):
        assert (score(rotated, factors) < score(codes, factors) - 0.2).all()
    for score in (metrics.modularity, metrics.dcimig, metrics.mig_sup):
        assert score(rotated, factors) < score(codes, factors) - 0.03


def test_packing_two_covariates_is_seen_from_the_codes():
    rng = np.random.default_rng(0)
    factors = pd.DataFrame(rng.integers(0, 4, (4000, 2)), columns=["f0", "f1"])
    packed = np.column_stack([4 * factors["f0"] + factors["f1"], rng.normal(size=(4000, 3))])
    assert metrics.mig(packed, factors).mean() > 0.95
    assert metrics.modularity(packed, factors) < 0.45
    assert metrics.dcimig(packed, factors) < 0.1
    assert metrics.mig_sup(packed, factors) < 0.1


def test_one_outlier_moves_equal_width_bins_only(base):
    codes, factors = base
    spoiled = codes.copy()
    spoiled[0, 0] = 1e6
    assert metrics.mig(spoiled, factors, binning="width")["eight"] < 0.01
    assert metrics.mig(spoiled, factors)["eight"] == pytest.approx(metrics.mig(codes, factors)["eight"], abs=0.005)


def test_appended_dead_dimensions_change_nothing(base):
    codes, factors = base
    label = factors["eight"].astype(float).to_numpy()[:, None]
    noise = np.random.default_rng(5).normal(size=(4000, 2))
    for dead in (np.zeros((4000, 3)), np.full((4000, 1), 7.0), 1e-3 * label, 1e-3 * noise):
        longer = np.hstack([codes, dead])
        for score in (metrics.mig, metrics.sap):
            pd.testing.assert_series_equal(score(longer, factors), score(codes, factors))
        for score in (metrics.modularity, metrics.dcimig, metrics.mig_sup):
            assert score(longer, factors) == score(codes, factors)
        pd.testing.assert_frame_equal(metrics.class_alignment(longer, factors), metrics.class_alignment(codes, factors))


MAPS = {
    "shift": lambda z: z + 3.0,
    "scale": lambda z: 7.5 * z,
    "sign": lambda z: -z,
    "arctan": np.arctan,
    "cube": lambda z: z**3,
    "exponential": np.exp,
}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(MAPS)), st.integers(0, 10_000), st.permutations(range(5)), st.integers(40, 500))
def test_invariance(name, seed, order, n_cells):
    rng = np.random.default_rng(seed)
    factors = pd.DataFrame({"a": rng.integers(0, 3, n_cells).astype(str), "b": rng.normal(size=n_cells)})
    codes = rng.normal(size=(n_cells, 5))
    codes[:, 0] += factors["a"].astype(float)
    codes[:, 1] += factors["b"]
    codes[:, 2] = codes[:, 2].round(1)
    everything = np.ones(5, dtype=bool)
    mapped = MAPS[name](codes)[:, order]
    for score in (metrics.mig, metrics.sap):
        pd.testing.assert_series_equal(
            score(mapped, factors, active=everything), score(codes, factors, active=everything), atol=1e-9
        )
    for score in (metrics.modularity, metrics.dcimig, metrics.mig_sup):
        expected = score(codes, factors, active=everything)
        assert score(mapped, factors, active=everything) == pytest.approx(expected, abs=1e-9)
    pd.testing.assert_frame_equal(
        metrics.class_alignment(mapped, factors, active=everything),
        metrics.class_alignment(codes, factors, active=everything),
        atol=1e-9,
    )
    cells = rng.permutation(n_cells)
    pd.testing.assert_series_equal(
        metrics.mig(codes[cells], factors.iloc[cells]), metrics.mig(codes, factors), atol=1e-9
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 200), st.integers(1, 6), st.integers(1, 4))
def test_bounds(seed, n_cells, n_dims, n_classes):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n_cells, n_dims)) + rng.normal(size=(n_cells, n_dims)) * rng.integers(0, 2, n_dims)
    factors = pd.DataFrame({"a": rng.integers(0, n_classes, n_cells).astype(str), "b": codes[:, 0]})
    matrix = metrics.mutual_information_matrix(codes, factors)
    assert (matrix >= 0).all(axis=None)
    assert (matrix["a"] <= np.log(n_classes) + 1e-9).all()
    for score in (metrics.mig(codes, factors), metrics.class_alignment(codes, factors).to_numpy().ravel()):
        known = score[~np.isnan(score)]
        assert ((known >= 0) & (known <= 1 + 1e-9)).all()


def test_missing_labels_drop_the_cell_for_that_covariate_alone(base):
    codes, factors = base
    missing = factors.copy()
    missing["four"] = missing["four"].astype(object)
    missing.loc[:999, "four"] = np.nan
    score, kept = metrics.mig(codes, missing), metrics.mig(codes[1000:], factors[1000:])
    assert score["four"] == pytest.approx(kept["four"], abs=1e-12)
    assert score["eight"] == metrics.mig(codes, factors)["eight"]


def test_undefined_is_nan():
    codes = np.random.default_rng(0).normal(size=(50, 2))
    factors = pd.DataFrame({"one": ["x"] * 50, "none": [None] * 50, "two": ["x", "y"] * 25})
    for score in (metrics.mig(codes, factors), metrics.sap(codes, factors)):
        assert score.isna().tolist() == [True, True, False]
    assert metrics.mig(codes[:, :1], factors).isna().all()
    assert np.isnan(metrics.modularity(codes, factors))
    assert np.isnan(metrics.dcimig(codes, factors))


@pytest.mark.parametrize("dtype", ["bool", "boolean", "str", "string", "category", "object", "Int64"])
def test_dtypes_agree(dtype):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 400)
    codes = np.column_stack([label + 0.3 * rng.normal(size=400), rng.normal(size=400)])
    expected = metrics.mig(codes, pd.DataFrame({"y": label}))
    pd.testing.assert_series_equal(metrics.mig(codes, pd.DataFrame({"y": pd.Series(label).astype(dtype)})), expected)


def test_adjusting_for_a_confounder():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 4000)
    b = np.where(rng.random(4000) < 0.8, a, rng.integers(0, 4, 4000))
    codes = np.column_stack([a, b, rng.normal(size=4000)])
    factors = pd.DataFrame({"a": a.astype(str), "b": b.astype(str)})
    assert metrics.mig(codes, factors)["a"] == pytest.approx(0.43, abs=0.02)
    assert metrics.mig(codes, factors, confounder="b")["a"] >= 0.9
    outside = metrics.mig(codes, factors[["a"]], confounder=factors["b"])
    assert outside["a"] == metrics.mig(codes, factors, confounder="b")["a"]
    assert np.isnan(metrics.mig(codes[:300], factors[:300], confounder="b")["a"])
    with pytest.raises(ValueError, match="Did you mean 'b'"):
        metrics.mig(codes, factors.rename(columns={"a": "other"}), confounder="B")


@pytest.mark.parametrize(
    ("codes", "factors", "error", "match"),
    [
        (np.zeros(5), pd.DataFrame({"y": list("aabbb")}), ValueError, "at least one dimension"),
        (np.zeros((5, 0)), pd.DataFrame({"y": list("aabbb")}), ValueError, "at least one dimension"),
        (np.full((5, 2), np.nan), pd.DataFrame({"y": list("aabbb")}), ValueError, "NaN or infinite"),
        (np.array([["a", "b"]] * 5), pd.DataFrame({"y": list("aabbb")}), TypeError, "numbers"),
        (np.zeros((5, 2)), pd.DataFrame({"y": list("aab")}), ValueError, "3 rows"),
        (np.zeros((5, 2)), pd.DataFrame(index=range(5)), ValueError, "no columns"),
        (np.zeros((5, 2)), pd.DataFrame({"y": [1.0, np.inf, 1, 2, 3]}), ValueError, "infinite"),
        (np.zeros((5, 2)), pd.DataFrame({"y": pd.date_range("2024", periods=5)}), TypeError, "dates"),
        (np.zeros((5, 2)), pd.DataFrame([[1, 2]] * 5, columns=["y", "y"]), ValueError, "twice"),
    ],
)
def test_bad_input_is_one_clear_error(codes, factors, error, match):
    with pytest.raises(error, match=match):
        metrics.mig(codes, factors)


def test_unknown_options_name_the_nearest():
    codes, factors = np.zeros((5, 2)), pd.DataFrame({"y": list("aabbb")})
    with pytest.raises(ValueError, match="Did you mean 'quantile'"):
        metrics.mig(codes, factors, binning="quantiles")
    with pytest.raises(ValueError, match="Did you mean 'miller_madow'"):
        metrics.mig(codes, factors, correction="miller-madow")
    with pytest.raises(ValueError, match="boolean mask"):
        metrics.mig(codes, factors, active=[0, 1])
    with pytest.raises(ValueError, match="at least 2"):
        metrics.mig(codes, factors, n_bins=1)


def test_cells_on_a_cut_go_towards_the_middle():
    # With four bins of 30 cells, the cells of rank 7 and 22 lie exactly on a cut.
    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(30, 8)), pd.DataFrame({"y": rng.integers(0, 3, 30).astype(str)})
    turned = metrics.mutual_information_matrix(-codes, factors, n_bins=4, correction=None)
    pd.testing.assert_frame_equal(turned, metrics.mutual_information_matrix(codes, factors, n_bins=4, correction=None))


def test_cells_without_confounder_are_dropped():
    rng = np.random.default_rng(0)
    factors = pd.DataFrame(rng.integers(0, 3, (1200, 2)).astype(str), columns=["a", "b"])
    codes = factors.to_numpy().astype(float) + rng.normal(size=(1200, 2))
    missing = factors["b"].where(np.arange(1200) >= 300)
    adjusted = metrics.mig(codes, factors[["a"]], confounder=missing)
    kept = metrics.mig(codes[300:], factors[["a"]][300:], confounder=factors["b"][300:])
    assert adjusted["a"] == pytest.approx(kept["a"], abs=1e-12)


def test_correction_of_weighted_tables_removes_the_bias_of_noise():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 2000)
    b = np.where(rng.random(2000) < 0.7, a, rng.integers(0, 4, 2000))
    bins = rng.integers(0, 11, (300, 2000))
    weighted = _contingency.weighted_tables(_contingency.count_tables(bins, 4 * a + b, 11, 16), 4)
    for read in (_contingency.mutual_information, _contingency.class_information):
        plug_in, corrected = (read(weighted, correct=correct).mean() for correct in (False, True))
        assert abs(corrected) < 0.1 * plug_in
    # Unweighted, the bias would be that of 2000 cells; weights leave the information of fewer.
    assert _contingency.mutual_information(weighted, correct=False).mean() > 1.5 * 10 * 3 / (2 * 2000)
