"""Classifiers: perfect, chance, rare classes, held-out cells, and the batch accuracy that other covariates imply."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbetavae import metrics
from scbetavae.metrics import expected_accuracy, knn_accuracy, random_forest_accuracy
from scbetavae.metrics._checks import check_column
from scbetavae.metrics._held_out import make_plan
from scbetavae.metrics.integration import _classifiers

CLASSIFIERS = [knn_accuracy, random_forest_accuracy]


def one_hot(labels):
    return (np.asarray(labels)[:, None] == np.unique(labels)).astype(float)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_codes_that_are_the_covariate_are_perfect_and_permuted_ones_chance(classifier):
    rng = np.random.default_rng(0)
    labels = rng.choice(["a/b", "c", "d"], 600)
    assert classifier(one_hot(labels), labels) == 1.0
    assert abs(classifier(one_hot(rng.permutation(labels)), labels)) < 0.1
    amount = rng.normal(size=600)
    assert classifier(amount[:, None], amount) > 0.98
    assert abs(classifier(rng.permutation(amount)[:, None], amount)) < 0.05


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_rare_classes_count_as_much_as_others(classifier):
    """Most cells on either side are of the common class: a majority vote would never name the rare one."""
    rng = np.random.default_rng(0)
    rare = np.arange(2000) < 100
    right = rng.random(2000) < np.where(rare, 0.8, 0.2)
    codes = 10.0 * right[:, None] + rng.normal(size=(2000, 1))
    assert 0.2 < classifier(codes, rare) < 0.75  # at best 2 * 0.8 - 1


def test_constant_codes_have_no_accuracy():
    labels = np.repeat(["a", "b"], 100)
    assert knn_accuracy(np.zeros((200, 2)), labels) == pytest.approx(0.0, abs=0.2)
    assert random_forest_accuracy(np.zeros((200, 2)), labels) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_tested_cells_are_told_from_the_others_alone(classifier):
    """Codes tell the label the other way round in tested cells."""
    labels = np.tile(["a", "b"], 200)
    test = np.arange(400) % 4 < 2
    sign = np.where(labels == "a", 1.0, -1.0) * np.where(test, -1.0, 1.0)
    assert classifier(sign[:, None], labels, test=test) == -1.0
    assert classifier(sign[:, None] * np.where(test, -1.0, 1.0)[:, None], labels, test=test) == 1.0


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_donors_are_held_out_whole(classifier):
    """Codes that name the donor tell nothing about the condition of a donor who was not seen."""
    donor = np.repeat(np.arange(12), 40)
    condition = np.where(donor % 2, "treated", "control")
    codes = one_hot(donor)
    assert classifier(codes, condition) > 0.99
    assert classifier(codes, condition, groups=donor) < 0.5
    tested = np.arange(480) % 2 > 0
    assert classifier(codes, condition, groups=donor, test=tested) < 0.5


def test_a_cell_without_label_or_alone_in_its_class_is_left_out():
    labels = np.repeat(["a", "b"], 50).astype(object)
    codes = one_hot(labels)
    labels[[0, 60]] = [None, "once"]
    assert knn_accuracy(codes, labels) == 1.0
    assert np.isnan(knn_accuracy(codes, np.repeat("a", 100)))
    assert np.isnan(knn_accuracy(codes, labels, groups=np.zeros(100)))


def test_a_draw_keeps_the_rare_class(monkeypatch):
    monkeypatch.setitem(_classifiers.LIMITS, "knn", (40, 60))
    rare = np.arange(3000) < 20
    assert knn_accuracy(one_hot(rare), rare) == 1.0
    # Both classes are drawn alike: twenty of each.
    plan = make_plan(check_column(rare, 3000, "rare"), None, None, 0, _classifiers.LIMITS["knn"])
    assert np.bincount(plan.reported.values).tolist() == [20, 20]


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-1e3, 1e3), scale=st.floats(0.1, 10.0), seed=st.integers(0, 10), classes=st.integers(2, 4))
def test_distances_alone_decide(shift, scale, seed, classes):
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(120, 3))
    labels = rng.integers(0, classes, 120).astype(str)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    accuracy = knn_accuracy(codes, labels)
    assert -1 / (classes - 1) <= accuracy <= 1
    assert knn_accuracy(scale * codes @ rotation + shift, labels) == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.7, 0.4), (0.6, 0.2, 0.3)])
def test_expected_accuracy_is_its_closed_form(shares):
    """Batch b holds a share of T cells: with two strata, mean recall is (max_b P(T|b) + max_b P(B|b)) / B."""
    sizes = 400 * np.arange(1, len(shares) + 1)
    batch = np.repeat([f"batch {i}" for i in range(len(shares))], sizes)
    kind = np.concatenate(
        [np.where(np.arange(n) < round(share * n), "T", "B") for share, n in zip(shares, sizes, strict=True)]
    )
    recall = (max(shares) + max(1 - share for share in shares)) / len(shares)
    expected = (recall - 1 / len(shares)) / (1 - 1 / len(shares))
    conserved = pd.DataFrame({"kind": kind, "again": kind})
    assert expected_accuracy(pd.Series(batch), conserved) == pytest.approx(expected, abs=0.005)


def test_expected_accuracy_of_a_number_and_of_what_is_independent():
    rng = np.random.default_rng(0)
    batch = np.repeat(["1", "2"], 300)
    assert expected_accuracy(batch, pd.DataFrame({"age": rng.normal(size=600) + 10 * (batch == "1")})) > 0.95
    independent = pd.DataFrame({"age": rng.normal(size=600), "kind": np.tile(["B", "T"], 300)})
    assert abs(expected_accuracy(batch, independent)) < 0.2
    assert abs(expected_accuracy(batch, independent[["kind"]])) < 0.15
    missing = pd.Series(np.where(batch == "1", "T", "B")).where(np.arange(600) % 3 > 0)
    assert expected_accuracy(batch, missing.to_frame("kind")) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": np.ones(50, dtype=bool)}, "holds all cells"),
        ({"test": np.zeros(50, dtype=bool)}, "holds no cells"),
        ({"test": np.ones(49, dtype=bool)}, "boolean mask"),
        ({"test": np.ones(50)}, "boolean mask"),
        ({"n_neighbors": 0}, "at least 1"),
        ({"covariate": ["a"] * 49}, "one row per cell"),
        ({"codes": np.full((50, 2), np.nan)}, "NaN"),
        ({"groups": [None] + ["d"] * 49}, "groups"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"codes": np.zeros((50, 2)), "covariate": np.arange(50) % 2 > 0} | change
    with pytest.raises(ValueError, match=message):
        metrics.knn_accuracy(**arguments)
