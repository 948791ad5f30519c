"""k-means and labels: the adjusted Rand index by its definition."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans

from scbetavae.metrics import kmeans_ari


def by_pairs(first, second):
    """Adjusted Rand index from the pairs of cells that two partitions put together."""
    pairs = list(combinations(range(len(first)), 2))
    together = np.array([[first[i] == first[j], second[i] == second[j]] for i, j in pairs])
    both, a, b = (together.all(axis=1).sum(), *together.sum(axis=0))
    expected = a * b / len(pairs)
    return (both - expected) / ((a + b) / 2 - expected)


def test_definition():
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], 60)
    codes = rng.normal(size=(60, 2)) + 2 * (labels == "a")[:, None]
    clusters = KMeans(3, n_init=10, random_state=4).fit_predict(codes)
    assert kmeans_ari(codes, labels, seed=4) == pytest.approx(by_pairs(labels, clusters))


def test_numbers_are_names_and_missing_labels_are_left_out():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    codes = rng.normal(size=(90, 2)) + 30 * np.eye(3, 2)[labels]
    assert kmeans_ari(codes, labels) == 1
    missing = pd.Series(labels, dtype="Int64").where(np.arange(90) > 9)
    codes[:10] = rng.normal(scale=100, size=(10, 2))
    assert kmeans_ari(codes, missing) == 1


def test_undefined_and_refused():
    assert np.isnan(kmeans_ari(np.zeros((5, 2)), ["a"] * 5))
    assert kmeans_ari(np.zeros((4, 2)), ["a", "b", "a", "b"]) == 0  # collapsed codes: one cluster
    with pytest.raises(ValueError, match="one row per cell"):
        kmeans_ari(np.zeros((5, 2)), ["a", "b"])
