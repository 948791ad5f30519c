"""Batch dimensions of a model: its divergences and its set-up are used, and what has no such dimensions is refused."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import scbetavae
from scbetavae.model import BetaVAE

TRAIN = {"enable_progress_bar": False, "accelerator": "cpu"}
QUICK = {"n_permutations": 20}


@pytest.fixture(scope="module")
def make_model(make_model):
    return partial(make_model, setup={"batch_key": "batch", "labels_key": "labels"})


@pytest.fixture
def model(make_model, counts_adata):
    return make_model(counts_adata)


def parameters(adata, key="batch_dimensions"):
    return adata.uns["betavae"][f"{key}_params"]


def test_equals_the_verb_on_its_means_and_divergences(model, counts_adata):
    frame = model.find_batch_dimensions(seed=1, **QUICK)
    means, variances = model.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(counts_adata.obsm["X_betavae"], means, atol=1e-6)
    kl = (0.5 * (means**2 + variances - 1 - np.log(variances))).mean(axis=0)
    np.testing.assert_allclose(counts_adata.uns["betavae"]["latent"]["kl"], kl, rtol=1e-4)
    expected = scbetavae.tl.find_batch_dimensions(
        counts_adata, "batch", conserve="labels", seed=1, key_added="again", **QUICK
    )
    pd.testing.assert_frame_equal(frame, expected)
    assert parameters(counts_adata, "again")["summary"] == parameters(counts_adata)["summary"]
    assert (parameters(counts_adata)["batch_key"], parameters(counts_adata)["conserve"]) == ("batch", "labels")
    assert "history" in counts_adata.uns["betavae"]


def test_a_dimension_below_the_least_divergence_takes_no_part(model, counts_adata, monkeypatch):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(counts_adata.n_obs, 4)).astype(np.float32)
    means[:, 2] = 0.1 * counts_adata.obs["batch"].cat.codes  # predicts batch perfectly, and hardly leaves the prior
    variances = np.full_like(means, 0.5)
    variances[:, 2] = 1.0
    monkeypatch.setattr(model, "get_latent_representation", lambda *_args, **_kwargs: (means, variances))
    frame = model.find_batch_dimensions(**QUICK)
    assert frame["active"].tolist() == [True, True, False, True]
    assert not frame["chosen"].any()


def test_finds_what_was_planted():
    """A batch effect that a short training sees, in a model small enough to have to sort it."""
    adata = scbetavae.datasets.simulate_counts(
        400, 80, n_cell_types=2, effects=scbetavae.datasets.FactorEffects(batch=2.0), seed=0
    )
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = BetaVAE(adata, objective="beta_tcvae", beta=2.0, n_latent=3, n_hidden=32).train(max_epochs=50, **TRAIN)
    frame = model.find_batch_dimensions()
    first = frame.set_index("rank").loc[1]
    assert first["batch_given_conserved"] > 0.2
    assert first["batch_given_conserved"] > first["conserved_given_batch"]
    assert first["batch_p_adjusted"] < 1e-4


def test_conserves_clusters_without_labels(make_model, counts_adata):
    model = make_model(counts_adata, setup={"batch_key": "batch"})
    for _ in range(2):
        model.find_batch_dimensions(**QUICK)
    assert parameters(counts_adata)["clustered"]
    assert "No covariate was given" in parameters(counts_adata)["summary"]
    assert counts_adata.obs["batch_dimensions_clusters"].notna().all()


def test_an_empty_list_takes_clusters_in_spite_of_labels(model, counts_adata):
    model.find_batch_dimensions(conserve=[], key_added="mine", **QUICK)
    assert parameters(counts_adata, "mine")["conserve"] == "mine_clusters"


def test_other_cells_and_another_column(model, counts_adata):
    other = counts_adata[:80].copy()
    before = set(counts_adata.uns["betavae"])
    model.find_batch_dimensions("condition", conserve=["labels", "age"], adata=other, **QUICK)
    assert parameters(other)["batch_key"] == "condition"
    assert parameters(other)["conserve"] == "labels, age"
    assert parameters(other)["n_cells"] == 80
    assert other.obsm["X_betavae"].shape == (80, 4)
    assert set(counts_adata.uns["betavae"]) == before


def test_a_decoder_that_is_told_the_batch(make_model, counts_adata):
    model = make_model(counts_adata, condition_on_batch=True)
    for batch_key in (None, "batch"):
        with pytest.raises(ValueError, match=r"condition_on_batch=True: its decoder is conditioned on 'batch'.*Train"):
            model.find_batch_dimensions(batch_key)
    frame = model.find_batch_dimensions("condition", **QUICK)  # which it was not told
    assert len(frame) == 4


def test_a_collapsed_model(model, counts_adata):
    with torch.no_grad():
        for layer in (model.module.z_encoder.mean_encoder, model.module.z_encoder.var_encoder):
            layer.weight.zero_()
            layer.bias.zero_()
    with pytest.raises(ValueError, match=r"None of the 4 dimensions.*smaller beta"):
        model.find_batch_dimensions(**QUICK)
    assert "X_betavae" not in counts_adata.obsm
    assert "batch_dimensions" not in counts_adata.uns["betavae"]


@pytest.mark.parametrize(
    ("batch_key", "arguments", "error", "word"),
    [
        ("bach", {}, KeyError, "Did you mean 'batch'"),
        (None, {"conserve": "lables"}, KeyError, "'labels'"),
        (None, {"conserve": "batch"}, ValueError, "the batch itself"),
        (None, {"method": "dominan"}, ValueError, "'dominant'"),
        (None, {"method": [4]}, ValueError, "zero_batch_dimensions"),
        (None, {"n_permutations": 1}, ValueError, "n_permutations"),
        (None, {"key_added": ""}, ValueError, "key_added"),
    ],
)
def test_mistakes_leave_no_trace(model, counts_adata, batch_key, arguments, error, word):
    before = set(counts_adata.uns["betavae"])
    with pytest.raises(error, match=word):
        model.find_batch_dimensions(batch_key, **arguments)
    assert "X_betavae" not in counts_adata.obsm
    assert set(counts_adata.uns["betavae"]) == before


def test_no_batch_is_known(make_model, counts_adata):
    model = make_model(counts_adata, setup={})
    with pytest.raises(ValueError, match="without a batch"):
        model.find_batch_dimensions()


def test_untrained(counts_adata):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    with pytest.raises(RuntimeError, match="train"):
        BetaVAE(counts_adata).find_batch_dimensions()
