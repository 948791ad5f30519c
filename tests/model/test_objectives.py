"""The whole family through the model's front door."""

import anndata
import numpy as np
import pytest
import scvi

from scbetavae.model import BetaVAE
from scbetavae.module import OBJECTIVES

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SMALL = {"n_hidden": 16, "n_latent": 4}
LIKE_SCVI = {"max_epochs": 6, "batch_size": 32, "lr_schedule": "constant", "initialize": False, **QUIET}
STRONG = {
    "beta_vae": (8.0, {}),
    "beta_tcvae": (8.0, {}),
    "factor_vae": (8.0, {}),
    "dip_vae_i": (None, {"lambda_od": 10}),
    "dip_vae_ii": (None, {"lambda_od": 10}),
    "capacity": (None, {"capacity": 2, "gamma": 30}),
}


def test_no_objective_is_left_out():
    assert set(STRONG) == set(OBJECTIVES)


def column(model, name):
    return model.history[name][name].to_numpy(dtype=float)


@pytest.fixture(scope="module")
def reference(_counts_adata):
    adata = _counts_adata.copy()
    scvi.settings.seed = 5
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata, gene_likelihood="nb", **SMALL)
    model.train(
        max_epochs=6, batch_size=32, plan_kwargs={"n_epochs_kl_warmup": None}, check_val_every_n_epoch=1, **QUIET
    )
    return model


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_neutral_setting_is_plain_scvi(counts_adata, reference, objective):
    objective_kwargs = dict(OBJECTIVES[objective].neutral)
    beta = objective_kwargs.pop("beta", None)
    scvi.settings.seed = 5
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    model = BetaVAE(
        counts_adata,
        objective=objective,
        beta=beta,
        objective_kwargs=objective_kwargs,
        condition_on_batch=True,
        anchor=None,
        **SMALL,
    )
    model.train(beta_schedule="constant", check_val_every_n_epoch=1, **LIKE_SCVI)
    for name in ("train_loss", "validation_loss", "elbo_train", "elbo_validation", "kl_local_train"):
        np.testing.assert_allclose(column(model, name), column(reference, name), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("objective", STRONG)
def test_strong_setting_is_not(counts_adata, reference, objective):
    beta, objective_kwargs = STRONG[objective]
    scvi.settings.seed = 5
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    model = BetaVAE(
        counts_adata,
        objective=objective,
        beta=beta,
        objective_kwargs=objective_kwargs,
        condition_on_batch=True,
        anchor=None,
        **SMALL,
    )
    model.train(beta_schedule="constant", **LIKE_SCVI)
    assert abs(column(model, "train_loss")[-1] - column(reference, "train_loss")[-1]) > 0.1


@pytest.mark.parametrize("objective", STRONG)
def test_life_cycle(counts_adata, tmp_path, objective):
    beta, objective_kwargs = STRONG[objective]
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    model = BetaVAE(counts_adata, objective=objective, beta=beta, objective_kwargs=objective_kwargs, **SMALL)
    model.train(max_epochs=3, batch_size=108, train_size=0.9, early_stopping=True, **QUIET)
    assert np.isfinite(float(model.get_elbo()))
    assert np.isfinite(float(model.get_marginal_ll(n_mc_samples=4, n_mc_samples_per_pass=2)))
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", counts_adata, accelerator="cpu")
    assert loaded._arguments == model._arguments
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation(), atol=1e-6)
    query = BetaVAE.load_query_data(counts_adata.copy(), tmp_path / "model", accelerator="cpu")
    np.testing.assert_allclose(query.get_latent_representation(), model.get_latent_representation(), atol=1e-6)
    counts_adata.write_h5ad(tmp_path / "cells.h5ad")
    stored = anndata.read_h5ad(tmp_path / "cells.h5ad").uns["betavae"]
    assert stored["params"]["objective"] == objective
    assert all(f"objective_kwargs_{name}" in stored["params"] for name in objective_kwargs)


@pytest.mark.filterwarnings("ignore:Last batch will have a small size")
@pytest.mark.parametrize("objective", STRONG)
@pytest.mark.parametrize("n_left", [1, 2])
def test_last_minibatches_of_one_and_two_cells(counts_adata, objective, n_left):
    beta, objective_kwargs = STRONG[objective]
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective=objective, beta=beta, objective_kwargs=objective_kwargs, **SMALL)
    model.train(max_epochs=2, train_size=(32 + n_left) / 120, batch_size=32, **QUIET)
    assert np.isfinite(column(model, "objective_train")).all()
    assert all(bool(p.isfinite().all()) for p in model.module.parameters())


def test_capacity_rises_with_the_schedule(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective="capacity", objective_kwargs={"capacity": 6.0}, **SMALL)
    model.train(max_epochs=6, beta_schedule=lambda epoch: min(epoch / 3, 1.0), **QUIET)
    np.testing.assert_allclose(column(model, "capacity_train"), [0, 2, 4, 6, 6, 6], rtol=1e-6)
    np.testing.assert_allclose(
        column(model, "objective_train")[-1],
        column(model, "nll_train")[-1] + 30 * abs(column(model, "kl_train")[-1] - 6.0),
        rtol=1e-5,
    )


def test_capacity_is_reached(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective="capacity", objective_kwargs={"capacity": 3.0, "gamma": 100.0}, **SMALL)
    model.train(batch_size=32, **QUIET)
    assert column(model, "kl_train")[-1] == pytest.approx(3.0, rel=0.15)


def test_parts_of_the_kl_telescope_in_the_history(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective="beta_tcvae", **SMALL).train(max_epochs=80, batch_size=108, **QUIET)
    parts = sum(column(model, f"{name}_train") for name in ("mutual_information", "total_correlation", "dimension_kl"))
    # the parts use one draw per cell, the KL is exact
    np.testing.assert_allclose(parts.mean(), column(model, "kl_train").mean(), rtol=0.1)
