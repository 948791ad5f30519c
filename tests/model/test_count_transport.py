"""Carrying counts from one profile of gene shares to another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from scbetavae.model._count_transport import draw_counts, to_shares, transport_counts

COUNTS = arrays.arrays(np.int64, (3, 5), elements=st.integers(0, 30))
SHARES = arrays.arrays(float, (3, 5), elements=st.floats(0.01, 1.0)).map(to_shares)


@settings(deadline=None, max_examples=30)
@given(counts=COUNTS, before=SHARES, after=SHARES, seed=st.integers(0, 99))
def test_every_cell_keeps_its_total_and_counts_are_whole(counts, before, after, seed):
    expected, drawn = transport_counts(sparse.csr_matrix(counts), before, after, np.random.default_rng(seed))
    drawn = drawn.toarray()
    np.testing.assert_allclose(expected.sum(axis=1), counts.sum(axis=1), atol=1e-9)
    np.testing.assert_array_equal(drawn.sum(axis=1), counts.sum(axis=1))
    np.testing.assert_array_equal(drawn, np.rint(drawn))
    assert expected.min() >= 0
    assert drawn.min() >= 0
    rises = after >= before
    assert (drawn >= counts)[rises].all()
    assert (drawn <= counts)[~rises].all()


@settings(deadline=None, max_examples=30)
@given(counts=COUNTS, shares=SHARES)
def test_equal_profiles_change_nothing(counts, shares):
    expected, drawn = transport_counts(sparse.csr_matrix(counts), shares, shares, np.random.default_rng(0))
    np.testing.assert_array_equal(expected, counts)
    np.testing.assert_array_equal(drawn.toarray(), counts)


@settings(deadline=None, max_examples=30)
@given(total=st.integers(1, 500), before=SHARES, after=SHARES)
def test_expected_counts_of_one_profile_become_those_of_the_other(total, before, after):
    expected, drawn = transport_counts(sparse.csr_matrix(total * before), before, after, None)
    np.testing.assert_allclose(expected, total * after, atol=1e-9)
    assert drawn is None


def test_one_profile_serves_all_cells():
    counts = sparse.csr_matrix([[4, 0, 6], [1, 1, 1]])
    before, after = to_shares([[1.0, 1.0, 2.0]]), to_shares([[0.5, 2.5, 1.0]])
    expected, drawn = transport_counts(counts, before, after, np.random.default_rng(0))
    np.testing.assert_allclose(expected, [[2.0, 5.0, 3.0], [0.5, 2.0, 0.5]])
    assert drawn.shape == (2, 3)


def test_draws_agree_with_the_expectation_and_are_those_of_a_multinomial():
    """If counts are drawn from the first profile, the result is a draw from the second: mean and variance say so."""
    rng = np.random.default_rng(0)
    before, after = to_shares([[4.0, 3.0, 2.0, 1.0]]), to_shares([[1.0, 3.0, 2.5, 3.5]])
    counts = draw_counts(np.full(20_000, 50), before, rng)
    drawn = transport_counts(counts, before, after, rng)[1].toarray()
    np.testing.assert_allclose(drawn.mean(axis=0), 50 * after[0], rtol=0.01)
    np.testing.assert_allclose(drawn.var(axis=0), 50 * after[0] * (1 - after[0]), rtol=0.04)


def test_draws_repeat_with_their_seed():
    counts = sparse.csr_matrix(np.full((4, 3), 20))
    before, after = to_shares([[1.0, 1.0, 1.0]]), to_shares([[1.0, 2.0, 3.0]])
    draws = [transport_counts(counts, before, after, np.random.default_rng(seed))[1].toarray() for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_shares_sum_to_one():
    assert to_shares(np.ones((2, 4), dtype=np.float32)).sum(axis=1) == pytest.approx(1.0)


def softmax_of(seed, dtype, n_cells=4):
    logits = np.random.default_rng(seed).normal(scale=2.0, size=(n_cells, 2000)).astype(dtype)
    shares = np.exp(logits)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("n_profiles", [1, 4])
def test_rows_that_sum_to_one_only_up_to_rounding_can_be_drawn_from(dtype, n_profiles):
    rng = np.random.default_rng(0)
    for seed in range(5):
        counts = sparse.csr_matrix(rng.poisson(1.0, size=(4, 2000)).astype(np.float32))
        before, after = softmax_of(seed, dtype, n_profiles), softmax_of(seed + 100, dtype, n_profiles)
        expected, drawn = transport_counts(counts, before, after, rng)
        np.testing.assert_array_equal(drawn.sum(axis=1), counts.sum(axis=1))
        np.testing.assert_allclose(expected.sum(axis=1), np.asarray(counts.sum(axis=1)).ravel(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_that_sums_to_more_than_one(dtype):
    """As a float32 softmax may, with all of the excess before the last gene, where numpy looks for it."""
    shares = np.full((2, 4), 0.25, dtype=dtype)
    shares[:, 0] += 0.25 + 1e-6
    shares[:, 3] = 0
    assert (shares.astype(float)[:, :-1].sum(axis=1) > 1).all()
    drawn = draw_counts(np.array([10, 1000]), shares, np.random.default_rng(0))
    assert np.asarray(drawn.sum(axis=1)).ravel().tolist() == [10, 1000]
    assert drawn[:, 3].nnz == 0
