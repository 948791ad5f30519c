"""Zeroing by a model: what it knows of its posterior, its prior and its decoder."""

import warnings
from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from scbetavae.model import BetaVAE

TRAIN = {"enable_progress_bar": False, "accelerator": "cpu"}
QUICK = {"n_bootstrap": 5}


@pytest.fixture(scope="module")
def make_model(make_model):
    return partial(make_model, setup={"batch_key": "batch", "labels_key": "labels"}, epochs=20)


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("scbetavae.metrics.integration._classifiers.N_TREES", 5)


@pytest.fixture(scope="module")
def trained(make_model, _counts_adata):
    return make_model(_counts_adata.copy())


@pytest.fixture
def model(trained):
    """The model with cells of its own and codes that are known: dimension 1 is batch, 2 the label."""
    adata = trained.adata.copy()
    adata.uns["betavae"] = dict(adata.uns.get("betavae", {}))
    return BetaVAE.load_query_data(adata, trained, accelerator="cpu")


@pytest.fixture
def planted(model, monkeypatch):
    obs = model.adata.obs
    means = 0.3 * np.random.default_rng(0).normal(size=(len(obs), 4)).astype(np.float32)
    means[:, 1] += 4 * (obs["batch"] == "batch_1")
    means[:, 2] += 2 * obs["labels"].cat.codes
    variances = np.full_like(means, 0.1)
    monkeypatch.setattr(
        model,
        "get_latent_representation",
        lambda *_args, return_dist=False, **_kwargs: (means, variances) if return_dist else means,
    )
    return model


def test_finds_and_zeroes_batch_and_keeps_the_registered_label(planted):
    adata = planted.adata
    zeroed = planted.zero_batch_dimensions(**QUICK)
    parameters = adata.uns["betavae"]["batch_removal_params"]
    assert (parameters["dimensions"], parameters["batch_key"], parameters["conserve"]) == ("1", "batch", "labels")
    assert (zeroed[:, 1] == 0).all()
    np.testing.assert_array_equal(zeroed[:, [0, 2, 3]], adata.obsm["X_betavae"][:, [0, 2, 3]])
    np.testing.assert_array_equal(adata.obsm["X_betavae_zeroed"], zeroed)
    report = adata.uns["betavae"]["batch_removal"].set_index(["role", "classifier"])
    assert report.loc[("batch", "knn"), "before"] > 0.9
    assert report.loc[("batch", "knn"), "after"] < 0.3
    assert report.loc[("conserved", "knn"), "kept"] > 0.95
    assert "batch_dimensions" in adata.uns["betavae"]


def test_dimensions_without_divergence_take_no_part(planted):
    means, variances = planted.get_latent_representation(return_dist=True)
    means[:, 3] *= 0.3
    variances[:, 3] = 1.0
    planted.zero_batch_dimensions(1, **QUICK)
    assert planted.adata.uns["betavae"]["batch_removal_params"]["inactive"] == "3"


def test_the_mean_of_the_prior_is_zero(planted):
    zeroed = planted.zero_batch_dimensions([1, 3], **QUICK)
    np.testing.assert_array_equal(zeroed[:, [1, 3]], np.zeros((120, 2)))


def test_other_constants(planted):
    means = planted.get_latent_representation()
    in_reference = (planted.adata.obs["batch"] == "batch_2").to_numpy()
    zeroed = planted.zero_batch_dimensions(1, to="reference", reference_batch="batch_2", **QUICK)
    np.testing.assert_allclose(zeroed[:, 1], means[in_reference, 1].mean(), rtol=1e-4)
    zeroed = planted.zero_batch_dimensions(1, to="mean", **QUICK)
    np.testing.assert_allclose(zeroed[:, 1], means[:, 1].mean(), rtol=1e-4)


def test_nothing_found_writes_the_codes_as_they_are(planted):
    obs = planted.adata.obs
    obs["chance"] = np.random.default_rng(3).permutation(obs["batch"].astype(str))
    with pytest.warns(UserWarning, match="Nothing was zeroed, because"):
        zeroed = planted.zero_batch_dimensions(batch_key="chance", **QUICK)
    np.testing.assert_array_equal(zeroed, planted.adata.obsm["X_betavae"])
    assert planted.adata.uns["betavae"]["batch_removal_params"]["summary"].startswith("Nothing was zeroed, because")


