import numpy as np
import pytest
import scvi

from scbetavae.model import BetaVAE
from scbetavae.train import AdversarialTrainingPlan, LinearSchedule

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture
def model(counts_adata):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    return BetaVAE(counts_adata, objective="factor_vae", beta=6.0, n_hidden=16, n_latent=4)


def column(model, name):
    return model.history[name][name].to_numpy(dtype=float)


def test_history_holds_the_discriminator(model):
    model.train(max_epochs=4, batch_size=32, check_val_every_n_epoch=1, **QUIET)
    assert isinstance(model.trainer.lightning_module, AdversarialTrainingPlan)
    for name in ("discriminator_loss_train", "discriminator_accuracy_train", "total_correlation_train"):
        assert np.isfinite(column(model, name)).all()
        assert name in model.adata.uns["betavae"]["history"]
    assert column(model, "total_correlation_validation").shape == (4,)


def test_discriminator_learns_and_its_weights_move(model):
    before = {k: v.clone() for k, v in model.module.regularizer.discriminator.state_dict().items()}
    model.train(max_epochs=30, batch_size=32, plan_kwargs={"discriminator_lr": 1e-2}, **QUIET)
    after = model.module.regularizer.discriminator.state_dict()
    assert all(not np.array_equal(before[k], after[k]) for k in before)
    assert column(model, "discriminator_loss_train").min() < np.log(2)


def test_a_discriminator_of_no_weight_changes_nothing(counts_adata):
    histories = []
    for objective, kwargs in (("beta_vae", {}), ("factor_vae", {"gamma": 0})):
        scvi.settings.seed = 0
        adata = counts_adata.copy()
        BetaVAE.setup_anndata(adata)
        model = BetaVAE(adata, objective=objective, objective_kwargs=kwargs, beta=1.0, n_hidden=16, n_latent=4)
        model.train(max_epochs=5, batch_size=32, check_val_every_n_epoch=1, **QUIET)
        histories.append(model)
    for name in ("train_loss", "validation_loss", "nll_train", "kl_train"):
        np.testing.assert_allclose(*(column(m, name) for m in histories), rtol=1e-5)


def test_early_stopping_sleeps_and_then_stops(model):
    model.train(
        max_epochs=30,
        beta_schedule=LinearSchedule(warmup_epochs=8),
        early_stopping=True,
        early_stopping_patience=1,
        early_stopping_min_delta=1e9,
        **QUIET,
    )
    assert len(column(model, "beta")) == 10


def test_gradients_are_clipped(counts_adata):
    """Clipped to nothing, encoder and decoder stand still; the discriminator does not."""
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective="factor_vae", n_hidden=16, n_latent=4, anchor=None)
    before = {k: v.clone() for k, v in model.module.named_parameters()}
    model.train(max_epochs=2, gradient_clip_val=1e-30, plan_kwargs={"weight_decay": 0.0}, initialize=False, **QUIET)
    for name, value in model.module.named_parameters():
        stood_still = np.allclose(before[name].detach(), value.detach(), rtol=0, atol=1e-20)
        assert stood_still == ("discriminator" not in name)


def test_learning_rate_falls_on_the_plateau(model):
    model.train(
        max_epochs=10,
        beta_schedule=LinearSchedule(warmup_epochs=6),
        plan_kwargs={"reduce_lr_on_plateau": True, "lr_patience": 0, "lr_threshold": 1e9, "lr_factor": 0.5, "lr": 1e-3},
        check_val_every_n_epoch=1,
        **QUIET,
    )
    rates = [optimizer.param_groups[0]["lr"] for optimizer in model.trainer.optimizers]
    assert rates == pytest.approx([1e-3 * 0.5**3, 1e-3])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_resume_continues_both_optimizers(model, tmp_path, monkeypatch):
    from lightning.pytorch.callbacks import ModelCheckpoint

    monkeypatch.setattr(scvi.settings, "logging_dir", tmp_path / "log")
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", every_n_epochs=2, save_top_k=-1)
    run = {"max_epochs": 4, "batch_size": 32, "beta_schedule": lambda epoch: epoch + 1.0, "lr_schedule": "constant"}
    model.train(callbacks=[keep], enable_checkpointing=True, **run, **QUIET)
    resumed = BetaVAE(model.adata, objective="factor_vae", beta=6.0, n_hidden=16, n_latent=4)
    resumed.train(ckpt_path=next(tmp_path.glob("epoch=1*.ckpt")), **run, **QUIET)
    assert column(resumed, "beta").tolist() == [3, 4]
    assert [len(o.state) > 0 for o in resumed.trainer.optimizers] == [True, True]


def test_discriminator_is_saved_with_the_model(model, tmp_path):
    model.train(max_epochs=1, **QUIET)
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", model.adata, accelerator="cpu")
    for ours, theirs in zip(model.module.regularizer.parameters(), loaded.module.regularizer.parameters(), strict=True):
        np.testing.assert_array_equal(ours.detach(), theirs.detach())
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation(), atol=1e-6)


def test_gamma_defaults_to_beta_less_one(counts_adata):
    losses = []
    for beta, kwargs in ((6.0, {}), (1.0, {"gamma": 5.0})):
        scvi.settings.seed = 0
        adata = counts_adata.copy()
        BetaVAE.setup_anndata(adata)
        model = BetaVAE(adata, objective="factor_vae", objective_kwargs=kwargs, beta=beta, n_hidden=16, n_latent=4)
        model.train(max_epochs=3, beta_schedule="constant", **QUIET)
        losses.append(column(model, "train_loss"))
    np.testing.assert_allclose(*losses, rtol=1e-6)
