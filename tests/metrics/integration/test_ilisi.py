"""iLISI: separate is 0, mixed is 1, and between them the definition."""

import numpy as np
import pandas as pd
import pytest

from scbetavae.metrics import ilisi


@pytest.mark.parametrize("sizes", [(200, 200), (300, 100), (150, 100, 50)])
def test_separate_batches_are_0_and_permuted_ones_1(sizes):
    rng = np.random.default_rng(0)
    batch = np.repeat(np.arange(len(sizes)), sizes)
    codes = rng.normal(size=(len(batch), 3))
    assert ilisi(codes + 100 * batch[:, None], batch) == 0.0
    assert ilisi(codes, rng.permutation(batch).astype(str)) == pytest.approx(1.0, abs=0.05)


def test_even_neighborhoods_are_1():
    """Pairs of one cell of each batch: neighborhoods are at least as even as random ones."""
    batch = np.tile(["a", "b"], 200)
    assert ilisi(np.repeat(np.arange(200.0), 2)[:, None], batch) == 1.0


def test_a_cell_is_no_neighbor_of_its_own():
    """On a line, both neighbors are of the other batch: one batch, but for the two ends, which see one of each."""
    batch = np.tile(["a", "b"], 100)
    # Two random neighbors are of two batches half of the time: a mean index of 1.5.
    assert ilisi(np.arange(200.0)[:, None], batch, n_neighbors=2) == pytest.approx(0.01 / 0.5, abs=0.003)


def test_half_of_the_cells_separate():
    """Mixed cells keep the index of permuted labels, separate ones have 1."""
    rng = np.random.default_rng(0)
    batch = np.tile(["a", "b"], 500)
    codes = rng.normal(size=(1000, 2))
    codes[500:] += 100 * (1 + (batch[500:] == "a"))[:, None]
    assert ilisi(codes, batch) == pytest.approx(0.5, abs=0.03)


def test_missing_batches_take_no_part():
    rng = np.random.default_rng(0)
    batch = pd.Series(np.tile(["a", "b", None], 100))
    codes = rng.normal(size=(300, 2)) + 50 * (batch == "a").to_numpy()[:, None]
    assert ilisi(codes, batch) == 0.0
    assert np.isnan(ilisi(codes, batch.where(batch == "a")))


def test_too_few_neighbors_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        ilisi(np.zeros((10, 1)), np.arange(10) % 2, n_neighbors=1)
