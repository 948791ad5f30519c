"""Whether seeds agree: the ranking of the metrics room, with what it needs said."""

import numpy as np
import pandas as pd
import pytest

from scbetavae import metrics, tl

KEYS = [f"seed {i}" for i in range(5)]


@pytest.fixture
def adata(counts_adata):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(counts_adata.n_obs, 3))
    for key in KEYS:
        counts_adata.obsm[key] = shared + 0.5 * rng.normal(size=shared.shape)
    return counts_adata


def test_equals_the_metric(adata):
    frame = tl.seed_agreement(adata, KEYS)
    expected = metrics.udr([adata.obsm[key] for key in KEYS])
    np.testing.assert_array_equal(frame["value"], expected)
    assert frame["embedding"].tolist() == KEYS
    assert set(frame["flag"]) == {""}
    pd.testing.assert_frame_equal(adata.uns["betavae"]["seed_agreement"], frame)


def test_few_seeds_are_said_to_be_few(adata):
    frame = tl.seed_agreement(adata, KEYS[:3])
    np.testing.assert_array_equal(frame["value"], metrics.udr([adata.obsm[k] for k in KEYS[:3]], minimum_seeds=2))
    assert set(frame["flag"]) == {"median over only 2 other seeds"}


def test_masks_take_part(adata):
    nothing, first = np.zeros(3, dtype=bool), np.arange(3) == 0
    frame = tl.seed_agreement(adata, KEYS[:3], active={"seed 0": nothing, "seed 1": first, "seed 2": first})
    assert frame["flag"].tolist()[0] == "no active dimension"
    assert np.isnan(frame["value"][0])
    only = [adata.obsm[key][:, :1] for key in KEYS[1:3]]
    np.testing.assert_allclose(frame["value"][1:], metrics.udr(only, minimum_seeds=2))


@pytest.mark.parametrize("keys", [["seed 0"], [], ["seed 0", "seed 0"], "seed 0"])
def test_two_different_embeddings_are_needed(adata, keys):
    with pytest.raises(ValueError, match="at least two embeddings"):
        tl.seed_agreement(adata, keys)


def test_unknown_embedding(adata):
    with pytest.raises(KeyError, match="Did you mean 'seed 1'"):
        tl.seed_agreement(adata, ["seed 0", "seed_1"])
