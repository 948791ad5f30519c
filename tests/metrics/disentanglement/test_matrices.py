"""Scores of given matrices: closed forms."""

import numpy as np
import pytest

from scbetavae import metrics

FIVE = 5 * np.eye(5)


@pytest.mark.parametrize(
    ("matrix", "disentanglement", "completeness", "modularity"),
    [
        (FIVE, 1, 1, 1),
        ([[1, 0], [0, 1], [0, 0]], 1, 1, 1),
        (np.zeros((5, 5)), 0, 0, 0),
        (np.vstack([FIVE, FIVE]), 1, 1 - np.log(2) / np.log(10), 1),
        (np.hstack([FIVE, FIVE]), 1 - np.log(2) / np.log(10), 1, 1 - 1 / 9),
    ],
)
def test_importance_matrices(matrix, disentanglement, completeness, modularity):
    assert metrics.disentanglement_from_importance(matrix) == pytest.approx(disentanglement)
    assert metrics.completeness_from_importance(matrix) == pytest.approx(completeness)
    assert metrics.modularity_from_mi(matrix) == pytest.approx(modularity)


def test_single_row_or_column_is_undefined():
    assert np.isnan(metrics.disentanglement_from_importance([[1.0], [2.0]]))
    assert np.isnan(metrics.completeness_from_importance([[1.0, 2.0]]))
    assert np.isnan(metrics.modularity_from_mi([[1.0], [2.0]]))


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        (np.eye(3), 1),
        ([[1, 1, 0], [1, 1, 0], [0, 0, 1]], 2 / 3),
        (np.ones((3, 3)), 1 / 3),
        (np.zeros((3, 3)), 0),
    ],
)
def test_udr_matrices(similarity, expected):
    assert metrics.udr_from_similarity(similarity) == pytest.approx(expected)


def test_class_alignment_matrix():
    result = metrics.class_alignment_from_similarity([[0.9, 0.1, 1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.1, 0.9, 0.1]])
    assert (result.lms, result.msas, result.msgs) == pytest.approx((0.9, 2.8 / 3, 0.3))


def test_matching_is_one_to_one():
    result = metrics.class_alignment_from_similarity([[1.0, 1.0, 1.0], [0.0, 0.5, 0.0]])
    assert (result.lms, result.msas) == pytest.approx((1.5 / 3, 1.0))


@pytest.mark.parametrize(
    "function",
    [
        metrics.disentanglement_from_importance,
        metrics.completeness_from_importance,
        metrics.modularity_from_mi,
        metrics.udr_from_similarity,
        metrics.class_alignment_from_similarity,
    ],
)
@pytest.mark.parametrize("matrix", [np.ones(3), [[1.0, -1.0]], [[np.nan, 1.0]]])
def test_bad_matrix(function, matrix):
    with pytest.raises(ValueError, match="finite numbers of at least 0"):
        function(matrix)


def test_total_correlation_closed_form():
    rho = 0.7
    covariance = np.array([[4.0, 2 * rho], [2 * rho, 1.0]])
    expected = -0.5 * np.log(1 - rho**2)
    assert metrics.gaussian_total_correlation_from_covariance(covariance) == pytest.approx(expected)
    assert np.isnan(metrics.gaussian_total_correlation_from_covariance(np.ones((2, 2))))
    with pytest.raises(ValueError, match="square"):
        metrics.gaussian_total_correlation_from_covariance([[1.0, 0.0]])


def test_total_correlation_of_means_and_samples():
    rng = np.random.default_rng(0)
    means = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=20_000)
    assert metrics.gaussian_total_correlation(means) == pytest.approx(-0.5 * np.log(1 - 0.64), abs=0.02)
    # A posterior variance of 1 halves the correlation.
    sampled = metrics.gaussian_total_correlation(means, np.ones_like(means))
    assert sampled == pytest.approx(-0.5 * np.log(1 - 0.16), abs=0.01)
    assert metrics.gaussian_total_correlation(means[:, :1]) == 0
    assert np.isnan(metrics.gaussian_total_correlation(means[:1]))
    with pytest.raises(ValueError, match="variances"):
        metrics.gaussian_total_correlation(means, np.ones(2))
