"""SAP and its parity mode."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split
from sklearn.svm import LinearSVC

from scbetavae import metrics
from scbetavae.metrics._contingency import one_dimension_accuracy


def test_parity_with_disentanglement_lib():
    rng = np.random.default_rng(0)
    factors = pd.DataFrame({"a": rng.integers(0, 3, 300), "b": rng.normal(size=300)})
    codes = rng.normal(size=(300, 4)) + factors[["a", "b", "a", "b"]].to_numpy() * [2, 1, 0.5, 0.1]
    train, test = train_test_split(np.arange(300), test_size=1 / 3, random_state=0)
    accuracy = []
    for code in codes.T:
        model = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(code[train, None], factors["a"][train])
        accuracy.append((model.predict(code[test, None]) == factors["a"][test]).mean())
    explained = [np.corrcoef(code, factors["b"])[0, 1] ** 2 for code in codes.T]
    expected = [np.diff(np.sort(scores)[-2:]).item() for scores in (accuracy, explained)]
    np.testing.assert_allclose(metrics.sap(codes, factors, method="linear_svm"), expected, atol=1e-12)


def test_linear_svm_misreads_an_ordinal_code():
    label = np.random.default_rng(0).integers(0, 10, 1500)
    codes = np.column_stack([label, np.random.default_rng(1).normal(size=1500)]).astype(float)
    factors = pd.DataFrame({"y": label.astype(str)})
    assert metrics.sap(codes, factors, method="linear_svm")["y"] < 0.4
    assert metrics.sap(codes, factors)["y"] > 0.95


def test_numeric_covariate_is_spearman_squared():
    rng = np.random.default_rng(0)
    y = rng.normal(size=500)
    codes = np.column_stack([y + rng.normal(size=500), y + 3 * rng.normal(size=500)])
    squared = pd.DataFrame(np.column_stack([codes, y])).corr("spearman").to_numpy()[2, :2] ** 2
    assert metrics.sap(codes, pd.DataFrame({"y": y}))["y"] == pytest.approx(squared[0] - squared[1])


def test_accuracy_leaves_each_cell_out():
    rng = np.random.default_rng(0)
    bins, labels = rng.integers(0, 4, 60), np.r_[rng.integers(0, 3, 59), 3]  # class 3 has one cell
    table = np.zeros((1, 4, 4))
    np.add.at(table[0], (bins, labels), 1)
    recall = np.zeros(3)
    for cell in np.flatnonzero(labels < 3):
        rest = np.arange(60) != cell
        size = np.bincount(labels[rest], minlength=4)
        share = np.array([((bins[rest] == bins[cell]) & (labels[rest] == c)).sum() / size[c] for c in range(3)])
        # The other classes' sizes do not change when a cell of this class is left out.
        recall[labels[cell]] += share[labels[cell]] / share.sum() / (labels == labels[cell]).sum()
    expected = (recall.mean() - 1 / 3) / (1 - 1 / 3)
    assert one_dimension_accuracy(table)[0] == pytest.approx(expected)


def test_a_constant_dimension_predicts_nothing():
    table = np.array([[[10.0, 5.0, 3.0]]])
    assert one_dimension_accuracy(table)[0] == pytest.approx(0.0)
