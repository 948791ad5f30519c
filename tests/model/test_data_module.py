"""Models without AnnData: trained on a data module, saved, and loaded with data."""

import numpy as np
import pytest
from scvi.dataloaders import DataSplitter

from scbetavae.model import BetaVAE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
pytestmark = pytest.mark.filterwarnings("ignore:Model was initialized without `adata`")


@pytest.fixture
def datamodule(counts_adata):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    datamodule = DataSplitter(BetaVAE._get_most_recent_anndata_manager(counts_adata))
    datamodule.n_vars, datamodule.n_batch = counts_adata.n_vars, 2
    return datamodule


@pytest.mark.parametrize("condition_on_batch", [False, True])
def test_a_model_without_data_is_built_when_it_is_trained(datamodule, counts_adata, tmp_path, condition_on_batch):
    model = BetaVAE(n_latent=3, n_hidden=16, beta=1.5, condition_on_batch=condition_on_batch)
    assert type(model) is BetaVAE
    assert model.module is None
    assert "train(datamodule=...)" in model._repr_html_()
    model.train(max_epochs=2, datamodule=datamodule, **QUIET)
    assert model.module.beta == 1.5
    assert model.module.anchor.n_components > 0  # fitted on the cells of the data module
    assert np.isfinite(model.history["objective_train"].to_numpy(dtype=float)).all()
    loader = datamodule.train_dataloader()
    assert model.get_latent_representation(dataloader=loader).shape[1] == 3
    assert np.isfinite(float(model.get_elbo(dataloader=loader)))
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", counts_adata, accelerator="cpu")
    assert loaded.get_latent_representation().shape == (counts_adata.n_obs, 3)
    assert loaded.module.condition_on_batch == condition_on_batch


def test_the_default_length_is_that_of_the_data_module(datamodule):
    model = BetaVAE(n_latent=3, n_hidden=8, objective="factor_vae").train(datamodule=datamodule, **QUIET)
    assert model.trainer.lightning_module.n_steps_done == 300
    assert "discriminator_loss_train" in model.history


def test_what_is_missing_is_said(datamodule):
    model = BetaVAE(n_latent=3, n_hidden=8)
    with pytest.raises(ValueError, match=r"constructed without data\. Pass train\(datamodule"):
        model.train(max_epochs=1, **QUIET)
    del datamodule.n_batch
    with pytest.raises(ValueError, match="no n_batch"):
        model.train(max_epochs=1, datamodule=datamodule, **QUIET)
