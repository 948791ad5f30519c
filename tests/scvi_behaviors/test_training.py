"""Training: data, networks, lengths, splits, callbacks and loggers."""

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from scvi.dataloaders import DataSplitter
from scvi.train import TrainerConfig, TrainingPlanConfig

from scbetavae.model import BetaVAE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SETUP = {"batch_key": "batch", "labels_key": "labels"}
NO_WEIGHTS = "the decoder has no weights of batches; an error says so"
REPLACED = "`beta_schedule` replaces them; an error says so"
NOT_ALLOWED = "a rate that is not positive is an error"
TRAINS = "it trains"
COVARIATES = {"categorical_covariate_keys": ["plate", "site"], "continuous_covariate_keys": ["age", "depth"]}


def is_usable(model):
    """Whether the latent representation of the model's cells is there and finite."""
    z = model.get_latent_representation()
    return model.is_trained and z.shape == (model.adata.n_obs, model.module.n_latent) and np.isfinite(z).all()


@pytest.mark.behavior("Dense, sparse by rows and sparse by columns")
@pytest.mark.filterwarnings("ignore:Training will be faster when sparse matrix is formatted as CSR")
@pytest.mark.parametrize("layout", ["dense", "csr", "csc"])
def test_layouts(fit, adata, layout):
    if layout != "csr":
        adata.X = adata.X.toarray() if layout == "dense" else adata.X.tocsc()
    assert is_usable(fit(adata))


@pytest.mark.behavior("Counts in a layer")
def test_layer(fit, adata):
    adata.X = adata.X * 0.5
    model = fit(adata, SETUP | {"layer": "counts"})
    assert is_usable(model)
    assert np.isfinite(float(model.get_elbo()))


@pytest.mark.behavior("A backed AnnData")
def test_backed(fit, adata, tmp_path):
    import anndata

    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r+")
    model = fit(backed)
    assert is_usable(model)
    assert np.isfinite(float(model.get_elbo()))
    backed.file.close()


@pytest.mark.behavior("`load_sparse_tensor=True`")
@pytest.mark.filterwarnings("ignore:Sparse (invariant checks|CSR tensor support)")
def test_sparse_tensors(fit, adata):
    assert is_usable(fit(adata, train={"load_sparse_tensor": True}))


@pytest.mark.behavior("Worker processes of the data loader (`scvi.settings.dl_num_workers`)")
def test_workers(fit, adata, monkeypatch):
    monkeypatch.setattr(scvi.settings, "dl_num_workers", 1)
    assert is_usable(fit(adata))


@pytest.mark.behavior("Categorical and continuous covariates")
@pytest.mark.parametrize("encode_covariates", [False, True])
def test_covariates(fit, adata, encode_covariates):
    model = fit(adata, SETUP | COVARIATES, encode_covariates=encode_covariates)
    assert is_usable(model)
    assert model.module.decoder.px_decoder.n_cat_list[1:] == [2, 2]
    assert model.get_normalized_expression(n_samples=2).shape == adata.shape


@pytest.mark.behavior("`dispersion` by gene, batch, label and cell")
@pytest.mark.parametrize("dispersion", ["gene", "gene-batch", "gene-label", "gene-cell"])
def test_dispersion(fit, adata, dispersion):
    assert is_usable(fit(adata, dispersion=dispersion))


@pytest.mark.behavior("`gene_likelihood` nb, zinb, poisson and normal, with size factors or without")
@pytest.mark.parametrize("size_factor_key", [None, "size_factor"])
@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson", "normal"])
def test_likelihoods(fit, adata, likelihood, size_factor_key):
    model = fit(adata, SETUP | {"size_factor_key": size_factor_key}, gene_likelihood=likelihood)
    assert is_usable(model)
    assert np.isfinite(float(model.get_elbo()))


@pytest.mark.behavior('Normalized, continuous data with `gene_likelihood="normal"`')
def test_normalized_data(fit, adata):
    adata.X = np.log1p(adata.X.toarray())
    assert is_usable(fit(adata, gene_likelihood="normal"))


@pytest.mark.behavior("A latent library size (`use_observed_lib_size=False`)")
def test_latent_library_size(fit, adata):
    model = fit(adata, use_observed_lib_size=False, var_activation=torch.nn.Softplus())
    assert is_usable(model)
    assert model.get_latent_library_size(give_mean=False).shape == (adata.n_obs, 1)


