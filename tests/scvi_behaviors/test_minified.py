"""Data that are replaced by their latent representation."""

import numpy as np
import pytest
import scvi
from scvi.model.base import BaseMinifiedModeModelClass

from scbetavae.model import BetaVAE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SETUP = {"batch_key": "batch", "labels_key": "labels"}
CHECKED = "cells without counts are an error; save the minified data with the model"
WITH_COUNTS = "latent_posterior_parameters_with_counts"


def minify(model, **kwargs):
    """Replace the data of a model by the latent representation."""
    means, variances = model.get_latent_representation(return_dist=True)
    model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = means, variances
    model.minify_adata(**kwargs)


def seeded(method, **kwargs):
    scvi.settings.seed = 1
    return method(**kwargs)


@pytest.mark.behavior("`minify_adata`: latent representation, expression and samples are as before")
@pytest.mark.parametrize("setup", [SETUP, SETUP | {"layer": "counts"}, SETUP | {"size_factor_key": "size_factor"}])
def test_same_results(fit, adata, setup):
    model = fit(adata, setup)
    calls = {
        "get_latent_representation": {},
        "get_normalized_expression": {"gene_list": ["gene_2", "gene_4"]},
        "posterior_predictive_sample": {"indices": [1, 2, 3]},
        "get_feature_correlation_matrix": {"n_samples": 2},
        "get_likelihood_parameters": {"n_samples": 1},
    }
    before = {name: seeded(getattr(model, name), **options) for name, options in calls.items()}
    minify(model)
    assert model.minified_data_type == "latent_posterior_parameters"
    assert model.adata.X.nnz == 0
    assert "counts" not in model.adata.layers or model.adata.layers["counts"].nnz == 0
    for name, options in calls.items():
        found, expected = seeded(getattr(model, name), **options), before[name]
        if name == "get_likelihood_parameters":
            found, expected = found["mean"], expected["mean"]
        if hasattr(found, "todense"):
            found, expected = found.todense(), expected.todense()
        tolerance = (
            {"rtol": 0.5, "atol": 1.0}
            if name.startswith(("get_feature", "posterior"))
            else {"rtol": 1e-3, "atol": 1e-5}
        )
        np.testing.assert_allclose(found, expected, **tolerance)


@pytest.mark.behavior("`minify_adata` with keys of the latent representation")
def test_own_keys(fit, adata):
    model = fit(adata)
    latents = model.get_latent_representation()
    adata.obsm["mean"], adata.obsm["variance"] = model.get_latent_representation(return_dist=True)
    model.minify_adata(use_latent_qzm_key="mean", use_latent_qzv_key="variance")
    np.testing.assert_allclose(model.get_latent_representation(), latents)


@pytest.mark.behavior("What needs counts is an error with minified data")
def test_needs_counts(fit, adata):
    model = fit(adata)
    minify(model)
    for method in ("get_elbo", "get_reconstruction_error", "get_marginal_ll", "get_latent_library_size"):
        with pytest.raises(ValueError, match="does not support minified data"):
            getattr(model, method)()
    with pytest.raises(ValueError, match="does not support minified data"):
        model.train(max_epochs=1, **QUIET)


@pytest.mark.behavior("Minified data that keep their counts: likelihoods, and training of the decoder alone")
def test_with_counts(fit, adata):
    model = fit(adata)
    elbo = float(seeded(model.get_elbo))
    minify(model, minified_data_type=WITH_COUNTS)
    assert model.minified_data_type == WITH_COUNTS
    assert float(seeded(model.get_elbo)) == pytest.approx(elbo, rel=0.05)
    assert np.isfinite(float(model.get_marginal_ll(n_mc_samples=2)))
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.train(max_epochs=1, plan_kwargs={"update_only_decoder": True}, **QUIET)
    after = model.module.state_dict()
    assert (after["px_r"] != before["px_r"]).any()
    assert (after["z_encoder.mean_encoder.weight"] == before["z_encoder.mean_encoder.weight"]).all()


@pytest.mark.behavior("Minified models are saved and loaded with minified data, and with the data they had before")
def test_save_and_load(fit, adata, cells, tmp_path):
    model = fit(adata)
    latents = model.get_latent_representation()
    minify(model)
    model.save(tmp_path / "model", save_anndata=True)
    loaded = BetaVAE.load(tmp_path / "model", accelerator="cpu")
    assert loaded.minified_data_type == "latent_posterior_parameters"
    np.testing.assert_allclose(loaded.get_latent_representation(), latents)
    loaded = BetaVAE.load(tmp_path / "model", adata=loaded.adata.copy(), accelerator="cpu")
    assert loaded.minified_data_type == "latent_posterior_parameters"
    np.testing.assert_allclose(loaded.get_latent_representation(), latents)
    whole = BetaVAE.load(tmp_path / "model", adata=cells(), accelerator="cpu")
    assert whole.minified_data_type is None
    np.testing.assert_allclose(whole.get_latent_representation(), latents, rtol=1e-5)


@pytest.mark.behavior("A model that was saved before refuses minified data")
def test_load_with_minified_data(fit, adata, tmp_path):
    model = fit(adata)
    model.save(tmp_path / "model")
    minify(model)
    with pytest.raises(ValueError, match="non-minified model with minified"):
        BetaVAE.load(tmp_path / "model", adata=model.adata, accelerator="cpu")


@pytest.mark.behavior("Operations on dimensions of minified data")
def test_operations(fit, adata):
    assert issubclass(BetaVAE, BaseMinifiedModeModelClass)
    model = fit(adata)
    minify(model)
    options = {"batch": "batch_0"} if model.module.condition_on_batch else {}
    assert model.decode(model.get_latent_representation(), **options).shape == (60, 20)


@pytest.mark.behavior(
    "Data without counts but with latent representations, loaded into a model that was not minified",
    default=CHECKED,
    conditioned=CHECKED,
)
def test_data_without_counts(trained, cells, tmp_path):
    trained.save(tmp_path / "model")
    empty = cells()
    empty.obsm["qzm"], empty.obsm["qzv"] = trained.get_latent_representation(return_dist=True)
    empty.X = empty.X * 0
    with pytest.raises(ValueError, match="no counts"):
        BetaVAE.load(tmp_path / "model", adata=empty, accelerator="cpu")
