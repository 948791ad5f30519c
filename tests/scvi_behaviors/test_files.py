"""Saving and loading, with data and without, with changed data and set-ups."""

from importlib.metadata import version

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from scvi.train import SaveCheckpoint

from scbetavae.model import BetaVAE, TrainingDivergedError

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def is_same(one, other):
    """Whether two models have equal arguments, weights and histories."""
    weights = [model.module.state_dict() for model in (one, other)]
    return (
        one._arguments == other._arguments
        and weights[0].keys() == weights[1].keys()
        and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        and one.history.keys() == other.history.keys()
        and one.is_trained == other.is_trained
    )


@pytest.mark.behavior("`save` and `load` with the data in the folder, with a prefix or without")
@pytest.mark.parametrize("prefix", [None, "run1_"])
def test_save_with_data(fit, adata, tmp_path, prefix):
    model = fit(adata)
    model.save(tmp_path / "model", prefix=prefix, save_anndata=True)
    loaded = BetaVAE.load(tmp_path / "model", prefix=prefix, accelerator="cpu")
    assert is_same(loaded, model)
    np.testing.assert_array_equal(loaded.validation_indices, model.validation_indices)
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation())
    loaded.train(max_epochs=1, **QUIET)
    assert len(loaded.history["beta"]) == 2 * len(model.history["beta"])


@pytest.mark.behavior("`load` with other data: the set-up is transferred")
def test_load_with_other_data(trained, cells, tmp_path):
    trained.save(tmp_path / "model")
    other = cells(n_cells=40, seed=4)
    loaded = BetaVAE.load(str(tmp_path / "model"), adata=other, accelerator="cpu")
    assert is_same(loaded, trained)
    assert loaded.adata is other
    np.testing.assert_allclose(
        loaded.get_latent_representation(), trained.get_latent_representation(cells(n_cells=40, seed=4))
    )
    assert loaded.adata_manager.data_registry["batch"].attr_key == "_scvi_batch"