@pytest.mark.behavior('A logistic normal latent space (`latent_distribution="ln"`)')
def test_logistic_normal(fit, adata):
    z = fit(adata, latent_distribution="ln").get_latent_representation(mc_samples=20)
    np.testing.assert_allclose(z.sum(axis=1), 1.0, rtol=1e-4)


@pytest.mark.behavior(
    '`batch_representation="embedding"` and `get_batch_representation`',
    default=NO_WEIGHTS,
)
def test_batch_embedding(fit, adata, tmp_path, kind):
    arguments = {"batch_representation": "embedding", "batch_embedding_kwargs": {"embedding_dim": 2}}
    if kind == "default":
        with pytest.raises(ValueError, match="condition_on_batch=True"):
            fit(adata, **arguments)
        return
    model = fit(adata, **arguments)
    embedding = model.get_batch_representation()
    assert embedding.shape == (adata.n_obs, 2)
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", adata, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_batch_representation(), embedding)


@pytest.mark.behavior("The same seed, the same weights")
def test_seed(fit, cells):
    weights = []
    for _ in range(2):
        scvi.settings.seed = 1
        weights.append(fit(cells()).module.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])


@pytest.mark.behavior("A second `train` goes on from the first and appends to `history`")
def test_train_again(fit, adata):
    run = {"max_epochs": 2, "check_val_every_n_epoch": 1, "lr_schedule": "constant", **QUIET}
    model = fit(adata, train=run)
    before = model.module.px_r.detach().clone()
    model.train(**run)
    for name in ("train_loss", "elbo_train", "reconstruction_loss_train", "kl_local_train", "kl_global_train"):
        assert len(model.history[name]) == 4
        if name != "train_loss":
            assert len(model.history[name.replace("_train", "_validation")]) == 4
    assert 0 < (model.module.px_r - before).abs().max() < 0.1


@pytest.mark.behavior("`early_stopping` with scvi-tools' arguments")
@pytest.mark.parametrize("monitor", [None, "elbo_validation", "reconstruction_loss_validation"])
def test_early_stopping(fit, adata, monitor):
    given = {"early_stopping_min_delta": 1e6, "early_stopping_patience": 2, "early_stopping_warmup_epochs": 5}
    given |= {} if monitor is None else {"early_stopping_monitor": monitor, "early_stopping_mode": "min"}
    run = {"max_epochs": 40, "early_stopping": True, "beta_schedule": "constant", **given}
    assert 5 < len(fit(adata, train=run).history["elbo_train"]) < 15


@pytest.mark.behavior("Early stopping without held-out cells is an error")
def test_early_stopping_without_validation(build, adata):
    with pytest.raises(ValueError, match="needs held-out cells"):
        build(adata).train(max_epochs=1, train_size=1.0, early_stopping=True, **QUIET)


@pytest.mark.behavior("`train_size`, `validation_size` and `shuffle_set_split`")
def test_split(fit, adata):
    model = fit(adata, train={"train_size": 0.5, "validation_size": 0.25, "shuffle_set_split": False})
    split = [model.validation_indices, model.train_indices, model.test_indices]
    assert [len(part) for part in split] == [15, 30, 15]
    assert np.concatenate(split).tolist() == list(range(60))


