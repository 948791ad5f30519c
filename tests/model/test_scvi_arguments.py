"""Other models of scvi-tools take over the weights of a BetaVAE."""

import numpy as np
import pandas as pd
import pytest
import torch
from scvi.model import SCANVI

from scbetavae.model import BetaVAE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SETUP = {"batch_key": "batch", "labels_key": "labels"}


def fitted(adata, setup=SETUP, **kwargs):
    BetaVAE.setup_anndata(adata, **setup)
    return BetaVAE(adata, n_hidden=16, n_latent=4, **kwargs).train(max_epochs=2, **QUIET)


@pytest.mark.parametrize("loaded", [False, True])
def test_scanvi_starts_from_the_weights(counts_adata, tmp_path, loaded):
    model = fitted(counts_adata, condition_on_batch=True, objective="dip_vae_ii", use_batch_norm="none", n_layers=2)
    if loaded:
        model.save(tmp_path / "model")
        model = BetaVAE.load(tmp_path / "model", counts_adata, accelerator="cpu")
    latents = model.get_latent_representation()
    scanvi = SCANVI.from_scvi_model(model, unlabeled_category="unknown")
    weights = scanvi.module.state_dict()
    of_both = {name: value for name, value in model.module.state_dict().items() if name in weights}
    assert {name.split(".")[0] for name in of_both} >= {"z_encoder", "decoder", "px_r"}
    for name, value in of_both.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)
    assert (scanvi.module.n_latent, scanvi.module.gene_likelihood) == (4, "nb")
    scanvi.train(max_epochs=1, **QUIET)
    assert set(scanvi.predict()) <= set(counts_adata.obs["labels"])
    np.testing.assert_allclose(model.get_latent_representation(), latents, rtol=0, atol=0)


def test_scanvi_takes_a_model_of_one_batch_though_it_is_not_conditioned(counts_adata):
    counts_adata.obs["batch"] = pd.Categorical(["batch_1"] * counts_adata.n_obs)
    model = fitted(counts_adata)
    scanvi = SCANVI.from_scvi_model(model, unlabeled_category="unknown")
    torch.testing.assert_close(scanvi.module.px_r, model.module.px_r, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("setup", "kwargs", "message"),
    [
        (SETUP, {}, r"not conditioned on batch\. Train BetaVAE\(adata, condition_on_batch=True\)"),
        (SETUP | {"encoder_obsm_key": "X_pca"}, {"condition_on_batch": True}, "set up with encoder_obsm_key"),
    ],
)
def test_what_scanvi_cannot_hold_is_refused(counts_adata, setup, kwargs, message):
    model = fitted(counts_adata, setup, **kwargs)
    with pytest.raises(ValueError, match=message):
        SCANVI.from_scvi_model(model, unlabeled_category="unknown")