def test_decoded_expression_is_the_decoder_of_the_zeroed_codes(planted, tmp_path):
    adata = planted.adata
    zeroed = planted.zero_batch_dimensions(1, decode=True, **QUICK)
    expression = adata.layers["betavae_zeroed"]
    assert expression.shape == adata.shape
    assert expression.dtype == np.float32
    np.testing.assert_allclose(expression.sum(axis=1), 10_000, rtol=1e-4)
    with torch.inference_mode():
        shares = planted.module.eval().decoder("gene", torch.as_tensor(zeroed), torch.ones(120, 1), None)[0].numpy()
    np.testing.assert_allclose(expression, 10_000 * shares, rtol=1e-4)
    planted.zero_batch_dimensions(1, decode="corrected", **QUICK, key_added="again")
    np.testing.assert_array_equal(adata.layers["corrected"], expression)
    assert adata.uns["betavae"]["again_params"]["layer"] == "corrected"

    adata.write_h5ad(tmp_path / "cells.h5ad")
    read = anndata.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(
        read.uns["betavae"]["again"], adata.uns["betavae"]["again"], check_dtype=False, check_index_type=False
    )
    assert dict(read.uns["betavae"]["again_params"]) == adata.uns["betavae"]["again_params"]


def test_query_cells(trained, counts_adata):
    query = counts_adata[:90].copy()
    query.obs["batch"] = pd.Categorical(np.where(query.obs["batch"] == "batch_1", "batch_1", "batch_9"))
    model = BetaVAE.load_query_data(query, trained, accelerator="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what dimension 0 of a toy model costs
        zeroed = model.zero_batch_dimensions([0], to="reference", reference_batch="batch_9", decode=True, **QUICK)
    means = model.get_latent_representation()
    np.testing.assert_allclose(zeroed[:, 1:], means[:, 1:], atol=1e-6)
    in_new = (query.obs["batch"] == "batch_9").to_numpy()
    np.testing.assert_allclose(zeroed[:, 0], means[in_new, 0].mean(), rtol=1e-4)
    assert query.layers["betavae_zeroed"].shape == query.shape

    alone = query[in_new].copy()
    with pytest.raises(ValueError, match="reference cells"):
        model.zero_batch_dimensions([0], adata=alone)


def test_other_cells_are_written_to(trained, counts_adata):
    other = counts_adata[::-1].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what dimension 0 of a toy model costs
        trained.zero_batch_dimensions([0], adata=other, **QUICK)
    assert "X_betavae_zeroed" in other.obsm
    assert "X_betavae_zeroed" not in trained.adata.obsm


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dimensions": 4}, ValueError, "from 0 to 3"),
        ({"dimensions": range(4)}, ValueError, "nothing would be left"),
        ({"conserve": "batch"}, ValueError, "batch"),
        ({"conserve": "label"}, KeyError, "labels"),
        ({"batch_key": "age"}, ValueError, "fractions"),
        ({"to": "reference", "reference_batch": "batch_7"}, ValueError, "batch_1"),
        ({"to": "reference"}, ValueError, "reference_batch"),
        ({"decode": "a/b"}, ValueError, "layer"),
        ({"decode": 3}, ValueError, "layer"),
        ({"method": "greedy"}, ValueError, "stepwise"),
    ],
)
def test_bad_input_is_refused_before_any_work(model, monkeypatch, change, error, message):
    def encode(*_args, **_kwargs):
        pytest.fail("encoded before the mistake was seen")

    monkeypatch.setattr(model, "get_latent_representation", encode)
    with pytest.raises(error, match=message):
        model.zero_batch_dimensions(**({"dimensions": [0]} | change))


def test_a_collapsed_model_is_refused(model):
    with torch.no_grad():
        for layer in (model.module.z_encoder.mean_encoder, model.module.z_encoder.var_encoder):
            layer.weight.zero_()
            layer.bias.zero_()
    with pytest.raises(ValueError, match="collapsed"):
        model.zero_batch_dimensions([0])
    assert "X_betavae_zeroed" not in model.adata.obsm


def test_models_that_cannot_be_zeroed(counts_adata):
    BetaVAE.setup_anndata(counts_adata, layer="counts", batch_key="batch")
    told = BetaVAE(counts_adata, n_latent=4, n_hidden=16, condition_on_batch=True)
    with pytest.raises(ValueError, match="condition_on_batch=True"):
        told.zero_batch_dimensions([0])
    with pytest.raises(RuntimeError):
        BetaVAE(counts_adata, n_latent=4, n_hidden=16).zero_batch_dimensions([0])
    with pytest.raises(ValueError, match="counts"):
        BetaVAE(counts_adata, n_latent=4, n_hidden=16).zero_batch_dimensions([0], decode="counts")
    with pytest.raises(ValueError, match="ln"):
        BetaVAE(counts_adata, n_latent=4, n_hidden=16, latent_distribution="ln").zero_batch_dimensions([0])
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(ValueError, match="without a batch"):
        BetaVAE(counts_adata, n_latent=4, n_hidden=16).zero_batch_dimensions([0])