@pytest.mark.behavior("`external_indexing` in `datasplitter_kwargs`")
def test_external_indexing(fit, adata):
    parts = np.split(np.random.default_rng(0).permutation(60), [30, 45])
    model = fit(adata, train={"datasplitter_kwargs": {"external_indexing": parts}})
    for found, expected in zip((model.train_indices, model.validation_indices, model.test_indices), parts, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.behavior('`datasplitter_kwargs={"drop_last": True}`')
def test_drop_last(fit, adata):
    model = fit(adata, train={"train_size": 1.0, "batch_size": 40, "datasplitter_kwargs": {"drop_last": True}})
    assert model.trainer.global_step == 1


@pytest.mark.behavior("`plan_kwargs`: optimizer, weight decay, a custom optimizer")
@pytest.mark.parametrize(
    "plan_kwargs",
    [
        {"optimizer": "AdamW", "weight_decay": 0.1, "eps": 1e-3},
        {"optimizer": "Custom", "optimizer_creator": lambda parameters: torch.optim.SGD(parameters, lr=1e-4)},
    ],
)
def test_plan_kwargs(fit, adata, plan_kwargs):
    model = fit(adata, train={"plan_kwargs": plan_kwargs})
    expected = {"AdamW": torch.optim.AdamW, "Custom": torch.optim.SGD}[plan_kwargs["optimizer"]]
    assert isinstance(model.trainer.optimizers[0], expected)
    assert is_usable(model)


@pytest.mark.behavior("`plan_config` and `trainer_config`, of which keyword arguments take precedence")
@pytest.mark.parametrize("as_mapping", [True, False])
def test_configs(build, adata, as_mapping):
    plan, trainer = (
        {"lr": 0.5, "eps": 0.03},
        {"check_val_every_n_epoch": 1, "enable_progress_bar": False, "max_epochs": 3},
    )
    configs = {
        "plan_config": plan if as_mapping else TrainingPlanConfig(**plan),
        "trainer_config": trainer if as_mapping else TrainerConfig(**trainer),
    }
    model = build(adata).train(**configs, plan_kwargs={"lr": 2e-3}, accelerator="cpu", lr_schedule="constant")
    plan = model.trainer.lightning_module
    assert (plan.lr, plan.eps) == (2e-3, 0.03)
    assert len(model.history["validation_loss"]) == 3


@pytest.mark.behavior("`reduce_lr_on_plateau`")
def test_plateau(fit, adata):
    plan = {"reduce_lr_on_plateau": True, "lr_patience": 0, "lr_factor": 0.5, "lr_threshold": 1e6}
    model = fit(adata, train={"max_epochs": 6, "plan_kwargs": plan, "check_val_every_n_epoch": 1})
    assert model.history["lr"].iloc[-1, 0] < model.history["lr"].iloc[0, 0]
    assert "lr-Adam" in model.history


@pytest.mark.behavior("Callbacks: `LearningRateMonitor`, and the user's own")
@pytest.mark.parametrize("lr_schedule", ["constant", "one_cycle"])
def test_callbacks(fit, adata, lr_schedule):
    from lightning.pytorch import Callback

    class Count(Callback):
        n_minibatches = n_epochs = 0

        def on_train_batch_end(self, trainer, *args):
            self.n_minibatches += 1

        def on_train_epoch_end(self, trainer, plan):
            self.n_epochs += 1
            self.seen |= {name: float(value) for name, value in trainer.callback_metrics.items()}

        def on_validation_epoch_end(self, trainer, plan):
            self.seen |= {name: float(value) for name, value in trainer.callback_metrics.items()}

    count = Count()
    count.seen = {}
    run = {"max_epochs": 2, "batch_size": 20, "check_val_every_n_epoch": 1, "lr_schedule": lr_schedule}
    model = fit(adata, train=run | {"callbacks": [LearningRateMonitor(), count]})
    assert (count.n_minibatches, count.n_epochs) == (6, 2)
    assert "lr-Adam" in model.history
    for name in ("train_loss", "elbo_train", "validation_loss", "elbo_validation"):
        assert count.seen[name] == pytest.approx(float(model.history[name].iloc[-1, 0]))


@pytest.mark.behavior("A logger of the user's own")
def test_logger(fit, adata, tmp_path):
    import pandas as pd

    logger = CSVLogger(tmp_path, name="log", version=0)
    model = fit(adata, train={"max_epochs": 2, "logger": logger})
    logged = pd.read_csv(tmp_path / "log" / "version_0" / "metrics.csv")
    assert {"elbo_train", "beta", "lr"} <= set(logged)
    assert is_usable(model)


@pytest.mark.behavior('Values of every minibatch with `plan_kwargs={"on_step": True}`')
def test_on_step(fit, adata):
    plan = {"on_step": True, "on_epoch": True}
    run = {"max_epochs": 4, "check_val_every_n_epoch": 2, "train_size": 0.5, "batch_size": 15, "plan_kwargs": plan}
    history = fit(adata, train=run | {"lr_schedule": "constant"}).history
    assert len(history["elbo_train_epoch"]) == 4
    assert len(history["train_loss_step"]) == 8
    assert {"validation_loss_step", "train_loss_epoch", "validation_loss_epoch"} <= set(history)


@pytest.mark.behavior("No AnnData: `train(datamodule=...)` builds the network")
@pytest.mark.filterwarnings("ignore:Model was initialized without `adata`")
def test_data_module(build, adata, kind):
    condition_on_batch = kind == "conditioned"
    build(adata)
    datamodule = DataSplitter(BetaVAE._get_most_recent_anndata_manager(adata))
    datamodule.n_vars, datamodule.n_batch = adata.n_vars, 2
    model = BetaVAE(n_latent=3, n_hidden=8, condition_on_batch=condition_on_batch)
    with pytest.raises(ValueError, match="datamodule"):
        model.train(max_epochs=1, **QUIET)
    model.train(max_epochs=1, datamodule=datamodule, **QUIET)
    assert model.get_latent_representation(dataloader=datamodule.val_dataloader()).shape == (6, 3)


@pytest.mark.behavior("`registry=` in place of AnnData")
def test_registry(trained, kind):
    condition_on_batch = kind == "conditioned"
    manager = trained.adata_manager
    model = BetaVAE(registry=manager.registry, n_latent=3, n_hidden=8, condition_on_batch=condition_on_batch)
    datamodule = DataSplitter(manager)
    model.train(max_epochs=1, datamodule=datamodule, **QUIET)
    assert np.isfinite(float(model.get_elbo(dataloader=datamodule.train_dataloader())))
    assert model.get_latent_representation(dataloader=datamodule.train_dataloader()).shape == (54, 3)


@pytest.mark.behavior("An `AnnCollection` of several AnnData")
def test_collection(fit, cells, tmp_path):
    from anndata.experimental import AnnCollection
    from scvi.dataloaders import CollectionAdapter

    parts = [cells(seed=1), cells(seed=2)]
    parts[1].obs_names = [f"other_{name}" for name in parts[1].obs_names]
    collection = CollectionAdapter(AnnCollection(parts, join_vars="inner", join_obs="inner", label="dataset"))
    model = fit(collection, {"layer": "counts", "batch_key": "dataset", "labels_key": "labels"})
    latents = model.get_latent_representation()
    assert latents.shape == (120, 3)
    assert np.isfinite(latents).all()
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", collection, accelerator="cpu")
    np.testing.assert_allclose(loaded.get_latent_representation(), latents, rtol=1e-5)
    query = BetaVAE.load_query_data(collection, tmp_path / "model", accelerator="cpu")
    query.is_trained_ = True
    np.testing.assert_allclose(query.get_latent_representation(), latents, rtol=1e-5)


@pytest.mark.behavior(
    "Arguments of the KL warm-up in `plan_kwargs`",
    default=REPLACED,
    conditioned=REPLACED,
)
@pytest.mark.parametrize("name", ["n_epochs_kl_warmup", "n_steps_kl_warmup", "max_kl_weight", "min_kl_weight"])
def test_warmup_arguments(build, adata, name):
    with pytest.raises(TypeError, match="beta_schedule"):
        build(adata).train(max_epochs=1, plan_kwargs={name: 1}, **QUIET)


@pytest.mark.behavior(
    "A learning rate of 0",
    default=NOT_ALLOWED,
    conditioned=NOT_ALLOWED,
)
def test_rate_of_zero(build, adata):
    with pytest.raises(ValueError, match="above 0"):
        build(adata).train(max_epochs=1, plan_kwargs={"lr": 0}, **QUIET)


@pytest.mark.behavior(
    "A last minibatch of one cell is an error",
    default=TRAINS,
    conditioned=TRAINS,
)
@pytest.mark.filterwarnings("ignore:Last batch will have a small size")
def test_last_minibatch(fit, adata):
    assert is_usable(fit(adata, train={"train_size": 41 / 60, "batch_size": 40}))


@pytest.mark.behavior("Printing a model, `view_anndata_setup`, `view_setup_args`")
def test_printing(trained, cells, tmp_path, capsys):
    import rich.pretty  # noqa: F401 - scvi-tools 1.4 forgets it

    print(trained)
    trained.view_anndata_setup()
    trained.view_anndata_setup(hide_state_registries=True)
    trained.save(tmp_path / "model")
    BetaVAE.view_setup_args(tmp_path / "model")
    assert "BetaVAE" in capsys.readouterr().out
    with pytest.raises(ValueError, match="not setup"):
        trained.view_anndata_setup(cells(seed=9))
