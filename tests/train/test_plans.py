import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor
from scvi.train import TrainingPlan

from scbetavae.model import BetaVAE
from scbetavae.train import BetaVAETrainingPlan, ConstantSchedule, CosineSchedule, CyclicalSchedule, LinearSchedule

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture
def model(counts_adata):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    return BetaVAE(counts_adata, objective="beta_vae", beta=4.0, n_hidden=16, n_latent=4, anchor=None)


def beta_of(model):
    return model.history["beta"]["beta"].to_numpy(dtype=float)


@pytest.mark.parametrize(
    "schedule", ["linear", "cosine", "sigmoid", "cyclical", "constant", LinearSchedule(warmup_steps=6)]
)
def test_history_shows_the_plateau(model, schedule):
    model.train(max_epochs=8, beta_schedule=schedule, batch_size=32, lr_schedule="constant", **QUIET)
    assert beta_of(model)[-1] == 4.0
    assert len(beta_of(model)) == 8
    if schedule not in ("constant",):
        assert beta_of(model)[0] < 4.0


@pytest.mark.parametrize("objective", ["beta_vae", "factor_vae"])
def test_means_of_an_epoch_are_over_all_of_its_minibatches(counts_adata, objective):
    """Also where a step of Lightning's loop trains on several minibatches, as in the first run."""

    class Watch(Callback):
        def __init__(self):
            self.epochs = []

        def on_train_epoch_end(self, trainer, pl_module):
            self.epochs.append(float(trainer.callback_metrics["elbo_train"]))

    class WatchMinibatches(Watch):
        def __init__(self):
            super().__init__()
            self.minibatches = []

        def on_train_batch_end(self, trainer, *args):
            self.minibatches.append(float(trainer.callback_metrics["elbo_train_step"]))

    seen = []
    for watch, plan_kwargs in ((Watch(), {}), (WatchMinibatches(), {"on_step": True})):
        scvi.settings.seed = 0
        adata = counts_adata.copy()
        BetaVAE.setup_anndata(adata)
        model = BetaVAE(adata, objective=objective, n_hidden=16, n_latent=4, anchor=None)
        run = {"max_epochs": 2, "batch_size": 6, "train_size": 0.9, "lr_schedule": "constant"}
        model.train(**run, callbacks=[watch], plan_kwargs=plan_kwargs, **QUIET)
        seen.append(watch.epochs)
        np.testing.assert_allclose(model.history["elbo_train"].iloc[:, 0].astype(float), watch.epochs, rtol=1e-5)
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-5)
    np.testing.assert_allclose(seen[1], np.reshape(watch.minibatches, (2, 18)).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 16.0])
def test_every_beta_from_zero_up_is_legal(counts_adata, beta):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective="beta_vae", beta=beta, n_hidden=16, n_latent=4).train(max_epochs=3, **QUIET)
    assert beta_of(model)[-1] == beta
    objective = model.history["objective_train"]["objective_train"].astype(float)
    nll, kl = (model.history[name][name].astype(float) for name in ("nll_train", "kl_train"))
    np.testing.assert_allclose(objective, nll + beta * kl, rtol=1e-5)


def test_loss_is_annealed_and_objective_is_not(model):
    model.train(max_epochs=6, beta_schedule=lambda epoch: min(epoch, 4.0), check_val_every_n_epoch=1, **QUIET)
    assert beta_of(model).tolist() == [0, 1, 2, 3, 4, 4]
    for mode in ("train", "validation"):
        nll, kl = (model.history[f"{n}_{mode}"].iloc[:, 0].to_numpy(dtype=float) for n in ("nll", "kl"))
        loss = model.history["train_loss" if mode == "train" else "validation_loss"].iloc[:, 0].to_numpy(dtype=float)
        objective = model.history[f"objective_{mode}"].iloc[:, 0].to_numpy(dtype=float)
        np.testing.assert_allclose(loss, nll + beta_of(model) * kl, rtol=1e-5)
        np.testing.assert_allclose(objective, nll + 4.0 * kl, rtol=1e-5)


def test_a_schedule_longer_than_the_run_warns_with_both_numbers(model):
    with pytest.warns(UserWarning, match=r"warmup_epochs=400 .*max_epochs=3.* instead of 4"):
        model.train(max_epochs=3, beta_schedule=LinearSchedule(warmup_epochs=400), **QUIET)


def test_early_stopping_sleeps_during_warmup(model):
    """With no patience and an impossible improvement, training stops at the second check after the warm-up."""
    model.train(
        max_epochs=40,
        beta_schedule=LinearSchedule(warmup_epochs=12),
        early_stopping=True,
        early_stopping_patience=1,
        early_stopping_min_delta=1e9,
        **QUIET,
    )
    assert len(beta_of(model)) == 14
    assert beta_of(model)[-1] == 4.0


