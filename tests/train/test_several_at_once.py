import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback

from scbetavae.model import BetaVAE
from scbetavae.train._several_at_once import MINIBATCHES_AT_ONCE


class Watcher(Callback):
    """Looks at every minibatch, so that they must come one by one."""

    def __init__(self):
        self.seen = []
        self.steps = 0

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
        self.seen.append(batch_idx)
        self.steps = trainer.global_step


class EpochWatcher(Callback):
    def __init__(self):
        self.batches = self.steps = 0

    def on_train_epoch_end(self, trainer, plan):
        self.batches = trainer.num_training_batches
        self.steps = trainer.global_step


def history_of(adata, callback, objective="beta_vae", **kwargs):
    scvi.settings.seed = 0
    adata = adata.copy()
    BetaVAE.setup_anndata(adata, batch_key="batch")
    model = BetaVAE(adata, n_hidden=16, n_latent=4, objective=objective)
    options = {"max_epochs": 3, "batch_size": 5, "accelerator": "cpu", "enable_progress_bar": False} | kwargs
    model.train(callbacks=[callback], check_val_every_n_epoch=1, **options)
    return {name: frame[name].to_numpy(dtype=float) for name, frame in model.history.items()}


@pytest.mark.parametrize("objective", ["beta_vae", "beta_tcvae", "dip_vae_ii"])
def test_several_at_once_train_as_one_by_one(counts_adata, objective):
    watcher, epochs = Watcher(), EpochWatcher()
    one_by_one = history_of(counts_adata, watcher, objective)
    several = history_of(counts_adata, epochs, objective)
    n_minibatches = -(-108 // 5)  # nine tenths of 120 cells
    assert watcher.seen == [*range(n_minibatches)] * 3
    assert epochs.batches == -(-n_minibatches // MINIBATCHES_AT_ONCE) == 3
    assert epochs.steps == watcher.steps == 3 * n_minibatches
    assert several.keys() == one_by_one.keys()
    for name, values in one_by_one.items():
        np.testing.assert_allclose(several[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 1.0},
        {"limit_train_batches": 3},
        {"accumulate_grad_batches": 2},
        {"datasplitter_kwargs": {"pin_memory": True}},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_a_trainer_that_counts_minibatches_sees_each(counts_adata, options):
    epochs = EpochWatcher()
    history_of(counts_adata, epochs, max_epochs=1, **options)
    assert epochs.batches >= 3


def test_a_plan_of_the_users_sees_each_minibatch(counts_adata, monkeypatch):
    seen = []

    class Plan(BetaVAE._training_plan_cls):
        def training_step(self, batch, batch_idx):
            seen.append(batch["X"].shape[0])
            return super().training_step(batch, batch_idx)

    monkeypatch.setattr(BetaVAE, "_training_plan_cls", Plan)
    history_of(counts_adata, EpochWatcher(), max_epochs=1)
    assert seen == [5] * 21 + [3]


@pytest.mark.parametrize(
    "arguments", [{"gene_likelihood": "zinb"}, {"encode_covariates": True}, {"condition_on_batch": True}]
)
def test_whatever_reads_dense_counts_gets_them(counts_adata, monkeypatch, arguments):
    layouts = set()
    plain = BetaVAE._module_cls.forward
    monkeypatch.setattr(
        BetaVAE._module_cls,
        "forward",
        lambda self, t, *a, **k: (layouts.add(t["X"].layout), plain(self, t, *a, **k))[1],
    )
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    BetaVAE(counts_adata, n_hidden=8, n_latent=2, **arguments).train(
        max_epochs=1, accelerator="cpu", enable_progress_bar=False
    )
    reads_dense = "condition_on_batch" not in arguments
    assert layouts == {torch.strided if reads_dense else torch.sparse_csr}


def test_a_schedule_of_the_learning_rate_sees_each_minibatch(counts_adata, monkeypatch):
    """scvi-tools then adds a callback that watches minibatches; the plan does not count on it."""
    monkeypatch.setattr("scbetavae.train._plans.nobody_watches_minibatches", lambda trainer, plan: True)
    epochs = EpochWatcher()
    schedule = {"reduce_lr_on_plateau": True, "lr_patience": 0, "lr_threshold": 1e9, "lr": 1e-3}
    rates = []
    epochs.on_train_epoch_start = lambda trainer, plan: rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    history_of(counts_adata, epochs, max_epochs=6, plan_kwargs=schedule, beta_schedule="constant")
    assert epochs.batches == -(-108 // 5)
    assert rates[-1] < rates[0] == 1e-3
