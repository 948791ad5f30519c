"""A planted batch effect is the one that is reported, and nothing else."""

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from scbetavae.datasets import pbmc68k, plant_batches


@pytest.fixture(scope="module")
def cells():
    return pbmc68k()


def _totals(original, planted, code):
    """Counts of each gene in one batch, before and after."""
    inside = (planted.obs["batch"].cat.codes == code).to_numpy()
    return [np.asarray(adata.X[inside].sum(axis=0), dtype=float).ravel() for adata in (original, planted)]


def test_truth_is_what_happened(cells):
    planted = plant_batches(cells, 3, seed=4)
    stored = planted.uns["betavae"]["planted_batch"]
    truth = planted.varm["planted_batch"]
    assert truth.shape == (765, 3)
    np.testing.assert_allclose(truth.max(axis=1), 0, atol=1e-12)
    for code in range(3):
        before, after = _totals(cells, planted, code)
        retained = np.exp(truth[:, code]) * stored["depth_factors"][code]
        whole = retained == 1
        np.testing.assert_array_equal(after[whole], before[whole])
        enough = ~whole & (before * retained * (1 - retained) > 5)
        z = (after - before * retained)[enough] / np.sqrt(before * retained * (1 - retained))[enough]
        assert enough.sum() > 100
        assert abs(z.mean()) < 4 / np.sqrt(len(z))
        assert 0.85 < z.std() < 1.15


def test_recovery_grows_with_strength(cells):
    correlations = []
    for strength in (0.05, 0.3, 1.0):
        planted = plant_batches(cells, 2, batch_strength=strength, seed=2)
        in_first = (planted.obs["batch"] == "batch_0").to_numpy()
        sums = [np.asarray(planted.X[rows].sum(axis=0)).ravel() + 0.5 for rows in (in_first, ~in_first)]
        truth = planted.varm["planted_batch"]
        # Without looking at the unplanted counts: the contrast that an analyst could see.
        observed = np.log(sums[0] / sums[0].sum()) - np.log(sums[1] / sums[1].sum())
        seen = sums[0] + sums[1] > 100
        correlations.append(np.corrcoef(observed[seen], (truth[:, 0] - truth[:, 1])[seen])[0, 1])
    assert correlations[0] < correlations[1] < correlations[2]
    assert correlations[0] < 0.5
    assert correlations[2] > 0.85


def test_depth_stays_realistic(cells):
    kept = plant_batches(cells, 2).X.sum() / cells.X.sum()
    assert 0.65 < kept < 0.85


def test_batches_are_balanced_and_independent_of_strength(cells):
    weak, strong = (plant_batches(cells, 3, batch_strength=s) for s in (0.1, 2.0))
    assert sorted(weak.obs["batch"].value_counts()) == [233, 233, 234]
    assert list(weak.obs["batch"]) == list(strong.obs["batch"])
    np.testing.assert_allclose(strong.varm["planted_batch"], 20 * weak.varm["planted_batch"])


def test_original_is_left_alone_and_views_work(cells):
    before = cells.X.copy()
    planted = plant_batches(cells[::2], 2)
    assert planted.n_obs == 350
    assert not planted.is_view
    assert "batch" not in cells.obs
    assert abs(cells.X - before).max() == 0


def test_other_results_in_uns_survive(cells):
    adata = cells.copy()
    adata.uns["betavae"] = {"params": {"beta": 4.0}}
    assert plant_batches(adata, 2).uns["betavae"]["params"] == {"beta": 4.0}


def test_strongest_effect_empties_no_cell(cells):
    planted = plant_batches(cells, 2, batch_strength=100)
    total = np.asarray(planted.X.sum(axis=1)).ravel()
    assert total.min() == 1
    assert planted.X.max() <= cells.X.max()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), strength=st.floats(0, 30), dense=st.booleans(), n_batches=st.integers(2, 6))
def test_thinning_only_removes(seed, strength, dense, n_batches):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.7, (12, 7)).astype(np.int64)
    counts[:, 0] += counts.sum(axis=1) == 0
    adata = AnnData(counts.astype(np.float32) if dense else sp.csc_matrix(counts.astype(np.float64)))
    planted = plant_batches(adata, n_batches, batch_strength=strength, seed=seed)
    after = planted.X.toarray()
    assert planted.X.dtype == np.float32
    assert (after == np.rint(after)).all()
    assert (after <= counts).all()
    assert (after >= 0).all()
    assert after.sum(axis=1).min() >= 1
    assert planted.obs["batch"].nunique() == n_batches


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (np.array([[1.5, 1.0], [1.0, 2.0]]), "got 1.5 among 1 invalid values"),
        (np.array([[-1.0, 1.0], [1.0, 2.0]]), "got -1 among 1 invalid"),
        (np.array([[np.nan, 1.0], [1.0, np.inf]]), "among 2 invalid values"),
        (np.array([[0.0, 0.0], [1.0, 2.0]]), "1 cells have no counts, the first at position 0"),
        (None, "adata.X is None"),
    ],
)
def test_what_are_no_counts_is_refused(matrix, match):
    adata = AnnData(matrix) if matrix is not None else AnnData(obs=pbmc68k().obs)
    with pytest.raises(ValueError, match=match):
        plant_batches(adata, 2)
    assert "batch" not in adata.obs


def test_bad_arguments_are_named(cells):
    with pytest.raises(TypeError, match="adata is a ndarray, not an AnnData"):
        plant_batches(np.ones((3, 2)), 2)
    with pytest.raises(ValueError, match="n_batches=1 is not allowed: pass an integer from 2 to 700"):
        plant_batches(cells, 1)
    with pytest.raises(ValueError, match="n_batches=701 is not allowed: pass an integer from 2 to 700"):
        plant_batches(cells, 701)
    with pytest.raises(ValueError, match="already has a column 'phase'"):
        plant_batches(cells, 2, batch_key="phase")