def test_early_stopping_watches_the_objective_at_full_beta(model):
    model.train(max_epochs=3, early_stopping=True, **QUIET)
    assert model.trainer.early_stopping_callback.monitor == "objective_validation"


def test_learning_rate_waits_for_the_plateau_of_beta(model):
    """With patience 0 the rate falls at every check that the threshold calls no improvement: all after the first."""
    model.train(
        max_epochs=10,
        beta_schedule=LinearSchedule(warmup_epochs=6),
        plan_kwargs={"reduce_lr_on_plateau": True, "lr_patience": 0, "lr_threshold": 1e9, "lr_factor": 0.5, "lr": 1e-3},
        check_val_every_n_epoch=1,
        **QUIET,
    )
    rate = model.trainer.optimizers[0].param_groups[0]["lr"]
    # epochs 7 to 10 look for a plateau; the first of them sets the standard
    assert rate == pytest.approx(1e-3 * 0.5**3)


def test_active_dimensions_are_counted(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    free = BetaVAE(counts_adata, beta=0.0, n_hidden=16, n_latent=4).train(max_epochs=20, **QUIET)
    assert free.history["active_dimensions"].iloc[-1, 0] == 4
    crushed = BetaVAE(counts_adata, objective="beta_vae", beta=1e5, n_hidden=16, n_latent=4)
    crushed.train(max_epochs=60, beta_schedule="constant", plan_kwargs={"lr": 1e-2}, **QUIET)
    assert crushed.history["active_dimensions"].iloc[-1, 0] < 4


def test_beta_matters(counts_adata):
    kl = {}
    for beta in (0.1, 10.0):
        scvi.settings.seed = 0
        BetaVAE.setup_anndata(counts_adata)
        model = BetaVAE(counts_adata, objective="beta_vae", beta=beta, n_hidden=16, n_latent=4).train(
            max_epochs=40, **QUIET
        )
        kl[beta] = float(model.history["kl_train"].iloc[-1, 0])
    assert kl[10.0] < kl[0.1] / 2


def test_training_goes_on_from_a_trained_model(model):
    model.train(max_epochs=3, **QUIET)
    model.train(max_epochs=2, beta_schedule="constant", **QUIET)
    assert len(beta_of(model)) == 5
    assert beta_of(model)[-2:].tolist() == [4.0, 4.0]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_resume_from_a_checkpoint_continues_the_schedule(model, tmp_path, monkeypatch):
    from lightning.pytorch.callbacks import ModelCheckpoint

    monkeypatch.setattr(scvi.settings, "logging_dir", tmp_path / "log")
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", every_n_epochs=4, save_top_k=-1)
    run = {
        "max_epochs": 8,
        "batch_size": 32,
        "beta_schedule": lambda epoch: epoch + 1.0,
        "lr_schedule": "constant",
        **QUIET,
    }
    model.train(callbacks=[keep], enable_checkpointing=True, **run)
    path = next(tmp_path.glob("epoch=3*.ckpt"))
    resumed = BetaVAE(model.adata, objective="beta_vae", beta=4.0, n_hidden=16, n_latent=4, anchor=None)
    resumed.train(ckpt_path=path, **run)
    assert beta_of(resumed).tolist() == [5, 6, 7, 8]


def in_epoch(number, change):
    """A callback that calls ``change(plan, optimizer)`` before an epoch, and keeps the weights of that time."""

    class Change(Callback):
        def on_train_epoch_start(self, trainer, plan):
            if trainer.current_epoch == number:
                change(plan, trainer.optimizers[0])
                self.weights = {n: p.detach().clone() for n, p in plan.module.named_parameters()}

    return Change()


def set_rate(plan, optimizer):
    for group in optimizer.param_groups:
        group["lr"] = 0.0


def schedule_rate(plan, optimizer):
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.0)
    optimizer.step()
    rates.step()


@pytest.mark.parametrize("lr_schedule", ["one_cycle", "constant"])
@pytest.mark.parametrize("change", [set_rate, schedule_rate])
@pytest.mark.parametrize("objective", ["beta_vae", "factor_vae"])
def test_a_learning_rate_that_others_change_stays_changed(counts_adata, lr_schedule, change, objective):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective=objective, n_hidden=8, n_latent=3, anchor=None)
    callback = in_epoch(2, change)
    model.train(max_epochs=4, batch_size=32, lr_schedule=lr_schedule, callbacks=[callback], **QUIET)
    rates = model.history["lr"].iloc[:, 0].to_numpy(dtype=float)
    assert rates[0] > 0
    assert rates[-1] == 0
    for name, parameter in model.module.named_parameters():
        if "discriminator" not in name:
            torch.testing.assert_close(parameter, callback.weights[name], rtol=0, atol=0)


