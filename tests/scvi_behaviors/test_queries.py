"""Query cells, and the surgery of the network that adapts a reference to them."""

import numpy as np
import pandas as pd
import pytest
import torch

from scbetavae.model import BetaVAE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
NO_WEIGHTS = "the decoder has no weights of batches; an error says so"
AS_IT_IS = "query cells are mapped without training"
NEW = ("batch_2", "batch_3")
COVARIATES = {"categorical_covariate_keys": ["plate"], "continuous_covariate_keys": ["age"]}
SETUP = {"batch_key": "batch", "labels_key": "labels"}


def map_cells(adata, reference, **kwargs):
    """Query model that can be used: trained for an epoch, unless it maps cells as it is."""
    query = BetaVAE.load_query_data(adata, reference, accelerator="cpu", **kwargs)
    if not query.is_trained:
        query.train(max_epochs=1, plan_kwargs={"weight_decay": 0.0}, **QUIET)
    assert np.isfinite(query.get_latent_representation()).all()
    return query


@pytest.mark.behavior("`load_query_data` from a folder and from a model, of known batches and new ones")
@pytest.mark.parametrize("batches", [("batch_0",), ("batch_1", "batch_0"), ("batch_1", "batch_2"), NEW])
@pytest.mark.parametrize("from_folder", [False, True])
def test_query(trained, cells, tmp_path, from_folder, batches):
    if from_folder:
        trained.save(tmp_path / "model")
    query = map_cells(cells(seed=2, batches=batches), str(tmp_path / "model") if from_folder else trained)
    known = {"batch_0", "batch_1"}
    assert query.summary_stats.n_batch == len(known | set(batches))
    assert query.get_normalized_expression().shape == (60, 20)
    latents = query.get_latent_representation(trained.adata.copy())
    np.testing.assert_allclose(latents, trained.get_latent_representation(), rtol=1e-4, atol=1e-5)


@pytest.mark.behavior("`prepare_query_anndata` pads and sorts genes, in place and as a copy")
@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("setup", [SETUP, SETUP | {"layer": "counts"}])
def test_prepare_query(fit, adata, cells, tmp_path, inplace, setup):
    model = fit(adata, setup)
    model.save(tmp_path / "model")
    query = cells(n_genes=25, batches=NEW)
    query.var_names = [f"unknown_{i}" for i in range(3)] + query.var_names[3:].tolist()
    query = query[:, ::-1].copy()
    prepared = BetaVAE.prepare_query_anndata(query, str(tmp_path / "model") if inplace else model, inplace=inplace)
    prepared = query if inplace else prepared
    assert prepared.var_names.tolist() == adata.var_names.tolist()
    counts = prepared.layers["counts"] if "layer" in setup else prepared.X
    assert counts[:, :3].sum() == 0
    map_cells(prepared, model)


@pytest.mark.behavior("`prepare_query_anndata(return_reference_var_names=True)`")
def test_reference_genes(trained):
    genes = BetaVAE.prepare_query_anndata(None, trained, return_reference_var_names=True)
    assert list(genes) == list(trained.adata.var_names)


@pytest.mark.behavior("`inplace_subset_query_vars=True`")
def test_subset(trained, cells):
    query = cells(n_genes=25, batches=NEW)
    map_cells(query, trained, inplace_subset_query_vars=True)
    assert query.var_names.tolist() == trained.adata.var_names.tolist()


@pytest.mark.behavior("A query with new labels; without labels it is an error")
def test_labels(trained, cells):
    query = cells(seed=2)
    query.obs["labels"] = pd.Categorical(["new"] * 60)
    assert map_cells(query, trained).summary_stats.n_labels == 4
    query = cells(seed=2)
    del query.obs["labels"]
    with pytest.raises(KeyError, match="labels"):
        BetaVAE.load_query_data(query, trained, accelerator="cpu")


@pytest.mark.behavior("A query with the covariates of the reference, and more; with fewer and with new categories")
@pytest.mark.parametrize("plates", [["p", "q"], ["q"], ["p", "q", "r"], ["r"]])
def test_query_covariates(fit, adata, cells, plates):
    model = fit(adata, SETUP | COVARIATES)
    query = cells(seed=2, batches=NEW)
    query.obs["plate"] = pd.Categorical(np.resize(plates, 60))
    mapped = map_cells(query, model)
    state = mapped.registry["field_registries"]["extra_categorical_covs"]["state_registry"]
    assert state["field_keys"] == ["plate"]
    assert list(state["n_cats_per_key"]) == [len({"p", "q"} | set(plates))]


@pytest.mark.behavior("A query without a covariate of the reference is an error")
@pytest.mark.parametrize("column", ["plate", "age"])
def test_query_without_covariate(fit, adata, cells, column):
    model = fit(adata, SETUP | COVARIATES)
    query = cells(seed=2)
    del query.obs[column]
    with pytest.raises(KeyError, match=column):
        BetaVAE.load_query_data(query, model, accelerator="cpu")


