"""Error of predicted profiles: 0 for perfect, 1 for the source unchanged, in closed form between."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from scbetavae.metrics import (
    differential_genes,
    log_profile,
    relative_error,
    split_half_error,
    squared_correlation,
)

PROFILES = arrays.arrays(float, 6, elements=st.floats(0, 10, width=16))


def test_profile_is_the_mean_log_of_counts_per_ten_thousand():
    counts = np.array([[1.0, 3.0, 0.0], [0.0, 5.0, 5.0]])
    expected = [np.log1p(2500) / 2, (np.log1p(7500) + np.log1p(5000)) / 2, np.log1p(5000) / 2]
    np.testing.assert_allclose(log_profile(counts), expected)
    np.testing.assert_allclose(log_profile(sparse.csr_matrix(counts)), expected)
    np.testing.assert_allclose(log_profile(7.0 * counts), expected)


def test_profile_leaves_its_input_and_survives_an_empty_cell():
    counts = sparse.csr_matrix(np.array([[2.0, 2.0], [0.0, 0.0]]))
    before = counts.toarray()
    np.testing.assert_allclose(log_profile(counts), np.log1p(5000) / 2)
    np.testing.assert_array_equal(counts.toarray(), before)


@settings(deadline=None, max_examples=30)
@given(source=PROFILES, target=PROFILES, share=st.floats(-1, 2))
def test_part_of_the_way_leaves_the_square_of_the_rest(source, target, share):
    if np.abs(source - target).max() < 0.1:
        return
    assert relative_error(source, source, target) == 1.0
    assert relative_error(target, source, target) == 0.0
    predicted = source + share * (target - source)
    assert relative_error(predicted, source, target) == pytest.approx((1 - share) ** 2, abs=1e-9)


def test_no_difference_has_no_ratio():
    assert np.isnan(relative_error([1.0, 2.0], [1.0, 1.0], [1.0, 1.0]))


def test_squared_correlation_forgives_scale_and_the_relative_error_does_not():
    target = np.array([1.0, 2.0, 4.0])
    assert squared_correlation(3.0 * target + 1.0, target) == pytest.approx(1.0)
    assert relative_error(3.0 * target, 0.0 * target, target) == pytest.approx(4.0)
    assert squared_correlation([1.0, 0.0, -1.0], [1.0, -2.0, 1.0]) == pytest.approx(0.0)
    assert np.isnan(squared_correlation([1.0, 1.0, 1.0], target))


def test_differential_genes_by_absolute_difference_first_among_equals():
    source, target = np.zeros(5), np.array([1.0, -3.0, 0.0, 1.0, 2.0])
    assert differential_genes(source, target, 4).tolist() == [1, 4, 0, 3]
    assert differential_genes(source, target).tolist() == [1, 4, 0, 3, 2]


def test_split_half_of_equal_cells_is_perfect():
    source = log_profile([[5, 5, 0]])
    assert split_half_error(source, [[1, 4, 5]] * 6) == (pytest.approx(0.0), pytest.approx(1.0))


def test_split_half_of_two_cells_in_closed_form():
    """Whichever cell is predicted by the other, the distance between them is the same."""
    cells = np.array([[1.0, 9.0], [3.0, 7.0]])
    first, second = (log_profile(cell[None]) for cell in cells)
    source = (first + second) / 2  # halfway between them, so that the ratio is 4
    assert split_half_error(source, cells)[0] == pytest.approx(4.0)
    assert split_half_error(source, cells, genes=[0])[0] == pytest.approx(4.0)


def test_split_half_repeats_with_its_seed_and_needs_two_cells():
    cells = np.random.default_rng(0).poisson(5.0, size=(20, 8))
    source = log_profile(np.random.default_rng(1).poisson(9.0, size=(20, 8)) * np.arange(8))
    results = [split_half_error(source, cells, seed=seed) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
    assert all(np.isnan(value) for value in split_half_error(source, cells[:1]))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: log_profile(np.zeros((0, 3))), "no cells"),
        (lambda: log_profile([[1.0, -1.0]]), "negative"),
        (lambda: log_profile([[1.0, np.nan]]), "not finite"),
        (lambda: relative_error([1.0], [1.0, 2.0], [1.0, 2.0]), "shapes"),
        (lambda: squared_correlation([1.0, np.inf], [1.0, 2.0]), "infinite"),
        (lambda: differential_genes([1.0], [2.0], 0), "n_top"),
        (lambda: split_half_error([1.0], [[1.0], [2.0]], n_splits=0), "n_splits"),
    ],
)
def test_mistakes(call, word):
    with pytest.raises(ValueError, match=word):
        call()