def test_a_learning_rate_that_others_change_scales_the_cycle(model):
    def halve(plan, optimizer):
        for group in optimizer.param_groups:
            group["lr"] /= 2

    run = {"max_epochs": 6, "batch_size": 32, **QUIET}
    rates = []
    for callbacks in ([], [in_epoch(3, halve)]):
        model.train(callbacks=callbacks, **run)
        rates.append(model.history["lr"].iloc[-24:, 0].to_numpy(dtype=float))
    np.testing.assert_allclose(rates[1] / rates[0], np.repeat([1.0, 0.5], 12), rtol=1e-6)


@pytest.mark.parametrize("lr_schedule", ["one_cycle", "constant"])
def test_minibatches_are_logged_on_request(model, lr_schedule):
    run = {"max_epochs": 3, "batch_size": 32, "check_val_every_n_epoch": 1, "lr_schedule": lr_schedule, **QUIET}
    model.train(plan_kwargs={"on_step": True}, log_every_n_steps=2, **run)
    assert model.trainer.global_step == 12
    steps = model.history["train_loss_step"]
    assert steps.index.name == "step"
    assert steps.index.tolist() == [2, 4, 6, 8, 10, 12]
    assert np.isfinite(steps.to_numpy(dtype=float)).all()
    assert len(model.history["beta_step"]) == 6
    assert {"validation_loss_step", "validation_loss_epoch", "elbo_train_epoch"} <= set(model.history)
    assert len(model.history["elbo_train_epoch"]) == len(model.history["elbo_train"])
    assert not any(name.endswith(("_step", "_epoch")) for name in model.adata.uns["betavae"]["history"])


def test_minibatches_are_shown_to_callbacks_on_request(model):
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, *args):
            seen.append(float(trainer.callback_metrics["train_loss_step"]))

    model.train(max_epochs=2, batch_size=32, plan_kwargs={"on_step": True}, callbacks=[Watch()], **QUIET)
    np.testing.assert_allclose(seen, model.history["train_loss_step"].iloc[:, 0].to_numpy(dtype=float))


def test_the_column_of_a_learning_rate_monitor_has_the_name_of_scvi_tools(model):
    model.train(max_epochs=1, callbacks=[LearningRateMonitor()], **QUIET)
    assert "lr-Adam" in model.history


@pytest.mark.skipif("on_train_end" not in vars(TrainingPlan), reason="scvi-tools 1.4 leaves the setting changed, too")
def test_compiling_leaves_no_trace_in_torch(model):
    before = torch._dynamo.config.suppress_errors
    model.train(max_epochs=1, plan_kwargs={"compile": True, "compile_kwargs": {"backend": "eager"}}, **QUIET)
    assert torch._dynamo.config.suppress_errors == before


@pytest.mark.parametrize("n_cells", [1, 2])
def test_minibatches_of_one_and_two_cells_train(model, n_cells):
    with pytest.warns(UserWarning, match="Last batch will have a small size"):
        model.train(max_epochs=2, train_size=(32 + n_cells) / 120, batch_size=32, **QUIET)
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(model.history["objective_train"].iloc[-1, 0])


@pytest.mark.parametrize(
    ("plan_kwargs", "message"),
    [
        ({"n_epochs_kl_warmup": 10}, "beta_schedule"),
        ({"max_kl_weight": 2.0}, "beta_schedule"),
        ({"weight_deacy": 0.1}, "Did you mean 'weight_decay'"),
    ],
)
def test_plan_refuses_what_it_does_not_take(model, plan_kwargs, message):
    with pytest.raises(TypeError, match=message):
        model.train(max_epochs=1, plan_kwargs=plan_kwargs, **QUIET)
    assert not model.is_trained


def test_optimizer_is_fused_on_both_generations(model):
    model.train(max_epochs=1, **QUIET)
    assert model.trainer.optimizers[0].defaults["fused"] is True
    model.train(max_epochs=1, plan_kwargs={"fused_optimizer": False}, **QUIET)
    assert not model.trainer.optimizers[0].defaults["fused"]


def test_plan_has_a_default_schedule(model):
    plan = BetaVAETrainingPlan(model.module)
    assert plan.schedule == LinearSchedule()
    assert plan.target_beta == 4.0


def test_schedules_are_values():
    assert CosineSchedule(warmup=0.2) == CosineSchedule(warmup=0.2)
    assert ConstantSchedule()(0.3) == CyclicalSchedule()(1.0) == 1.0