@pytest.mark.behavior("`load` without data: a model that reads data loaders")
@pytest.mark.filterwarnings("ignore:Save path contains no saved anndata")
@pytest.mark.parametrize("arguments", [{}, {"adata": False}])
def test_load_without_data(trained, cells, tmp_path, arguments):
    trained.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", accelerator="cpu", **arguments)
    assert loaded.adata is None
    assert is_same(loaded, trained)
    loader = trained._make_data_loader(trained.adata)
    np.testing.assert_allclose(
        loaded.get_latent_representation(dataloader=loader), trained.get_latent_representation(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.behavior("`load` with other genes, or with unknown batches, is an error")
def test_load_with_wrong_data(trained, cells, tmp_path):
    trained.save(tmp_path / "model")
    with pytest.raises(ValueError, match="genes"):
        BetaVAE.load(tmp_path / "model", cells(n_genes=15), accelerator="cpu")
    with pytest.raises(ValueError, match="batch_7"):
        BetaVAE.load(tmp_path / "model", cells(batches=("batch_0", "batch_7")), accelerator="cpu")


@pytest.mark.behavior("`save` to a folder that exists needs `overwrite=True`")
def test_overwrite(trained, tmp_path):
    trained.save(tmp_path / "model")
    with pytest.raises(ValueError, match="already exists"):
        trained.save(tmp_path / "model")
    trained.save(tmp_path / "model", overwrite=True)


@pytest.mark.behavior("`load_registry`; a folder of another class is an error")
def test_registry_of_a_folder(trained, adata, tmp_path):
    trained.save(tmp_path / "model")
    registry = BetaVAE.load_registry(tmp_path / "model")
    assert registry["model_name"] == "BetaVAE"
    assert registry["setup_args"]["batch_key"] == "batch"
    with pytest.raises(ValueError, match="different class"):
        scvi.model.SCVI.load(tmp_path / "model", adata, accelerator="cpu")
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    scvi.model.SCVI(adata, n_latent=2, n_hidden=4).save(tmp_path / "other")
    with pytest.raises(ValueError, match="different class"):
        BetaVAE.load(tmp_path / "other", adata, accelerator="cpu")


@pytest.mark.behavior("`SaveCheckpoint`, with the best model loaded at the end or not")
@pytest.mark.parametrize("load_best_on_end", [False, True])
def test_save_checkpoint(build, adata, tmp_path, load_best_on_end):
    keep = SaveCheckpoint(tmp_path, monitor="elbo_validation", load_best_on_end=load_best_on_end)
    model = build(adata)
    model.train(max_epochs=3, callbacks=[keep], check_val_every_n_epoch=1, lr_schedule="constant", **QUIET)
    best = BetaVAE.load(keep.best_model_path, adata, accelerator="cpu")
    assert best.is_trained
    assert model.is_trained
    values = model.history["elbo_validation"].iloc[:, 0].to_numpy(dtype=float)
    assert float(keep.best_model_score) == pytest.approx(values.min())
    if load_best_on_end or values.argmin() == 2:
        np.testing.assert_allclose(best.get_latent_representation(), model.get_latent_representation())


@pytest.mark.behavior("`enable_checkpointing=True`")
def test_checkpointing(build, adata, tmp_path, monkeypatch):
    monkeypatch.setattr(scvi.settings, "logging_dir", tmp_path)
    model = build(adata)
    model.train(max_epochs=2, enable_checkpointing=True, lr_schedule="constant", **QUIET)
    (folder,) = {path.parent for path in tmp_path.rglob("model.pt")}
    assert "objective_validation" in str(folder)
    assert BetaVAE.load(folder, adata, accelerator="cpu").is_trained


class Stop(Callback):
    """Keep what a run does in every minibatch, and stop it at the end of an epoch."""

    def __init__(self, after=None):
        self.after, self.rows = after, []

    def on_train_batch_end(self, trainer, plan, *args):
        weight = plan.module.px_r.detach().clone()
        self.rows.append((plan.kl_weight * plan.target_beta, trainer.optimizers[0].param_groups[0]["lr"], weight))

    def on_train_epoch_end(self, trainer, plan):
        trainer.should_stop = trainer.current_epoch == self.after


@pytest.mark.behavior(
    "A run goes on from a Lightning checkpoint, with the weights, beta and learning rate of that time"
)
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("objective", ["beta_tcvae", "factor_vae"])
def test_resume(build, adata, tmp_path, objective, monkeypatch):
    monkeypatch.setattr(scvi.settings, "logging_dir", tmp_path / "log")
    run = {"max_epochs": 4, "batch_size": 20, "beta_schedule": "linear", **QUIET}
    split = {"external_indexing": [np.arange(54), np.arange(54, 60)]}
    run |= {"datasplitter_kwargs": split, "lr_schedule": "one_cycle"}
    whole, first, second = Stop(), Stop(after=1), Stop()
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", every_n_epochs=1, save_top_k=-1, monitor=None)
    arguments = {"objective": objective, "dropout_rate": 0.0}
    build(adata, **arguments).train(callbacks=[whole], **run)
    build(adata, **arguments).train(callbacks=[first, keep], enable_checkpointing=True, **run)
    resumed = build(adata, **arguments)
    resumed.train(callbacks=[second], ckpt_path=tmp_path / "epoch=1.ckpt", **run)
    assert len(first.rows) == len(second.rows) == len(whole.rows) / 2
    np.testing.assert_allclose(
        [row[:2] for row in first.rows + second.rows], [row[:2] for row in whole.rows], rtol=1e-6
    )
    assert 0 < (second.rows[0][2] - first.rows[-1][2]).abs().max() < 0.05
    assert resumed.is_trained


@pytest.mark.behavior(
    "A loss that is not a number ends the run; `SaveCheckpoint(check_nan_gradients=True)` keeps the best model"
)
def test_nan(build, adata, tmp_path):
    class Break(Callback):
        def on_train_epoch_start(self, trainer, plan):
            if trainer.current_epoch == 2:
                with torch.no_grad():
                    plan.module.px_r.fill_(float("nan"))

    keep = SaveCheckpoint(tmp_path, monitor="elbo_validation", check_nan_gradients=True)
    model = build(adata)
    with pytest.raises(TrainingDivergedError, match="epoch 3"):
        model.train(max_epochs=4, callbacks=[keep, Break()], check_val_every_n_epoch=1, lr_schedule="constant", **QUIET)
    best = BetaVAE.load(keep.best_model_path, adata, accelerator="cpu")
    assert np.isfinite(best.get_latent_representation()).all()


@pytest.mark.behavior("`scvi.hub.HubModel`: a folder with metadata and a model card of one's own")
def test_hub(fit, adata, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    from scvi.hub import HubMetadata, HubModel

    model = fit(adata)
    where = str(tmp_path / "model")
    model.save(where, save_anndata=True)
    about = {"anndata_version": version("anndata"), "model_parent_module": "scbetavae.model"}
    card = hub.ModelCard("---\nlicense: cc-by-4.0\n---\n\nCells of a test.")
    HubModel(where, metadata=HubMetadata.from_dir(where, **about), model_card=card).save(overwrite=True)
    pulled = HubModel(where)
    assert type(pulled.model) is BetaVAE
    np.testing.assert_allclose(pulled.model.get_latent_representation(), model.get_latent_representation())
    assert "Cells of a test" in pulled.model_card.content
