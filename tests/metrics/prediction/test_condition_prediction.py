"""Prediction of a covariate: closed forms, calibration under the null, donors, and what must not matter."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scbetavae.metrics import condition_prediction

N_SEEDS = 50
QUICK = {"n_permutations": 0, "n_bootstrap": 0}


def dimensions(frame):
    return frame[frame["predictor"] == "dimension"].reset_index(drop=True)


def row(frame, predictor):
    (found,) = frame[frame["predictor"] == predictor].itertuples()
    return found


def donors(n_donors, n_cells, seed=0):
    """Donor of every cell, and a class per donor, in turn."""
    of_cell = np.random.default_rng(seed).integers(0, n_donors, n_cells)
    return of_cell, np.where(of_cell % 2 == 0, "case", "control")


@pytest.mark.parametrize("share", [0.5, 0.2])
@pytest.mark.parametrize("distance", [0.5, 1.0, 3.0])
def test_accuracy_is_that_of_two_overlapping_normals(distance, share):
    """Balanced accuracy Phi(d / 2) and area Phi(d / sqrt(2)), for any share of the classes."""
    rng = np.random.default_rng(1)
    n_cells = 20_000
    label = rng.random(n_cells) < share
    codes = np.column_stack([rng.normal(size=n_cells), rng.normal(size=n_cells) - distance * label])
    best = dimensions(condition_prediction(codes, label, **QUICK)).iloc[1]
    accuracy = stats.norm.cdf(distance / 2)
    error = 2 * np.sqrt(accuracy * (1 - accuracy) / (4 * n_cells) * (1 / share + 1 / (1 - share)))
    assert abs(best["accuracy"] - (2 * accuracy - 1)) < 3.5 * error
    area = stats.norm.cdf(distance / np.sqrt(2))
    assert abs(best["auroc"] - area) < 3 * np.sqrt(area * (1 - area) / (min(share, 1 - share) * n_cells))
    assert best["direction"] == "False"


def test_accuracy_of_a_number_is_the_squared_correlation():
    rng = np.random.default_rng(2)
    age = rng.uniform(20, 80, 8000)
    noise = rng.normal(size=8000) * age.std()
    codes = np.column_stack([age + noise, -age + 0 * noise, rng.normal(size=8000)])
    frame = dimensions(condition_prediction(codes, age, **QUICK))
    np.testing.assert_allclose(frame["accuracy"], [0.5, 1.0, 0.0], atol=0.025)
    assert frame["direction"].tolist()[:2] == ["+", "-"]
    assert frame["auroc"].isna().all()


def test_three_classes_in_a_row_are_told_by_one_dimension():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, 3000)
    codes = np.column_stack([10.0 * label + rng.normal(size=3000), rng.normal(size=3000)])
    frame = condition_prediction(codes, np.array(["a/1", "b", "c"])[label], **QUICK)
    assert frame["accuracy"].iloc[0] > 0.99
    assert frame["auroc"].iloc[0] > 0.99
    assert frame["direction"].iloc[0] == "c"
    assert frame["n_classes"].iloc[0] == 3


def test_two_dimensions_tell_what_neither_does():
    rng = np.random.default_rng(4)
    shared, label = rng.normal(size=2000), rng.integers(0, 2, 2000)
    codes = np.column_stack([10 * shared + label, 10 * shared - label]) + 0.05 * rng.normal(size=(2000, 2))
    frame = condition_prediction(codes, label.astype(str), **QUICK)
    assert dimensions(frame)["accuracy"].max() < 0.2
    assert row(frame, "all").accuracy > 0.98


def test_beyond_technical_is_what_a_dimension_adds():
    rng = np.random.default_rng(5)
    label = rng.integers(0, 2, 3000)
    size = label + 0.7 * rng.normal(size=3000)
    codes = np.column_stack(
        [size + 0.01 * rng.normal(size=3000), label + 0.3 * rng.normal(size=3000), rng.normal(size=3000)]
    )
    frame = condition_prediction(codes, label.astype(str), technical_covariates=size[:, None], n_permutations=0)
    beyond = dimensions(frame)["beyond_technical"]
    assert dimensions(frame)["accuracy"][0] == pytest.approx(row(frame, "technical").accuracy, abs=0.02)
    np.testing.assert_allclose(beyond, [0, row(frame, "all").accuracy - row(frame, "technical").accuracy, 0], atol=0.02)
    assert frame["beyond_low"][1] > 0.2
    assert frame["beyond_low"][0] < 0.01
    assert np.isnan(row(frame, "technical").beyond_technical)


def test_technicals_worse_than_chance_do_not_make_a_dimension_look_better():
    """The donors of one sex have other sizes in every fold, so that sizes mislead."""
    donor, sex = donors(8, 800)
    rng = np.random.default_rng(6)
    size = np.array([1.0, 0.9, -1.0, -0.9, 1.0, 0.9, -1.0, -0.9])[donor] + 0.1 * rng.normal(size=800)
    codes = rng.normal(size=(800, 2)) + (sex == "case")[:, None]
    for seed in range(20):
        frame = condition_prediction(codes, sex, groups=donor, technical_covariates=size[:, None], seed=seed, **QUICK)
        if row(frame, "technical").accuracy < -0.3:
            break
    assert row(frame, "technical").accuracy < -0.3
    both = np.column_stack([size, codes[:, 0]])
    together = row(condition_prediction(both, sex, groups=donor, seed=seed, **QUICK), "all").accuracy
    assert frame["beyond_technical"][0] == pytest.approx(together, abs=1e-9)


def test_without_technical():
    rng = np.random.default_rng(6)
    frame = condition_prediction(rng.normal(size=(60, 2)), rng.integers(0, 2, 60).astype(str), **QUICK)
    assert np.isnan(row(frame, "technical").accuracy)
    assert row(frame, "technical").flag == "no technical covariates given"
    assert frame["beyond_technical"].isna().all()


@pytest.mark.parametrize("kind", ["classes", "donor classes", "donor numbers", "within donors"])
def test_p_values_of_noise_are_uniform(kind):
    """A dimension that is noise, or (with donors) differs between donors for no reason that concerns the covariate."""
    p_values, normalized, accuracies = [], [], []
    for seed in range(N_SEEDS):
        rng = np.random.default_rng(1000 + seed)
        donor = np.repeat(np.arange(12), 10) if kind != "classes" else None
        codes = rng.normal(size=(120, 3))
        if donor is not None:
            codes += rng.normal(size=(12, 3))[donor]
        if kind == "donor classes":
            label = np.where(rng.permutation(12) < 5, "a", "b")[donor]
        elif kind == "donor numbers":
            label = rng.uniform(20, 80, 12)[donor]
        elif kind == "within donors":  # classes are unevenly spread over donors
            label = np.where(rng.random(120) < rng.uniform(0.1, 0.9, 12)[donor], "a", "b")
        else:
            label = np.where(rng.random(120) < 0.3, "a", "b")
        frame = dimensions(
            condition_prediction(codes, label, groups=donor, n_permutations=19, n_bootstrap=0, seed=seed)
        )
        p_values.append(frame["p_value"][0])
        normalized.append(frame["p_adjusted"].min())
        accuracies.append(frame["accuracy"][0])
    assert stats.kstest(np.array(p_values) - rng.random(N_SEEDS) / 20, "uniform").pvalue > 0.005
    # One family-wise error in twenty, for any number of dimensions.
    assert stats.binom.sf(sum(p <= 0.05 for p in normalized) - 1, N_SEEDS, 0.05) > 0.005
    if kind == "classes":
        assert abs(np.mean(accuracies)) < 3 * np.std(accuracies) / np.sqrt(N_SEEDS)


def test_the_null_is_that_of_refitted_models():
    """The sign is learned from the other folds, so that the accuracies of the folds go together and their sum spreads more."""
    rng = np.random.default_rng(7)
    of_fold = rng.normal(size=(100_000, 4))
    spread = (of_fold * np.sign(of_fold.sum(axis=1, keepdims=True) - of_fold)).sum(axis=1) / 2
    low, high = np.quantile(spread, [0.025, 0.975])  # -1.96 and 1.96, were the sign known
    frame = condition_prediction(rng.normal(size=(400, 6)), np.arange(400) % 2 > 0, n_permutations=300, n_bootstrap=0)
    error = 1 / np.sqrt(400)  # of a accuracy whose sign is known
    width = (dimensions(frame)["null_high"] - dimensions(frame)["null_low"]).mean() / error
    assert width == pytest.approx(high - low, abs=0.4)  # 4.6
    assert width > 2 * 1.96 + 0.25


def test_a_code_of_donors_tells_their_sex_only_of_known_donors():
    donor, sex = donors(8, 1600)
    position = np.random.default_rng(1).permutation(8)
    rng = np.random.default_rng(2)
    # Every donor sits somewhere else, and the sexes take turns on the circle.
    angle = 2 * np.pi * position[donor] / 8
    codes = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.02 * rng.normal(size=(1600, 2))
    codes = np.column_stack([codes, np.eye(8)[donor][:, :7] + 0.02 * rng.normal(size=(1600, 7))])
    by_cell = condition_prediction(codes, sex, n_permutations=50, n_bootstrap=0)
    by_donor = condition_prediction(codes, sex, groups=donor, n_permutations=50, n_bootstrap=0)
    assert row(by_cell, "all").accuracy > 0.99
    assert row(by_cell, "all").p_value < 0.05
    assert row(by_donor, "all").accuracy < 0.5
    assert row(by_donor, "all").p_value > 0.05
    assert (dimensions(by_cell)["p_adjusted"] < 0.05).any()
    assert not (dimensions(by_donor)["p_adjusted"] < 0.05).any()


def test_an_effect_in_every_donor_is_found_with_donors_held_out():
    donor, sex = donors(12, 1200)
    rng = np.random.default_rng(3)
    codes = rng.normal(size=(1200, 3)) + 0.3 * rng.normal(size=(12, 3))[donor]
    codes[:, 1] += 3.0 * (sex == "case")
    frame = condition_prediction(codes, sex, groups=[f"donor {i}" for i in donor])
    assert dimensions(frame)["p_adjusted"][1] < 0.05
    assert frame["n_groups"].eq(12).all()
    assert 0.7 < frame["ci_low"][1] < frame["accuracy"][1] < frame["ci_high"][1] <= 1


def test_interval_covers_and_is_wider_with_donors():
    rng = np.random.default_rng(4)
    donor, sex = donors(12, 2400)
    codes = rng.normal(size=(2400, 1)) + 1.5 * rng.normal(size=12)[donor, None] + (sex == "case")[:, None]
    widths = []
    for groups in (None, donor):
        frame = condition_prediction(codes, sex, groups=groups, n_permutations=0)
        widths.append(frame["ci_high"][0] - frame["ci_low"][0])
    assert widths[1] > 3 * widths[0]
    # Without donors, about the standard error of a mean of cells.
    truth = frame["accuracy"][0]
    assert 0.5 < widths[0] / (4 * np.sqrt((1 - truth**2) / 2400)) < 2


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 100),
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-100, 100),
    signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4),
    order=st.permutations(range(4)),
    numeric=st.booleans(),
)
def test_sign_scale_shift_and_order_of_dimensions_do_not_matter(seed, scale, shift, signs, order, numeric):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, 90)
    codes = rng.normal(size=(90, 4)) + 0.7 * label[:, None] * [1, 0, 1, 0]
    covariate = label + rng.normal(size=90) if numeric else np.array(["a", "b", "c"])[label]
    choice = {
        "n_permutations": 5,
        "n_bootstrap": 5,
        "technical_covariates": rng.normal(size=(90, 1)),
        "active": np.ones(4, bool),
    }
    frame = condition_prediction(codes, covariate, **choice)
    changed = condition_prediction((codes * np.array(signs) + shift)[:, order] * scale, covariate, **choice)
    numbers = ["accuracy", "null", "p_value", "p_adjusted", "ci_low", "ci_high", "auroc", "beyond_technical"]
    index = [*order, 4, 5]
    np.testing.assert_allclose(changed[numbers].to_numpy(), frame[numbers].to_numpy()[index], atol=1e-6, rtol=1e-6)


def test_same_seed_same_frame():
    rng = np.random.default_rng(8)
    codes, label = rng.normal(size=(100, 3)), rng.integers(0, 2, 100).astype(str)
    frames = [condition_prediction(codes, label, seed=seed) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert not frames[0].equals(frames[2])


def test_a_missing_label_and_a_class_of_one_cell_are_left_out():
    rng = np.random.default_rng(9)
    label = np.array(["a", "b"], dtype=object)[rng.integers(0, 2, 100)]
    codes = rng.normal(size=(100, 2)) + 3.0 * (label == "a")[:, None]
    label[:7], label[7] = None, "rare"
    frame = condition_prediction(codes, label, **QUICK)
    assert frame["n_cells"].eq(92).all()
    assert frame["n_classes"].eq(2).all()
    assert "7 cells without a label left out" in frame["flag"][0]
    assert "class of one cell left out: rare" in frame["flag"][0]
    assert set(frame["direction"]) == {"a", ""}
    expected = condition_prediction(codes[8:], label[8:], **QUICK, active=[True, True])
    np.testing.assert_allclose(frame["accuracy"], expected["accuracy"])


def test_inactive_dimensions_take_no_part():
    rng = np.random.default_rng(10)
    label = rng.integers(0, 2, 200)
    codes = np.column_stack([rng.normal(size=200), 1e-4 * label, np.ones(200)])
    frame = condition_prediction(codes, label.astype(str), n_permutations=10)
    assert frame["active"].tolist() == [True, False, False, True, False]
    assert frame.loc[[1, 2], "accuracy"].isna().all()
    assert frame["flag"].tolist()[1:3] == ["not active: takes no part"] * 2
    assert row(frame, "all").accuracy < 0.5


def test_a_collapsed_embedding_predicts_nothing_and_says_so():
    label = np.arange(50) % 2 > 0
    technical_covariates = (label + 0.1 * np.random.default_rng(0).normal(size=50))[:, None]
    frame = condition_prediction(np.ones((50, 3)), label, technical_covariates=technical_covariates, n_permutations=10)
    assert row(frame, "all").accuracy == 0
    assert row(frame, "all").p_value == 1
    assert "no active dimension" in row(frame, "all").flag
    assert row(frame, "technical").accuracy == 1


def test_few_donors_say_what_p_values_are_worth():
    donor, sex = donors(4, 200)
    codes = np.random.default_rng(0).normal(size=(200, 2)) + 5.0 * (sex == "case")[:, None]
    frame = condition_prediction(codes, sex, groups=donor, n_permutations=100)
    assert "2 of 'case', 2 of 'control'" in frame["flag"][0]
    assert "in 6 ways" in frame["flag"][0]
    assert "rough interval: 4 groups" in frame["flag"][0]
    assert frame["accuracy"][0] > 0.9
    assert frame["p_value"][0] > 0.1
    assert frame["ci_low"][0] > 0.9  # draws of one class alone, of which there are many, do not count


def test_a_class_of_one_donor_is_named():
    donor = np.arange(200) % 5
    frame = condition_prediction(
        np.random.default_rng(0).normal(size=(200, 2)), np.where(donor == 4, "rare", "usual"), groups=donor
    )
    assert "of one donor, so not predicted when it is held out: rare" in frame["flag"][0]


def test_a_covariate_that_names_the_donors_is_predicted_on_cells():
    donor = np.arange(200) % 3
    codes = np.random.default_rng(0).normal(size=(200, 2)) + 9.0 * donor[:, None]
    frame = condition_prediction(codes, np.array(["x", "y", "z"])[donor], groups=donor)
    assert "every class is a donor" in frame["flag"][0]
    assert frame["accuracy"][0] > 0.9
    assert frame["p_value"][0] < 0.05


def test_a_covariate_that_hardly_varies_within_donors_is_flagged():
    donor, sex = donors(10, 500)
    sex[np.flatnonzero(donor == 0)[0]] = "control"
    frame = condition_prediction(np.random.default_rng(0).normal(size=(500, 2)), sex, groups=donor, **QUICK)
    assert "varies within 1 of 10 donors" in frame["flag"][0]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"covariate": ["a"] * 40}, ValueError, ["one class", "'a'", "40 cells"]),
        ({"covariate": ["a"] * 39 + ["b"]}, ValueError, ["two classes of two cells", "'b'"]),
        ({"covariate": np.ones(40)}, ValueError, ["one class"]),
        ({"covariate": [np.nan] * 40}, ValueError, ["0 cells"]),
        ({"covariate": [np.nan] * 35 + [0.0, 1.0, 2.0, 3.0, 4.0]}, ValueError, ["fewer than 10"]),
        ({"groups": ["only"] * 40}, ValueError, ["one group", "none can be held out"]),
        ({"groups": [None] * 40}, ValueError, ["missing for 40"]),
        ({"technical_covariates": np.ones((39, 1))}, ValueError, ["(39, 1)", "40"]),
        ({"technical_covariates": np.full((40, 1), np.nan)}, ValueError, ["NaN", "40 cells"]),
        ({"technical_covariates": [["a"]] * 40}, TypeError, ["numbers"]),
        ({"active": [True]}, ValueError, ["boolean mask"]),
        ({"n_permutations": -1}, ValueError, ["n_permutations"]),
        ({"n_bootstrap": 1.5}, ValueError, ["n_bootstrap"]),
    ],
)
def test_mistakes(arguments, error, words):
    codes = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(error) as raised:
        condition_prediction(codes, **({"covariate": ["a", "b"] * 20} | arguments))
    for word in words:
        assert word in str(raised.value)
