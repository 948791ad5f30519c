"""A training whose loss is no longer a number stops, says so, and leaves a usable model."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from scbetavae.model import BetaVAE, TrainingDivergedError
from scbetavae.train._divergence import DivergenceGuard

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "lr_schedule": "constant"}
SMALL = {"n_hidden": 16, "n_latent": 3}


class WatchesMinibatches(Callback):
    """Makes Lightning hand over one minibatch at a time."""

    def on_train_batch_end(self, *args):
        """Do nothing."""


def make(adata, **kwargs):
    BetaVAE.setup_anndata(adata, batch_key="batch")
    return BetaVAE(adata, **SMALL, **kwargs)


def weights_of(model):
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def is_finite(model):
    return all(bool(torch.isfinite(value).all()) for value in model.module.state_dict().values())


RUNS = {
    "several minibatches at once": ({}, {}),
    "one at a time": ({}, {"gradient_clip_val": 1e9}),
    "callbacks": ({}, {"callbacks": [WatchesMinibatches()]}),
    "validation": ({}, {"check_val_every_n_epoch": 1}),
    "early stopping": ({}, {"early_stopping": True}),
    "distributions of scvi-tools": ({"gene_likelihood": "zinb"}, {}),
    "factor_vae": ({"objective": "factor_vae"}, {}),
    "dip_vae_i": ({"objective": "dip_vae_i"}, {}),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_learning_rate_that_is_too_high(counts_adata, run):
    model_kwargs, train_kwargs = RUNS[run]
    model = make(counts_adata, **model_kwargs)
    message = r"diverged in epoch 1: the loss of minibatch \d is (nan|inf).*it was 1e\+06.*\"lr\": 0.001.*not count as trained"
    with pytest.raises(TrainingDivergedError, match=message):
        model.train(max_epochs=6, batch_size=32, plan_kwargs={"lr": 1e6}, **train_kwargs, **QUIET)
    assert not model.is_trained
    assert is_finite(model)
    assert "betavae" not in counts_adata.uns
    with pytest.raises(RuntimeError, match="untrained model"):
        model.get_latent_representation()
    model.train(max_epochs=1, **QUIET)
    assert np.isfinite(model.get_latent_representation()).all()
    assert len(counts_adata.uns["betavae"]["history"]) == 1


def test_a_high_learning_rate_that_works_is_let_through(counts_adata):
    assert make(counts_adata).train(max_epochs=3, plan_kwargs={"lr": 0.1}, **QUIET).is_trained


def test_a_model_that_was_trained_before_is_as_it_was(counts_adata):
    model = make(counts_adata).train(max_epochs=2, **QUIET)
    weights, latent = weights_of(model), model.get_latent_representation()
    history, stored = model.history["beta"].copy(), counts_adata.uns["betavae"]["history"]
    with pytest.raises(TrainingDivergedError, match="as it was before this training"):
        model.train(max_epochs=6, batch_size=32, plan_kwargs={"lr": 1e6}, **QUIET)
    assert model.is_trained
    assert not model.module.training
    for name, value in weights_of(model).items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)
    np.testing.assert_array_equal(model.get_latent_representation(), latent)
    assert model.history["beta"].equals(history)
    assert counts_adata.uns["betavae"]["history"] is stored


def test_divergence_with_checkpoints_leaves_finite_weights(counts_adata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make(counts_adata)
    with pytest.raises(TrainingDivergedError):
        model.train(max_epochs=6, plan_kwargs={"lr": 1e6}, enable_checkpointing=True, **QUIET)
    assert not model.is_trained
    assert is_finite(model)


def test_the_discriminator_of_factor_vae_is_watched_too(counts_adata, monkeypatch):
    model = make(counts_adata, objective="factor_vae")
    step = model.module.regularizer.discriminator_step
    monkeypatch.setattr(
        model.module.regularizer, "discriminator_step", lambda *args: (step(*args)[0] * np.nan, step(*args)[1])
    )
    with pytest.raises(TrainingDivergedError, match="the discriminator's loss of minibatch 1 is nan"):
        model.train(max_epochs=1, **QUIET)
    assert is_finite(model)
    assert not model.is_trained


class BreaksWeights(Callback):
    """Breaks a weight after a chosen epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        """Break it."""
        if trainer.current_epoch == self.epoch:
            with torch.no_grad():
                pl_module.module.px_r[0] = np.inf


@pytest.mark.parametrize(
    ("epoch", "message"),
    [(0, "epoch 2: the loss of minibatch 1 is"), (2, "the weights after its last minibatch are not finite")],
)
def test_the_epoch_is_named_and_the_last_step_is_looked_at(counts_adata, epoch, message):
    model = make(counts_adata)
    with pytest.raises(TrainingDivergedError, match=message):
        model.train(max_epochs=3, callbacks=[BreaksWeights(epoch)], **QUIET)
    assert is_finite(model)
    assert not model.is_trained


def test_the_weights_kept_are_the_last_ones_copied_not_the_first(counts_adata):
    """3 minibatches an epoch: a copy is taken every 50, so that epoch 40 goes back to a state of epoch 33 or later."""
    model = make(counts_adata)
    first = weights_of(model)
    with pytest.raises(TrainingDivergedError, match="epoch 40"):
        model.train(max_epochs=60, batch_size=36, callbacks=[BreaksWeights(38)], **QUIET)
    kept = weights_of(model)
    n_steps = int(kept["z_encoder.encoder.fc_layers.Layer 0.1.num_batches_tracked"])
    assert 117 - 50 < n_steps <= 117
    assert not torch.equal(kept["px_r"], first["px_r"])


def test_validation_cells_are_watched(counts_adata):
    """A loss that is a number for the training cells and none for the others."""
    BetaVAE.setup_anndata(counts_adata, encoder_obsm_key="X_pca")
    model = BetaVAE(counts_adata, **SMALL)
    counts_adata.obsm["X_pca"][119, 0] = np.nan
    cells = np.arange(counts_adata.n_obs)
    with pytest.raises(TrainingDivergedError, match=r"epoch 1: the validation loss is nan.*now contain NaN"):
        model.train(
            max_epochs=2,
            check_val_every_n_epoch=1,
            datasplitter_kwargs={"external_indexing": [cells[:100], cells[100:], cells[:0]]},
            **QUIET,
        )
    assert not model.is_trained


def test_losses_on_an_accelerator_are_looked_at_together(counts_adata, monkeypatch):
    """The same guard where every look would wait for the device: the first loss that is not finite is named."""
    model = make(counts_adata)
    monkeypatch.setattr(DivergenceGuard, "_may_look", lambda self, loss: False)
    with pytest.raises(TrainingDivergedError, match="diverged in epoch 1: the loss of minibatch 2 is nan"):
        model.train(max_epochs=3, batch_size=32, plan_kwargs={"lr": 1e6}, **QUIET)
    assert is_finite(model)
