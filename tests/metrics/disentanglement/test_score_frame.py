"""The tidy frame: null, p-value, ceiling, interval, flags, and unusual input."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from scbetavae import metrics

COLUMNS = [
    "metric", "covariate", "level", "value", "null", "p_value", "ceiling", "normalized", "ci_low", "ci_high",
    "n_cells", "n_classes", "flag",
]  # fmt: skip
CHEAP = ("mig", "sap", "modularity", "dcimig", "mig_sup", "class_alignment")


@pytest.fixture(scope="module")
def frame(base):
    return metrics.score_frame(*base, n_permutations=50, n_bootstrap=50)


def select(frame, metric, covariate="all"):
    return frame[(frame["metric"] == metric) & (frame["covariate"] == covariate)].iloc[0]


def test_columns_and_types(frame):
    assert frame.columns.tolist() == COLUMNS
    assert (frame[COLUMNS[3:10]].dtypes == np.float64).all()
    assert (frame[["n_cells", "n_classes"]].dtypes == np.int64).all()
    assert frame["flag"].map(type).eq(str).all()
    assert not frame.duplicated(["metric", "covariate", "level"]).any()


def test_values_are_those_of_the_single_functions(base, frame):
    codes, factors = base
    for metric, score in (("mig", metrics.mig(codes, factors)), ("sap", metrics.sap(codes, factors))):
        rows = frame[frame["metric"] == metric].set_index("covariate")["value"]
        np.testing.assert_allclose(rows[score.index], score, atol=1e-12)
        assert rows["all"] == pytest.approx(score.mean())
    for metric in ("modularity", "dcimig", "mig_sup"):
        assert select(frame, metric)["value"] == pytest.approx(getattr(metrics, metric)(codes, factors))
    alignment = metrics.class_alignment(codes, factors)
    assert select(frame, "msgs", "four")["value"] == pytest.approx(alignment.loc["four", "msgs"])
    result = metrics.dci(codes, factors)
    assert select(frame, "dci_disentanglement")["value"] == result.disentanglement
    assert select(frame, "dci_completeness")["value"] == result.completeness


def test_aligned_codes_reach_the_ceiling(frame):
    for metric in ("mig", "sap", "dcimig", "modularity", "dci_disentanglement", "dci_completeness"):
        row = select(frame, metric)
        assert row["normalized"] == pytest.approx(1, abs=0.06)
        assert row["p_value"] < 0.05
        assert row["ci_low"] <= row["value"] <= row["ci_high"] <= 1
        assert row["ci_high"] - row["ci_low"] < 0.1


def test_rotated_codes_score_below_aligned_ones(frame, base, rotated):
    turned = metrics.score_frame(rotated, base[1], metrics=("mig", "sap", "dci"), n_permutations=10, n_bootstrap=20)
    for metric in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert select(turned, metric)["ci_high"] < select(frame, metric)["ci_low"]
        assert select(turned, metric)["normalized"] < select(frame, metric)["normalized"] - 0.2


@pytest.mark.parametrize("seed", range(3))
def test_noise_scores_nothing(base, seed):
    factors = base[1]
    codes = np.random.default_rng(100 + seed).normal(size=(4000, 10))
    names = ("mig", "sap", "dcimig", "mig_sup", "class_alignment", "dci", "explicitness")
    frame = metrics.score_frame(codes, factors, metrics=names, seed=seed)
    known = frame.dropna(subset="normalized")
    known = known[known["metric"] != "explicitness"]
    assert len(known) > 15
    assert (known["normalized"].abs() < 0.03).all()
    gaps = known[known["metric"].isin(["mig", "sap", "dcimig"])]
    assert (gaps.loc[gaps["covariate"] != "all", "ci_low"] <= 0).all()
    # A mean of gaps, or a best of many, is above 0 for noise too: there the interval holds the null.
    tables = known[~known["metric"].str.startswith("dci_")]
    assert ((tables["ci_low"] <= tables["null"]) & (tables["null"] <= tables["ci_high"])).mean() > 0.9
    explicit = frame[frame["metric"] == "explicitness"]
    assert explicit["value"].between(0.45, 0.55).all()


def test_p_values_on_noise_are_uniform():
    p_values = {"mig": [], "sap": [], "number": [], "modularity": [], "msgs": []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        factors = pd.DataFrame({"a": rng.integers(0, 3, 150).astype(str), "number": rng.normal(size=150)})
        frame = metrics.score_frame(
            rng.normal(size=(150, 3)),
            factors,
            metrics=("mig", "sap", "modularity", "msgs"),
            n_permutations=39,
            n_bootstrap=0,
            seed=seed,
        )
        for metric in ("mig", "sap", "msgs"):
            p_values[metric].append(select(frame, metric, "a")["p_value"])
        p_values["modularity"].append(select(frame, "modularity")["p_value"])
        p_values["number"].append(select(frame, "sap", "number")["p_value"])
    # P-values are multiples of 1/40; spread each over its step to compare with the continuous uniform.
    jitter = np.random.default_rng(0).uniform(0, 1 / 40, 200)
    for metric, values in p_values.items():
        assert stats.kstest(np.array(values) - jitter, "uniform").pvalue > 0.01, metric


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("agreement", [0.0, 0.5, 0.8, 0.9])
def test_ceiling_of_confounded_covariates(agreement, noise):
    rng = np.random.default_rng(1)
    a = rng.integers(0, 4, 4000)
    b = np.where(rng.random(4000) < agreement, a, rng.integers(0, 4, 4000))
    codes = rng.normal(size=(4000, 6))
    codes[:, :2] = np.column_stack([a, b]) + noise * codes[:, :2]
    factors = pd.DataFrame({"a": a.astype(str), "b": b.astype(str)})
    frame = metrics.score_frame(codes, factors, metrics=("mig", "sap"), n_permutations=30, n_bootstrap=0)
    assert frame.loc[frame["metric"] == "mig", "normalized"].to_numpy() == pytest.approx(1, abs=0.05)
    if agreement == 0.8:
        weighted = metrics.score_frame(
            codes, factors, metrics=("mig", "sap", "msgs", "dcimig"), confounder="b", n_permutations=30, n_bootstrap=30
        )
        row = select(weighted, "mig", "a")
        assert row["value"] >= 0.9
        assert row["normalized"] == pytest.approx(1, abs=0.05)
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert "effective sample size" in row["flag"]
        assert select(weighted, "mig", "b")["value"] == select(frame, "mig", "b")["value"]
        assert "not adjusted for b" in select(weighted, "sap", "a")["flag"]


def test_near_aliases_are_not_adjusted():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 3000)
    b = np.where(rng.random(3000) < 0.995, a, rng.integers(0, 4, 3000))
    factors = pd.DataFrame({"a": a.astype(str), "b": b.astype(str)})
    codes = np.column_stack([a, b, rng.normal(size=3000)])
    row = select(metrics.score_frame(codes, factors, metrics="mig", n_bootstrap=0), "mig", "a")
    assert row["ceiling"] - row["null"] < 0.05
    assert np.isnan(row["normalized"])
    assert "not normalized" in row["flag"]
    refused = select(metrics.score_frame(codes, factors, metrics="mig", confounder="b"), "mig", "a")
    assert np.isnan(refused["value"])
    assert "not adjusted for b" in refused["flag"]


def test_random_tables_agree_with_shuffles(base, monkeypatch):
    from scbetavae.metrics import _resampling

    codes, factors = base[0].copy(), base[1][["four"]]
    codes[:, 5] = codes[:, 5].round()  # ties give this dimension margins of its own
    shuffled = select(metrics.score_frame(codes, factors, metrics="mig", n_bootstrap=0), "mig", "four")
    monkeypatch.setattr(_resampling, "_SHUFFLE_COST", 0)
    drawn = select(metrics.score_frame(codes, factors, metrics="mig", n_bootstrap=0), "mig", "four")
    assert drawn["null"] == pytest.approx(shuffled["null"], rel=0.25)
    assert drawn["null"] != shuffled["null"]


def test_interval_covers_under_resampling():
    values, widths = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 3, 400)
        codes = np.column_stack([label + rng.normal(size=400), rng.normal(size=(400, 2))])
        frame = metrics.score_frame(codes, pd.DataFrame({"y": label.astype(str)}), metrics="mig", n_permutations=0)
        row = select(frame, "mig", "y")
        values.append(row["value"])
        widths.append((row["ci_high"] - row["ci_low"]) / (2 * stats.t.ppf(0.975, 99)))
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.35)


def test_donors_widen_the_interval_and_carry_the_permutation():
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(10), 200)
    shift = rng.normal(size=(10, 3))
    codes = shift[donor] + 0.5 * rng.normal(size=(2000, 3))
    factors = pd.DataFrame({"status": np.where(donor % 2, "case", "control"), "age": donor * 1.0})
    by_cell = metrics.score_frame(codes, factors, metrics=("mig", "sap"))
    by_donor = metrics.score_frame(codes, factors, metrics=("mig", "sap"), groups=donor)
    for metric, covariate in (("mig", "status"), ("sap", "age")):
        cell, grouped = select(by_cell, metric, covariate), select(by_donor, metric, covariate)
        assert cell["value"] == grouped["value"]
        assert cell["p_value"] < 0.02
        assert grouped["p_value"] > 0.05
        assert grouped["ci_high"] - grouped["ci_low"] > 2 * (cell["ci_high"] - cell["ci_low"])


def test_a_covariate_that_names_the_groups_is_permuted_by_cell():
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(6), 80)
    codes = np.column_stack([donor + 0.3 * rng.normal(size=480), rng.normal(size=480)])
    factors = pd.DataFrame({"donor": [f"D{d}" for d in donor], "noise": rng.integers(0, 2, 480).astype(str)})
    frame = metrics.score_frame(codes, factors, groups=donor, metrics=("mig", "dci", "explicitness"))
    for metric in ("mig", "dci_informativeness", "explicitness"):
        assert select(frame, metric, "donor")["p_value"] < 0.02
        assert select(frame, metric, "donor")["normalized"] > 0.5
    assert select(frame, "dci_disentanglement")["flag"] == "only one covariate with accuracy above permuted labels"


def test_few_groups_are_flagged(base):
    codes, factors = base[0][:300], base[1][["binary"]][:300]
    one = metrics.score_frame(codes, factors, metrics="mig", groups=np.zeros(300), n_permutations=5)
    assert one["ci_low"].isna().all()
    assert one["flag"].str.contains("one group").all()
    three = metrics.score_frame(codes, factors, metrics="mig", groups=np.arange(300) % 3, n_permutations=5)
    assert three["flag"].str.contains("3 groups").all()


def test_flags_name_the_reason():
    rng = np.random.default_rng(0)
    factors = pd.DataFrame(
        {
            "fine": rng.integers(0, 2, 80).astype(str),
            "one": "x",
            "empty": [None] * 80,
            "number": rng.normal(size=80),
            "single": ["rare", *["a", "b"] * 39, "a"],
        }
    )
    codes = rng.normal(size=(80, 2))
    frame = metrics.score_frame(codes, factors, n_permutations=5, n_bootstrap=5)
    mig = frame[frame["metric"] == "mig"].set_index("covariate")
    assert mig.loc["one", "flag"] == "one class"
    assert mig.loc["empty", "flag"] == "0 labeled cells"
    assert mig.loc["empty", "n_cells"] == 0
    assert "class of one cell: rare" in mig.loc["single", "flag"]
    assert "without one, empty" in mig.loc["all", "flag"]
    assert select(frame, "lms", "number")["flag"] == "a numeric covariate has no classes"
    narrow = metrics.score_frame(codes[:, :1], factors[["fine"]], n_permutations=5, n_bootstrap=5)
    assert select(narrow, "mig", "fine")["flag"] == "one dimension"
    assert select(narrow, "modularity")["flag"] == "one covariate"
    dead = metrics.score_frame(np.zeros((80, 3)), factors[["fine", "number"]], n_permutations=5, n_bootstrap=5)
    assert dead["flag"].str.contains("no active dimension").all()
    assert select(dead, "mig")["value"] == 0


def test_every_undefined_value_has_a_reason(frame):
    assert (frame.loc[frame["value"].isna(), "flag"] != "").all()


def test_same_seed_same_frame(base):
    codes, factors = base[0][:400], base[1][:400]
    twice = [metrics.score_frame(codes, factors, n_permutations=5, n_bootstrap=5, seed=3) for _ in range(2)]
    pd.testing.assert_frame_equal(*twice)


def test_unknown_metric_names_the_nearest(base):
    with pytest.raises(ValueError, match="Did you mean 'mig'"):
        metrics.score_frame(*base, metrics="migg")
    with pytest.raises(ValueError, match=r"Call `scbetavae.metrics.udr`"):
        metrics.score_frame(*base, metrics=["udr"])
    with pytest.raises(ValueError, match="empty"):
        metrics.score_frame(*base, metrics=[])
    with pytest.raises(ValueError, match="n_permutations"):
        metrics.score_frame(*base, n_permutations=-1)


def test_records():
    for name, record in metrics.SCORES.items():
        assert record.name == name
        assert record.lowest < record.highest
        with pytest.raises(AttributeError):
            record.name = "other"
    assert metrics.score_names("dci") == ["dci_disentanglement", "dci_completeness", "dci_informativeness"]


LABELS = st.sampled_from(["a", "b", "CD8+/CD45RA+", "", None, np.nan, True, 3, 2.5])


@st.composite
def column(draw, n_cells):
    kind = draw(
        st.sampled_from(["mixed", "float", "int", "bool", "category", "constant", "missing", "string", "Int64"])
    )
    seed = draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    if kind == "mixed":
        return pd.Series([draw(LABELS) for _ in range(n_cells)], dtype=object)
    values = rng.integers(0, draw(st.integers(1, 5)), n_cells)
    series = {
        "float": lambda: pd.Series(np.where(values == 0, np.nan, rng.normal(size=n_cells))),
        "int": lambda: pd.Series(values),
        "bool": lambda: pd.Series(values > 0),
        "category": lambda: pd.Series(pd.Categorical(values, categories=range(9))),
        "constant": lambda: pd.Series(["x"] * n_cells, dtype=object),
        "missing": lambda: pd.Series([None] * n_cells, dtype=object),
        "string": lambda: pd.Series(values).astype("string").where(values > 0),
        "Int64": lambda: pd.Series(values, dtype="Int64").where(values > 0),
    }
    return series[kind]()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_mixture_gives_a_frame(data):
    n_cells = data.draw(st.sampled_from([0, 1, 2, 3, 5, 12, 40]))
    n_dims = data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    codes = rng.normal(size=(n_cells, n_dims)) * data.draw(st.sampled_from([0.0, 1e-200, 1.0, 1e150]))
    codes[:, 0] = data.draw(st.sampled_from([0.0, 1.0])) * np.round(codes[:, 0])
    factors = pd.DataFrame({f"c{i}": data.draw(column(n_cells)) for i in range(data.draw(st.integers(1, 3)))})
    groups = data.draw(st.sampled_from([None, rng.integers(0, 3, n_cells)]))
    adjust = data.draw(st.sampled_from([None, "c0"]))
    names = data.draw(st.sampled_from([CHEAP, ("dci", "explicitness")]))
    frame = metrics.score_frame(
        codes, factors, groups=groups, confounder=adjust, metrics=names, n_permutations=3, n_bootstrap=4
    )
    numbers = frame[COLUMNS[3:10]].to_numpy()
    assert not np.isinf(numbers).any()
    assert (frame.loc[frame["value"].isna(), "flag"] != "").all()
    ordered = frame.dropna(subset=["ci_low", "ci_high"])
    assert ((ordered["ci_low"] <= ordered["value"]) & (ordered["value"] <= ordered["ci_high"])).all()
    table = metrics.dimension_covariate_table(codes, factors)
    assert table["dimension"].nunique() == n_dims
    metrics.covariate_association(factors)
    for function in (
        metrics.mig,
        metrics.sap,
        metrics.modularity,
        metrics.dcimig,
        metrics.mig_sup,
        metrics.class_alignment,
    ):
        function(codes, factors)


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_surrogates_and_parity_modes_take_any_mixture(data):
    n_cells = data.draw(st.sampled_from([0, 1, 2, 3, 12, 40]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    codes = rng.normal(size=(n_cells, 2))
    factors = pd.DataFrame({f"c{i}": data.draw(column(n_cells)) for i in range(2)})
    metrics.betavae_score(codes, factors, n_train=20, n_test=5)
    metrics.factorvae_score(codes, factors, n_train=20, n_test=5)
    metrics.sap(codes, factors, method="linear_svm")
    metrics.mig(codes, factors, binning="width")
    metrics.dci(codes, factors, importance="gbt")
    metrics.gaussian_total_correlation(codes)


def test_no_covariate_with_two_classes_leaves_every_score_undefined():
    codes = np.random.default_rng(0).normal(size=(60, 3))
    frame = metrics.score_frame(codes, pd.DataFrame({"same": ["x"] * 60}), n_permutations=5, n_bootstrap=5)
    assert frame["value"].isna().all()
    assert set(frame.loc[frame["covariate"] == "all", "flag"]) == {"no covariate with two classes"}
