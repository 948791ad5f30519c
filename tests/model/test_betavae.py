import inspect
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi
import torch

import scbetavae
from scbetavae.model import BetaVAE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SMALL = {"n_hidden": 16, "n_latent": 4}
EVERY_ARGUMENT = {
    "guided_kwargs": {},
    "beta": 2.5,
    "objective": "beta_vae",
    "objective_kwargs": {},
    "anchor": "ica",
    "anchor_kwargs": {"weight": 5.0},
    "condition_on_batch": True,
    "n_hidden": 12,
    "n_latent": 3,
    "n_layers": 2,
    "dropout_rate": 0.2,
    "dispersion": "gene-batch",
    "gene_likelihood": "zinb",
    "use_observed_lib_size": True,
    "latent_distribution": "ln",
    "encode_covariates": True,
    "use_batch_norm": "decoder",
}


@pytest.fixture
def trained(counts_adata):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch", labels_key="labels")
    return BetaVAE(counts_adata, **SMALL).train(max_epochs=2, **QUIET)


def history(model):
    return {name: frame[name].to_numpy(dtype=float) for name, frame in model.history.items()}


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_loss_history_is_that_of_scvi(counts_adata, beta):
    ours, theirs = counts_adata, counts_adata.copy()
    run = {"max_epochs": 8, "batch_size": 32, "check_val_every_n_epoch": 1, **QUIET}

    scvi.settings.seed = 1
    scvi.model.SCVI.setup_anndata(theirs, batch_key="batch")
    reference = scvi.model.SCVI(theirs, gene_likelihood="nb")
    reference.train(plan_kwargs={"n_epochs_kl_warmup": None, "max_kl_weight": beta}, **run)

    scvi.settings.seed = 1
    BetaVAE.setup_anndata(ours, batch_key="batch")
    model = BetaVAE(ours, beta=beta, objective="beta_vae", condition_on_batch=True, anchor=None)
    model.train(beta_schedule="constant" if beta == 4.0 else beta, lr_schedule="constant", initialize=False, **run)

    expected, found = history(reference), history(model)
    compared = set(expected) - {"kl_weight"}
    assert compared >= {
        "train_loss",
        "validation_loss",
        "elbo_train",
        "kl_local_train",
        "reconstruction_loss_validation",
    }
    for name in compared:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(
        model.get_latent_representation(), reference.get_latent_representation(), rtol=1e-4, atol=1e-5
    )


def test_the_same_seed_gives_the_same_numbers_twice(counts_adata):
    latents = []
    for _ in range(2):
        scvi.settings.seed = 3
        adata = counts_adata.copy()
        BetaVAE.setup_anndata(adata, batch_key="batch")
        latents.append(BetaVAE(adata, **SMALL).train(max_epochs=3, **QUIET).get_latent_representation())
    np.testing.assert_array_equal(*latents)


def test_every_constructor_argument_is_tested_here():
    own = set(inspect.signature(BetaVAE).parameters) - {"adata", "registry", "kwargs"}
    assert own <= set(EVERY_ARGUMENT)


