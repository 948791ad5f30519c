"""The default run: its length, its learning rate, its history, and dimensions that are the same in every seed."""

import logging

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

import scbetavae
from scbetavae.model import BetaVAE
from scbetavae.train._learning_rate import one_cycle
from scbetavae.train._runner import default_steps

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SMALL = {"n_hidden": 16, "n_latent": 4}
N_MINIBATCHES = 22  # of five cells in an epoch, of nine tenths of 120


@pytest.fixture
def model(counts_adata):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    return BetaVAE(counts_adata, **SMALL)


def steps_taken(model):
    state = model.trainer.optimizers[0].state_dict()["state"]
    return {int(parameter["step"]) for parameter in state.values()}


class Watcher(Callback):
    def on_train_batch_end(self, *args):
        pass


@pytest.mark.parametrize(
    ("n_cells", "steps"), [(1, 300), (400, 300), (404, 301), (39_900, 2996), (40_000, 3000), (10**6, 3000)]
)
def test_length_of_the_default_run(n_cells, steps):
    assert default_steps(n_cells) == steps


def test_default_run_has_that_length(model):
    model.train(batch_size=16, **QUIET)
    params = model.adata.uns["betavae"]["params"]
    assert params["steps"] == 300
    assert steps_taken(model) == {300}
    assert (params["lr_schedule"], params["lr"]) == ("one_cycle", 1e-2)
    assert params["anchor_components"] >= 2
    assert 0 < params["anchor_stability"] <= 1
    assert params["seed"] == 0
    assert params["seconds"] > 0
    assert params["version_scbetavae"] == scbetavae.__version__


@pytest.mark.parametrize("max_steps", [1, 7, 8, 23, 30])
@pytest.mark.parametrize("callbacks", [[], [Watcher()]], ids=["several at once", "one by one"])
def test_a_run_ends_after_its_steps_even_within_an_epoch(model, max_steps, callbacks):
    model.train(max_steps=max_steps, batch_size=5, callbacks=callbacks, **QUIET)
    assert steps_taken(model) == {max_steps}
    history = model.adata.uns["betavae"]["history"]
    assert history.index[-1] == pytest.approx(max_steps / N_MINIBATCHES)
    assert history["beta"].iloc[-1] == 2.0
    assert model.adata.uns["betavae"]["params"]["epochs"] == pytest.approx(max_steps / N_MINIBATCHES)


def test_steps_of_two_optimizers_count_once(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective="factor_vae", **SMALL).train(max_steps=9, batch_size=5, **QUIET)
    assert steps_taken(model) == {9}
    assert model.trainer.optimizers[1].param_groups[0]["lr"] == 1e-3  # the discriminator keeps its own rate


@pytest.mark.parametrize(("max_epochs", "rows"), [(1, 20), (3, 21), (25, 25), (40, 25)])
def test_history_has_twenty_rows_at_least(model, max_epochs, rows):
    model.train(max_epochs=max_epochs, batch_size=5, check_val_every_n_epoch=1, **QUIET)
    history = model.adata.uns["betavae"]["history"]
    assert history.index.is_monotonic_increasing
    assert history.index[-1] == model.adata.uns["betavae"]["params"]["epochs"] == max_epochs
    n_rows = history["nll_train"].notna().sum()
    assert rows <= n_rows == len(model.history["nll_train"]) <= 60
    assert history["nll_validation"].notna().sum() == max_epochs
    assert model.history["nll_validation"].index[-1] == model.history["nll_train"].index[-1]


@pytest.mark.parametrize(
    "runs", [[{"max_epochs": 1}, {"max_epochs": 1}], [{"max_epochs": 2, "batch_size": 60}, {"max_epochs": 25}]]
)
def test_epochs_of_several_runs_add_up(model, runs):
    """Also where the epochs done are whole numbers in all rows, and in those of validation."""
    done = 0
    for run in runs:
        model.train(check_val_every_n_epoch=1, **run, **QUIET)
        done += run["max_epochs"]
        stored = model.adata.uns["betavae"]
        assert stored["params"]["epochs"] == stored["history"].index[-1] == done
        assert stored["history"].index.is_unique
        assert stored["history"]["nll_validation"].dropna().index.tolist() == list(range(1, done + 1))


def test_rows_within_an_epoch_are_means_of_their_own_minibatches(model):
    """Weighted by their minibatches they make the mean that a run written once an epoch has."""
    scvi.settings.seed = 1
    often = BetaVAE(model.adata, anchor=None, **SMALL)
    often.train(max_epochs=1, batch_size=54, lr_schedule=lambda progress: 1.0, **QUIET)
    scvi.settings.seed = 1
    once = BetaVAE(model.adata, anchor=None, **SMALL)
    once.train(max_epochs=1, batch_size=54, lr_schedule="constant", **QUIET)
    assert len(often.history["nll_train"]) == 2
    assert often.history["nll_train"].mean().item() == pytest.approx(once.history["nll_train"].iloc[0, 0], rel=1e-5)