@pytest.mark.behavior("A query without genes of the reference is an error")
def test_query_without_genes(trained, cells):
    with pytest.raises(ValueError, match="genes of the model are missing"):
        BetaVAE.load_query_data(cells(n_genes=15), trained, accelerator="cpu")


@pytest.mark.behavior("Training a query leaves expression weights as they are", default=AS_IT_IS)
def test_frozen_weights(trained, cells, kind):
    query = BetaVAE.load_query_data(cells(seed=2, batches=NEW), trained, accelerator="cpu")
    if kind == "default":
        assert query.is_trained
        with pytest.raises(ValueError, match="unfrozen=True"):
            query.train(max_epochs=1, **QUIET)
        return
    before = {name: value.clone() for name, value in query.module.state_dict().items()}
    query.train(max_epochs=3, plan_kwargs={"lr": 0.1}, **QUIET)
    after = query.module.state_dict()
    first = "decoder.px_decoder.fc_layers.Layer 0.0.weight"
    assert torch.equal(after[first][:, :5], before[first][:, :5])
    assert (after[first][:, 5:] - before[first][:, 5:]).abs().min() > 0
    for name in after:
        if name.startswith(("z_encoder", "px_r", "decoder.px_scale")):
            assert torch.equal(after[name], before[name])


@pytest.mark.behavior(
    "Options of freezing: `unfrozen`, `freeze_expression`, `freeze_decoder_first_layer`, batch norm, dropout"
)
@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ({"unfrozen": True}, ("z_encoder.mean_encoder", "decoder.px_decoder")),
        ({"freeze_expression": False}, ("z_encoder.encoder.fc_layers.Layer 0.0",)),
        ({"freeze_decoder_first_layer": False}, ("decoder.px_decoder.fc_layers.Layer 0.0",)),
        ({"freeze_batchnorm_encoder": False}, ("z_encoder.encoder.fc_layers.Layer 0.1",)),
    ],
)
def test_freezing(trained, cells, option, changes):
    query = BetaVAE.load_query_data(
        cells(seed=2, batches=NEW), trained, accelerator="cpu", freeze_dropout=True, **option
    )
    dropout = [m.p for m in query.module.z_encoder.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(dropout) == ({0.1} if "unfrozen" in option else {0})
    before = {name: value.clone() for name, value in query.module.named_parameters()}
    query.train(max_epochs=2, plan_kwargs={"lr": 0.1}, **QUIET)
    for prefix in changes:
        own = [name for name in before if name.startswith(prefix)]
        assert own
        assert any(not torch.equal(dict(query.module.named_parameters())[name], before[name]) for name in own)


@pytest.mark.behavior("Latent library sizes of a query: those of the reference stay, new batches get their own")
def test_query_library_sizes(fit, adata, cells):
    model = fit(adata, use_observed_lib_size=False)
    query = BetaVAE.load_query_data(cells(seed=2, batches=NEW), model, accelerator="cpu")
    for name in ("library_log_means", "library_log_vars"):
        known, now = getattr(model.module, name), getattr(query.module, name)
        assert known.shape == (1, 2)
        assert now.shape == (1, 4)
        assert torch.equal(now[:, :2], known)
        assert now.count_nonzero() == 4


@pytest.mark.behavior(
    "Of a batch embedding, new rows are trained and those of the reference stay",
    default=NO_WEIGHTS,
)
def test_query_embedding(fit, adata, cells, kind):
    if kind == "default":
        with pytest.raises(ValueError, match="condition_on_batch=True"):
            fit(adata, batch_representation="embedding")
        return
    model = fit(adata, batch_representation="embedding", encode_covariates=True)
    query = BetaVAE.load_query_data(cells(seed=2, batches=NEW), model, accelerator="cpu")
    rows = query.module.get_embedding("batch").weight
    before = rows.detach().clone()
    query.train(max_epochs=3, plan_kwargs={"lr": 0.1}, **QUIET)
    assert torch.equal(rows[:2], before[:2])
    assert (rows[2:] - before[2:]).abs().max() > 1e-3


@pytest.mark.behavior("A query is saved, loaded, and queried again")
def test_query_of_a_query(trained, cells, tmp_path):
    query = map_cells(cells(seed=2, batches=NEW), trained)
    query.save(tmp_path / "query", save_anndata=True)
    loaded = BetaVAE.load(tmp_path / "query", accelerator="cpu")
    np.testing.assert_allclose(loaded.get_latent_representation(), query.get_latent_representation())
    again = map_cells(cells(seed=3, batches=("batch_4", "batch_2")), loaded)
    assert again.summary_stats.n_batch == 5
