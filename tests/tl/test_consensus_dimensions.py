"""The consensus of embeddings: planted permutations and signs are found, agreement and mean are by the definition."""

from itertools import combinations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from scbetavae import metrics, tl

KEYS = [f"seed {i}" for i in range(5)]
ORDERS = [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1], [2, 1, 0]]
SIGNS = [[1, 1, 1], [-1, 1, 1], [1, -1, -1], [1, 1, -1], [-1, -1, -1]]
NOISE = np.array([0.1, 0.3, 1.0])


@pytest.fixture
def adata(counts_adata):
    """Three shared dimensions with more and more noise of each seed, in another order and orientation in each."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(counts_adata.n_obs, 3))
    for key, order, signs in zip(KEYS, ORDERS, SIGNS, strict=True):
        own = shared + NOISE * rng.normal(size=shared.shape)
        counts_adata.obsm[key] = (own * signs)[:, order]
    return counts_adata


def stored(adata, name="", key="consensus"):
    return adata.uns["betavae"][f"{key}{name}"]


def test_planted_order_and_orientation_are_found(adata):
    frame = tl.consensus_dimensions(adata, KEYS)
    reference = KEYS.index(stored(adata, "_params")["reference"])
    matches = stored(adata, "_matches").set_index(["embedding", "dimension"])
    assert len(matches) == 15
    for run, key in enumerate(KEYS):
        for d, planted in enumerate(ORDERS[reference]):
            assert matches.loc[(key, d), "matched_dimension"] == ORDERS[run].index(planted)
            assert matches.loc[(key, d), "sign"] == SIGNS[reference][planted] * SIGNS[run][planted]
    assert frame["dimension"].tolist() == [0, 1, 2]
    assert frame["n_embeddings"].tolist() == [5, 5, 5]
    by_noise = frame["agreement"].to_numpy()[np.argsort(ORDERS[reference])]
    assert by_noise[0] > 0.95 > by_noise[1] > 0.8 > 0.7 > by_noise[2]
    pd.testing.assert_frame_equal(stored(adata), frame)


def test_agreement_is_the_mean_spearman_correlation_of_pairs(adata):
    frame = tl.consensus_dimensions(adata, KEYS)
    matches = stored(adata, "_matches")
    for d, rows in matches.groupby("dimension"):
        columns = {row.embedding: adata.obsm[row.embedding][:, row.matched_dimension] for row in rows.itertuples()}
        pairs = {(a, b): abs(spearmanr(columns[a], columns[b]).statistic) for a, b in combinations(columns, 2)}
        assert frame["agreement"][d] == pytest.approx(np.mean(list(pairs.values())))
        for row in rows.itertuples():
            assert row.agreement == pytest.approx(np.mean([v for pair, v in pairs.items() if row.embedding in pair]))
    parameters = stored(adata, "_params")
    assert parameters["embeddings"] == KEYS
    np.testing.assert_array_equal(parameters["udr"], metrics.udr([adata.obsm[key] for key in KEYS]))
    np.testing.assert_allclose(parameters["agreement"], matches.groupby("embedding")["agreement"].mean()[KEYS])


def test_the_reference_is_the_embedding_that_the_others_resemble_most(counts_adata):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(counts_adata.n_obs, 3))
    for key, noise in zip(KEYS, (2.0, 1.0, 0.1, 1.0, 2.0), strict=True):
        counts_adata.obsm[key] = shared + noise * rng.normal(size=shared.shape)
    tl.consensus_dimensions(counts_adata, KEYS)
    assert stored(counts_adata, "_params")["reference"] == KEYS[2]
    for key in KEYS:  # of equals, the first
        counts_adata.obsm[key] = shared
    tl.consensus_dimensions(counts_adata, KEYS[::-1])
    assert stored(counts_adata, "_params")["reference"] == KEYS[4]


def test_the_mean_is_oriented_and_no_embedding_counts_more(adata):
    tl.consensus_dimensions(adata, KEYS)
    mean = adata.obsm["X_consensus"]
    assert mean.shape == (adata.n_obs, 3)
    matches = stored(adata, "_matches")
    for d, rows in matches.groupby("dimension"):
        columns = [row.sign * adata.obsm[row.embedding][:, row.matched_dimension] for row in rows.itertuples()]
        assert min(np.corrcoef(column, mean[:, d])[0, 1] for column in columns) > 0.6
        standardized = np.mean([(column - column.mean()) / column.std() for column in columns], axis=0)
        expected = standardized * np.mean([column.std() for column in columns])
        np.testing.assert_allclose(mean[:, d], expected, rtol=1e-4, atol=1e-5)
    adata.obsm[KEYS[1]] = 100 * adata.obsm[KEYS[1]] + 7
    tl.consensus_dimensions(adata, KEYS, key_added="scaled")
    for d in range(3):
        assert np.corrcoef(mean[:, d], adata.obsm["X_scaled"][:, d])[0, 1] == pytest.approx(1.0)
    adata.obsm["weak"] = 0.2 * adata.obsm[KEYS[0]]
    adata.obsm["weaker"] = 0.1 * adata.obsm[KEYS[0]]
    tl.consensus_dimensions(adata, ["weak", "weaker"])
    np.testing.assert_allclose(adata.obsm["X_consensus"].std(axis=0), 0.15 * adata.obsm[KEYS[0]].std(axis=0), rtol=1e-4)


def test_unequal_numbers_of_dimensions_and_inactive_ones(adata):
    adata.obsm["narrow"] = adata.obsm[KEYS[0]][:, [1]]
    dead = adata.obsm[KEYS[1]].copy()
    dead[:, 0] = 0.0  # planted dimension 2
    adata.obsm["dead"] = dead
    frame = tl.consensus_dimensions(adata, [KEYS[0], "narrow", "dead"])
    parameters, matches = stored(adata, "_params"), stored(adata, "_matches")
    assert parameters["reference"] == KEYS[0]
    assert parameters["active_dimensions"].tolist() == [3, 1, 2]
    assert frame["n_embeddings"].tolist() == [2, 3, 1]
    assert np.isfinite(frame["agreement"]).tolist() == [True, True, False]
    assert matches.loc[matches["embedding"] == "narrow", ["dimension", "matched_dimension"]].to_numpy().tolist() == [
        [1, 0]
    ]
    assert 0 not in matches.loc[matches["embedding"] == "dead", "matched_dimension"].tolist()
    assert np.isfinite(adata.obsm["X_consensus"]).all()
    # A dimension without a match agrees with nothing: the embedding's mean counts it.
    of_reference = matches.loc[matches["embedding"] == KEYS[0], "agreement"]
    assert parameters["agreement"][0] == pytest.approx(of_reference.sum() / 3)


def test_inactive_dimensions_take_no_part(adata):
    for key in KEYS[1:3]:
        adata.obsm[key] = adata.obsm[key] * [1, 1e-3, 1e-3]
    adata.obsm[KEYS[0]] = np.ones((adata.n_obs, 3))
    frame = tl.consensus_dimensions(adata, KEYS[:3])
    parameters = stored(adata, "_params")
    assert len(frame) == 1
    assert parameters["reference"] == KEYS[1]
    assert np.isnan(parameters["udr"][0])
    assert np.isnan(parameters["agreement"][0])
    only = [adata.obsm[key][:, :1] for key in KEYS[1:3]]
    np.testing.assert_allclose(parameters["udr"][1:], metrics.udr(only, minimum_seeds=2))
    frame = tl.consensus_dimensions(adata, KEYS[:2])
    assert stored(adata, "_params")["reference"] == KEYS[1]
    assert frame["agreement"].isna().all()
    adata.obsm[KEYS[1]] = np.zeros((adata.n_obs, 3))
    with pytest.raises(ValueError, match="nothing to match"):
        tl.consensus_dimensions(adata, KEYS[:2])


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_round_trips(adata, tmp_path, suffix):
    frame = tl.consensus_dimensions(adata, KEYS[:3])
    path = tmp_path / f"cells.{suffix}"
    getattr(adata, f"write_{suffix}")(path)
    again = getattr(anndata, f"read_{suffix}")(path)
    pd.testing.assert_frame_equal(stored(again), frame, check_index_type=False, check_column_type=False)
    assert list(stored(again, "_params")["embeddings"]) == KEYS[:3]
    np.testing.assert_array_equal(stored(again, "_params")["udr"], stored(adata, "_params")["udr"])
    assert stored(again, "_matches")["embedding"].tolist() == stored(adata, "_matches")["embedding"].tolist()
    np.testing.assert_array_equal(again.obsm["X_consensus"], adata.obsm["X_consensus"])


@pytest.mark.parametrize("keys", [["seed 0"], [], ["seed 0", "seed 0"], "seed 0"])
def test_two_different_embeddings_are_needed(adata, keys):
    with pytest.raises(ValueError, match="at least two embeddings"):
        tl.consensus_dimensions(adata, keys)
    assert "X_consensus" not in adata.obsm


def test_mistakes(adata):
    with pytest.raises(KeyError, match="Did you mean 'seed 1'"):
        tl.consensus_dimensions(adata, ["seed 0", "seed_1"])
    with pytest.raises(ValueError, match="is a view"):
        tl.consensus_dimensions(adata[:50], KEYS)
    with pytest.raises(TypeError, match="not an AnnData"):
        tl.consensus_dimensions(adata.X, KEYS)
    adata.obsm["X_mine"] = adata.obsm[KEYS[0]]
    with pytest.raises(ValueError, match="Change key_added"):
        tl.consensus_dimensions(adata, ["X_mine", KEYS[1]], key_added="mine")
    assert "betavae" not in adata.uns


def test_arrays_of_other_cells_are_refused():
    codes = np.random.default_rng(0).normal(size=(20, 2))
    for models, masks in (([codes], None), ([codes, codes[:10]], None), ([codes, codes], [np.ones(2, dtype=bool)])):
        with pytest.raises(ValueError, match="at least two models of the same cells"):
            metrics.match_dimensions(models, active=masks)