def test_learning_rate_goes_through_one_cycle(model):
    model.train(max_epochs=2, batch_size=5, plan_kwargs={"lr": 0.05}, **QUIET)
    rate = model.adata.uns["betavae"]["history"]["lr"].to_numpy()
    n = 2 * N_MINIBATCHES
    assert rate.max() == pytest.approx(0.05, rel=0.02)
    assert rate[-1] == pytest.approx(0.05 * one_cycle((n - 1) / n), rel=1e-4)
    assert rate.argmax() <= len(rate) // 4


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.04), (0.05, 0.52), (0.1, 1.0), (0.55, 0.5005), (1.0, 0.001)])
def test_shape_of_the_cycle(progress, share):
    assert one_cycle(progress) == pytest.approx(share, abs=1e-9)


def test_a_function_of_progress_sets_the_rate(model):
    model.train(max_epochs=1, batch_size=5, lr_schedule=lambda progress: 1.0 - progress, **QUIET)
    rate = model.adata.uns["betavae"]["history"]["lr"].to_numpy()
    assert rate[-1] == pytest.approx(1e-3 * (1 - (N_MINIBATCHES - 1) / N_MINIBATCHES), rel=1e-4)


def test_an_open_end_takes_a_constant_rate_and_says_so(model, caplog):
    with caplog.at_level(logging.INFO, logger="scbetavae"):
        model.train(max_epochs=3, early_stopping=True, lr_schedule="one_cycle", **QUIET)
    assert "learning rate is constant" in caplog.text
    assert set(model.adata.uns["betavae"]["history"]["lr"].round(9)) == {1e-3}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lr_schedule": "one_cylce"}, ValueError, "Did you mean 'one_cycle'"),
        ({"lr_schedule": 3}, TypeError, "lr_schedule is a int"),
        ({"lr_schedule": lambda progress: -1.0}, ValueError, r"lr_schedule\(0\)=-1.0 is not allowed"),
        ({"max_steps": 5, "max_epochs": 5}, ValueError, "both given"),
        ({"max_steps": 0}, ValueError, "max_steps=0"),
        ({"max_steps": 2.5}, ValueError, r"max_steps=2\.5"),
        ({"plan_kwargs": {"lr": -0.1}}, ValueError, "learning rate"),
        ({"plan_kwargs": {"lr": float("inf")}}, ValueError, "learning rate"),
    ],
)
def test_bad_runs_are_refused(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.train(**arguments, **QUIET)
    assert not model.is_trained


class Interrupt(Callback):
    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
        if plan.n_steps_done == 9:
            raise KeyboardInterrupt


def test_an_interrupted_model_can_be_used_and_says_where_it_stopped(model):
    with pytest.warns(UserWarning, match=r"interrupted at step 9 of 44"), pytest.raises(KeyboardInterrupt):
        model.train(max_epochs=2, batch_size=5, callbacks=[Interrupt()], **QUIET)
    assert model.is_trained
    assert np.isfinite(model.get_latent_representation()).all()
    model.train(max_steps=3, **QUIET)


@pytest.fixture(scope="module")
def seeds():
    """Two network seeds on the same training cells."""
    adata = scbetavae.datasets.simulate_counts(500, 150, seed=0)
    BetaVAE.setup_anndata(adata, batch_key="batch")
    cells = np.random.default_rng(0).permutation(500)
    models = []
    for seed in (0, 1):
        scvi.settings.seed = seed
        splitter = {"external_indexing": [cells[:450], cells[450:], np.array([], dtype=int)]}
        models.append(BetaVAE(adata).train(datasplitter_kwargs=splitter, **QUIET))
    return models


def test_dimension_zero_is_dimension_zero_in_every_seed(seeds):
    models = seeds
    one, other = (m.get_latent_representation() for m in models)
    k = models[0].module.anchor.n_components
    correlation = np.diag(np.corrcoef(one, other, rowvar=False)[:10, 10:])[:k]
    assert correlation.min() > 0.5
    assert np.median(correlation) > 0.9
    torch.testing.assert_close(models[0].module.anchor.weights, models[1].module.anchor.weights)


def test_dimensions_without_a_component_stay_unused(seeds):
    for model in seeds:
        k = model.module.anchor.n_components
        kl = model.get_latent_summary()["kl"].to_numpy()
        assert k < 10
        assert (kl[:k] > 0.01).all()
        assert (kl[k:] < 0.01).all()


@pytest.mark.parametrize("arguments", [{}, {"batch_representation": "embedding"}, {"n_layers": 2}])
def test_they_start_where_encoder_and_decoder_ignore_them(counts_adata, arguments):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    model = BetaVAE(counts_adata, condition_on_batch=True, anchor_kwargs={"n_components": 2}, **SMALL, **arguments)
    model.train(max_steps=1, plan_kwargs={"lr": 1e-12}, **QUIET)
    means = model.get_latent_representation()
    assert (means[:, :2].std(axis=0) > 1e-3).all()
    np.testing.assert_allclose(means[:, 2:], 0, atol=1e-6)
    moved = means + np.array([0.0, 0.0, 3.0, -3.0])
    batch = counts_adata.obs["batch"].astype(str).to_list()
    np.testing.assert_allclose(model.decode(moved, batch=batch), model.decode(means, batch=batch), rtol=1e-5)
    assert not np.allclose(
        model.decode(means + np.array([1.0, 0.0, 0.0, 0.0]), batch=batch), model.decode(means, batch=batch), rtol=1e-3
    )


def test_a_batch_conditioned_decoder_is_anchored_within_batches(counts_adata):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    model = BetaVAE(counts_adata, condition_on_batch=True, **SMALL).train(max_steps=2, train_size=1.0, **QUIET)
    codes = torch.as_tensor(counts_adata.obs["batch"].cat.codes.to_numpy().astype(int)).unsqueeze(1)
    targets = model.module.anchor.targets(torch.as_tensor(counts_adata.X.toarray()), codes).numpy()
    for batch in (0, 1):
        np.testing.assert_allclose(targets[codes.ravel() == batch].mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [
        {"objective": "capacity"},
        {"objective": "beta_tcvae"},
        {"objective": "factor_vae"},
        {"objective": "dip_vae_i"},
        {"objective": "dip_vae_ii"},
        {"gene_likelihood": "poisson"},
        {"gene_likelihood": "zinb", "dispersion": "gene-batch"},
    ],
)
def test_every_objective_and_likelihood_of_counts_is_anchored(counts_adata, arguments):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch", encoder_obsm_key="X_pca")
    model = BetaVAE(counts_adata, **arguments, **SMALL).train(max_steps=12, batch_size=32, **QUIET)
    assert model.module.anchor.n_components >= 2
    assert model.adata.uns["betavae"]["params"]["anchored"]
    k = model.module.anchor.n_components
    targets = model.module.anchor.targets(torch.as_tensor(counts_adata.X.toarray()), None).numpy()[:, :k]
    means = model.get_latent_representation()[:, :k]
    correlation = np.diag(np.corrcoef(means, targets, rowvar=False)[:k, k:])
    assert correlation.max() > 0.3


@pytest.mark.parametrize("arguments", [{"latent_distribution": "ln"}, {"gene_likelihood": "normal"}, {"anchor": None}])
def test_there_is_no_anchor_where_it_has_no_meaning(counts_adata, arguments):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, **arguments, **SMALL).train(max_steps=2, **QUIET)
    assert model.module.anchor is None