def test_save_and_load_keep_every_argument_and_the_latents(counts_adata, tmp_path):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    model = BetaVAE(counts_adata, **EVERY_ARGUMENT).train(max_epochs=2, **QUIET)
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", counts_adata.copy(), accelerator="cpu")
    assert loaded._arguments == model._arguments
    kept = loaded._arguments["non_kwargs"] | loaded._arguments["kwargs"]["kwargs"]
    assert kept == EVERY_ARGUMENT
    assert loaded.module.beta == 2.5
    # the moments of the posterior: a mean under "ln" would be an average over random draws
    for found, expected in zip(*(m.get_latent_representation(return_dist=True) for m in (loaded, model)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert loaded.history.keys() == model.history.keys()


def test_save_with_data_and_load_without_any(trained, tmp_path):
    trained.save(tmp_path / "model", save_anndata=True)
    loaded = BetaVAE.load(tmp_path / "model", accelerator="cpu")
    np.testing.assert_allclose(loaded.get_latent_representation(), trained.get_latent_representation(), atol=1e-6)
    assert loaded.adata.uns["betavae"]["params"] == trained.adata.uns["betavae"]["params"]


@pytest.mark.parametrize("condition_on_batch", [True, False])
@pytest.mark.parametrize("encoder_obsm_key", [None, "X_pca"])
def test_query_data_of_known_and_new_batches(counts_adata, tmp_path, condition_on_batch, encoder_obsm_key):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch", encoder_obsm_key=encoder_obsm_key)
    model = BetaVAE(counts_adata, condition_on_batch=condition_on_batch, beta=1.5, **SMALL).train(max_epochs=2, **QUIET)
    model.save(tmp_path / "model")

    query = BetaVAE.load_query_data(counts_adata.copy(), tmp_path / "model", accelerator="cpu")
    assert query.is_trained != condition_on_batch
    query.is_trained_ = True
    assert query.module.beta == 1.5
    np.testing.assert_allclose(query.get_latent_representation(), model.get_latent_representation(), atol=1e-6)

    new = counts_adata.copy()
    new.obs["batch"] = pd.Categorical(["batch_9"] * new.n_obs)
    query = BetaVAE.load_query_data(new, tmp_path / "model", accelerator="cpu")
    if condition_on_batch:
        query.train(max_epochs=1, beta_schedule="constant", **QUIET)
    else:
        with pytest.raises(ValueError, match="Nothing is left to train"):
            query.train(max_epochs=1, **QUIET)
        query = BetaVAE.load_query_data(new.copy(), tmp_path / "model", accelerator="cpu", unfrozen=True)
        query.train(max_epochs=1, **QUIET)
    assert np.isfinite(query.get_latent_representation()).all()


def test_encoder_reads_obsm_and_decoder_explains_counts(counts_adata, tmp_path):
    BetaVAE.setup_anndata(counts_adata, encoder_obsm_key="X_pca", continuous_covariate_keys=["age"])
    model = BetaVAE(counts_adata, encode_covariates=True, **SMALL).train(max_epochs=2, **QUIET)
    assert model.module.z_encoder.encoder.fc_layers[0][0].in_features == 5 + 1
    latent = model.get_latent_representation()

    other_pca = counts_adata.copy()
    other_pca.obsm["X_pca"] = other_pca.obsm["X_pca"][::-1].copy()
    assert not np.allclose(model.get_latent_representation(other_pca), latent)
    other_counts = counts_adata.copy()
    other_counts.X = other_counts.X[::-1].copy()
    np.testing.assert_allclose(model.get_latent_representation(other_counts), latent, atol=1e-6)
    assert model.get_normalized_expression().shape == counts_adata.shape

    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", counts_adata.copy(), accelerator="cpu")
    np.testing.assert_allclose(loaded.get_latent_representation(), latent, atol=1e-6)

    without = counts_adata.copy()
    del without.obsm["X_pca"]
    with pytest.raises(KeyError, match="encoder_obsm_key='X_pca'"):
        model.get_latent_representation(without)
    narrower = counts_adata.copy()
    narrower.obsm["X_pca"] = narrower.obsm["X_pca"][:, :3].copy()
    with pytest.raises(ValueError, match="column count of 5"):
        model.get_latent_representation(narrower)


@pytest.mark.parametrize("gene_likelihood", ["nb", "zinb", "poisson", "normal"])
@pytest.mark.parametrize("condition_on_batch", [True, False])
def test_likelihoods_train(counts_adata, gene_likelihood, condition_on_batch):
    BetaVAE.setup_anndata(
        counts_adata,
        layer="counts",
        batch_key="batch",
        labels_key="labels",
        categorical_covariate_keys=["donor"],
        continuous_covariate_keys=["age"],
    )
    model = BetaVAE(counts_adata, gene_likelihood=gene_likelihood, condition_on_batch=condition_on_batch, **SMALL)
    model.train(max_epochs=3, **QUIET)
    assert np.isfinite(model.history["objective_train"].to_numpy(dtype=float)).all()


@pytest.mark.parametrize("dispersion", ["gene", "gene-batch", "gene-label", "gene-cell"])
@pytest.mark.parametrize("use_observed_lib_size", [True, False])
def test_dispersions_and_library_sizes_train(counts_adata, dispersion, use_observed_lib_size):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch", labels_key="labels")
    model = BetaVAE(counts_adata, dispersion=dispersion, use_observed_lib_size=use_observed_lib_size, **SMALL)
    model.train(max_epochs=2, **QUIET)
    assert np.isfinite(float(model.get_elbo()))


def test_size_factors_take_the_place_of_library_size(counts_adata):
    BetaVAE.setup_anndata(counts_adata, size_factor_key="sf")
    model = BetaVAE(counts_adata, **SMALL).train(max_epochs=2, **QUIET)
    assert model.module.use_size_factor_key
    assert np.isfinite(float(model.get_reconstruction_error()["reconstruction_loss"]))


def test_library_size_kl_is_never_scaled(counts_adata):
    """With a latent library size the loss is NLL + KL(library) + beta KL(z), for any beta."""
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective="beta_vae", beta=100.0, use_observed_lib_size=False, **SMALL)
    model.train(max_epochs=2, beta_schedule="constant", **QUIET)
    found = history(model)
    kl_library = found["kl_local_train"] - found["kl_train"]
    assert (kl_library > 0).all()
    np.testing.assert_allclose(
        found["objective_train"], found["nll_train"] + kl_library + 100.0 * found["kl_train"], rtol=1e-5
    )


def test_condition_on_batch_decides_whether_the_decoder_is_told(counts_adata):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    told = BetaVAE(counts_adata, condition_on_batch=True, **SMALL).train(max_epochs=2, **QUIET)
    expression = [told.get_normalized_expression(transform_batch=b, n_samples=1) for b in ("batch_1", "batch_2")]
    assert not np.allclose(*expression)
    untold = BetaVAE(counts_adata, **SMALL).train(max_epochs=2, **QUIET)
    with pytest.raises(ValueError, match="condition_on_batch=True"):
        untold.get_normalized_expression(transform_batch="batch_1")
    swapped = counts_adata.copy()
    swapped.obs["batch"] = pd.Categorical(["batch_1"] * swapped.n_obs)
    np.testing.assert_array_equal(untold.get_latent_representation(swapped), untold.get_latent_representation())


def test_what_is_inherited_works(trained):
    n_cells, n_genes = trained.adata.shape
    mean, variance = trained.get_latent_representation(return_dist=True)
    assert mean.shape == variance.shape == (n_cells, 4)
    assert (variance > 0).all()
    assert np.isfinite(float(trained.get_elbo()))
    assert np.isfinite(float(trained.get_reconstruction_error()["reconstruction_loss"]))
    assert np.isfinite(float(trained.get_marginal_ll(n_mc_samples=4)))
    assert trained.get_normalized_expression(library_size=1e4).shape == (n_cells, n_genes)
    assert trained.posterior_predictive_sample(n_samples=2).shape == (n_cells, n_genes, 2)
    assert trained.get_feature_correlation_matrix(n_samples=2).shape == (n_genes, n_genes)
    assert trained.get_likelihood_parameters()["mean"].shape == (n_cells, n_genes)
    table = trained.differential_expression(groupby="labels", group1="B cell", silent=True)
    assert len(table) == n_genes * 1
    assert trained.get_latent_library_size(give_mean=False).shape == (n_cells, 1)


def test_minified_data_decode_as_before(trained):
    mean, variance = trained.get_latent_representation(return_dist=True)
    scvi.settings.seed = 0
    before = trained.get_normalized_expression(n_samples=1)
    trained.adata.obsm["X_latent_qzm"] = mean
    trained.adata.obsm["X_latent_qzv"] = variance
    trained.minify_adata()
    assert trained.minified_data_type == "latent_posterior_parameters"
    np.testing.assert_allclose(trained.get_latent_representation(), mean, atol=1e-6)
    scvi.settings.seed = 0
    np.testing.assert_allclose(trained.get_normalized_expression(n_samples=1), before, rtol=1e-4)


def test_what_is_stored_is_flat_and_survives_a_round_trip(trained, tmp_path):
    stored = trained.adata.uns["betavae"]
    assert stored["params"]["beta"] == 2.0
    assert stored["params"]["beta_schedule"] == "linear"
    assert stored["params"]["epochs"] == 2
    assert all(isinstance(value, str | bool | int | float) for value in stored["params"].values())
    frame = stored["history"]
    assert frame.columns[:5].tolist() == ["beta", "objective_train", "nll_train", "kl_train", "active_dimensions"]
    assert set(frame.dtypes.astype(str)) == {"float64"}
    trained.adata.write_h5ad(tmp_path / "cells.h5ad")
    trained.adata.write_zarr(tmp_path / "cells.zarr")
    for back in (anndata.read_h5ad(tmp_path / "cells.h5ad"), anndata.read_zarr(tmp_path / "cells.zarr")):
        assert {name: str(value) for name, value in back.uns["betavae"]["params"].items()} == {
            name: str(value) for name, value in stored["params"].items()
        }
        pd.testing.assert_frame_equal(back.uns["betavae"]["history"], frame, check_index_type=False)


def test_key_added_keeps_runs_apart(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, **SMALL).train(max_epochs=1, key_added="first", **QUIET)
    model.train(max_epochs=1, key_added="second", **QUIET)
    assert counts_adata.uns["first"]["params"]["epochs"] == 1
    assert counts_adata.uns["second"]["params"]["epochs"] == 2
    assert "betavae" not in counts_adata.uns


def test_training_does_not_change_what_others_stored(counts_adata):
    counts_adata.uns["betavae"] = {"mine": 1}
    BetaVAE.setup_anndata(counts_adata)
    BetaVAE(counts_adata, **SMALL).train(max_epochs=1, **QUIET)
    assert counts_adata.uns["betavae"]["mine"] == 1


def test_a_plain_anndata_in_a_notebook_gives_no_warning_of_ours(counts_adata):
    adata = anndata.AnnData(counts_adata.X.copy())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        BetaVAE.setup_anndata(adata)
        BetaVAE(adata).train(max_epochs=2, **QUIET)
    package = str(Path(scbetavae.__file__).parent)
    assert [w for w in caught if w.filename.startswith(package) or "beta" in str(w.message)] == []


@pytest.mark.parametrize("beta", [-1, -0.001, float("nan"), float("inf"), "4", True])
def test_beta_must_be_a_weight(counts_adata, beta):
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(ValueError, match=r"beta=.* is not allowed: pass a number of at least 0"):
        BetaVAE(counts_adata, beta=beta)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"objective": "beta_vea"}, ValueError, "Did you mean 'beta_vae'"),
        ({"objective_kwargs": {"gamma": 1}}, TypeError, "has no argument 'gamma'"),
        ({"gene_likelihood": "bernoulli"}, ValueError, "Choose from"),
        ({"n_latnet": 3}, TypeError, "Did you mean 'n_latent'"),
        ({"batch_representation": "embedding"}, ValueError, "condition_on_batch=True"),
    ],
)
def test_bad_arguments(counts_adata, arguments, error, message):
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(error, match=message):
        BetaVAE(counts_adata, **arguments)


@pytest.mark.parametrize("max_epochs", [0, -1, 2.5, True])
def test_bad_lengths_of_a_run(trained, max_epochs):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        trained.train(max_epochs=max_epochs)


def test_a_misspelt_schedule_is_refused_before_any_work(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, **SMALL)
    with pytest.raises(ValueError, match=r"beta_schedule='liner' is not allowed. Did you mean 'linear'"):
        model.train(beta_schedule="liner")
    assert not model.is_trained
    assert "betavae" not in counts_adata.uns


def test_summary_names_what_matters(trained):
    assert "objective: beta_tcvae, beta: 2," in trained.summary_string
    assert "condition_on_batch: False" in trained.summary_string


def test_registry_stands_in_for_data(trained):
    model = BetaVAE(registry=trained.registry, n_hidden=16, n_latent=4)
    state = {name: value.clone() for name, value in trained.module.state_dict().items()}
    model.module.load_state_dict(state)
    assert torch.equal(model.module.px_r, trained.module.px_r)