def test_the_map_goes_with_the_model(model, tmp_path):
    model.train(max_steps=2, **QUIET)
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", model.adata, accelerator="cpu")
    query = BetaVAE.load_query_data(model.adata.copy(), tmp_path / "model", accelerator="cpu")
    for other in (loaded, query):
        torch.testing.assert_close(other.module.anchor.weights, model.module.anchor.weights)
        torch.testing.assert_close(other.module.anchor.offsets, model.module.anchor.offsets)
    weights = model.module.anchor.weights.clone()
    model.train(max_steps=2, **QUIET)  # a run that goes on is not anchored again
    assert not model.adata.uns["betavae"]["params"]["anchored"]
    torch.testing.assert_close(model.module.anchor.weights, weights)


@pytest.mark.parametrize("case", ["all equal", "three cells", "one gene", "constant genes"])
def test_degenerate_cells_train_without_an_anchor_or_a_warning(counts_adata, case):
    adata = {
        "all equal": counts_adata[:30],
        "three cells": counts_adata[:3],
        "one gene": counts_adata[:, :1],
        "constant genes": counts_adata[:, :6],
    }[case].copy()
    if case == "all equal":
        adata.X = np.ones(adata.shape, dtype=np.float32)
    if case == "constant genes":
        adata.X = np.column_stack([np.ones((120, 5)), adata.X.toarray()[:, 0]]).astype(np.float32)
    BetaVAE.setup_anndata(adata)
    model = BetaVAE(adata, **SMALL).train(max_steps=4, train_size=1.0, **QUIET)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize("asked", [{"early_stopping": True}, {"check_val_every_n_epoch": 1}])
@pytest.mark.parametrize("split", [{"train_size": 1.0}, {"train_size": 0.9, "validation_size": 0.0}])
def test_what_needs_held_out_cells_is_refused_without_them(model, asked, split):
    with pytest.raises(ValueError, match=r"needs held-out cells.*train_size=0\.9"):
        model.train(max_epochs=2, **asked, **split, **QUIET)
    assert not model.is_trained_
    assert "betavae" not in model.adata.uns


def test_all_cells_may_be_trained_on(model):
    model.train(max_epochs=1, train_size=1.0, **QUIET)
    assert model.is_trained_


def test_a_logger_of_the_users_own_leaves_the_parameters(model, tmp_path):
    model.train(max_epochs=2, logger=CSVLogger(tmp_path), **QUIET)
    stored = model.adata.uns["betavae"]
    assert stored["params"]["steps"] > 0
    assert "history" not in stored
    assert model.get_latent_summary()["kl"].notna().all()
    assert "steps" in model._repr_html_()
