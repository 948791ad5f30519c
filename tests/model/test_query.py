"""Query cells of batches, labels and covariates that the reference does not know: what is trained, and what stays."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scbetavae.model import BetaVAE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SMALL = {"n_hidden": 16, "n_latent": 3}
BATCH = {"batch_key": "batch"}
NEW = "batch_9"


def query_of(adata, **columns):
    """The same cells with other columns, and counts that a new batch shifts in half of the genes."""
    new = adata.copy()
    new.X = sparse.csr_matrix(new.X.toarray() * np.where(np.arange(new.n_vars) % 2, 3.0, 1.0)).astype(np.float32)
    for name, value in columns.items():
        new.obs[name] = pd.Categorical([value] * new.n_obs)
    return new


def reference(adata, setup=BATCH, **kwargs):
    BetaVAE.setup_anndata(adata, **setup)
    plain = {"objective": "beta_vae", "anchor": None} | kwargs
    return BetaVAE(adata, **SMALL, **plain).train(max_epochs=3, lr_schedule="constant", initialize=False, **QUIET)


def weights_of(model):
    return {name: value.detach().clone() for name, value in model.module.state_dict().items()}


def adapt(query):
    """Train on 90 cells; held-out NLL of the other 30 before and after."""
    cells = np.arange(query.adata.n_obs)
    split = {"external_indexing": [cells[:90], cells[90:], cells[:0]]}
    nll = []
    for model_is_trained in (False, True):
        if model_is_trained:
            rate = {"lr_schedule": "constant", "plan_kwargs": {"lr": 0.01}}
            query.train(max_epochs=10, batch_size=30, datasplitter_kwargs=split, **rate, **QUIET)
        query.is_trained_ = True
        torch.manual_seed(0)
        nll.append(float(query.get_reconstruction_error(indices=cells[90:])["reconstruction_loss"]))
    return nll


DECODER = "decoder.px_decoder.fc_layers.Layer 0.0.weight"
ENCODER = "z_encoder.encoder.fc_layers.Layer 0.0.weight"


@pytest.mark.parametrize(
    ("kwargs", "where"),
    [
        ({}, [(DECODER, 1)]),
        ({"encode_covariates": True}, [(DECODER, 1), (ENCODER, 1)]),
        ({"batch_representation": "embedding"}, [("_embeddings_dict.batch.weight", 0)]),
        ({"dispersion": "gene-batch"}, [(DECODER, 1), ("px_r", 1)]),
    ],
    ids=["one-hot", "encoder too", "embedding", "dispersion"],
)
def test_a_query_of_one_new_batch_learns_it_and_forgets_nothing(counts_adata, kwargs, where):
    model = reference(counts_adata, condition_on_batch=True, **kwargs)
    query = BetaVAE.load_query_data(query_of(counts_adata, batch=NEW), model, accelerator="cpu")
    assert not query.is_trained
    before = weights_of(query)
    nll_before, nll_after = adapt(query)
    assert nll_after < nll_before - 0.5
    after = weights_of(query)
    for name, axis in where:
        change = (after[name] - before[name]).abs()
        assert change.narrow(axis, change.shape[axis] - 1, 1).max() > 0.01
        assert change.narrow(axis, 0, change.shape[axis] - 1).max() == 0
    adapts = {name for name, _ in where} | {
        name for name in after if name.startswith("decoder") and name.endswith((" 0.1.weight", " 0.1.bias"))
    }
    for name in set(after) - adapts:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    "kwargs", [{"condition_on_batch": True}, {"dispersion": "gene-batch"}], ids=["conditioned", "dispersion"]
)
@pytest.mark.filterwarnings("ignore:The query has batches or labels")
def test_the_discriminator_of_factor_vae_learns_with_a_query(counts_adata, kwargs):
    model = reference(counts_adata, objective="factor_vae", **kwargs)
    query = BetaVAE.load_query_data(query_of(counts_adata, batch=NEW), model, accelerator="cpu")
    before = weights_of(query)
    nll_before, nll_after = adapt(query)
    assert nll_after < nll_before
    changed = {name for name, value in weights_of(query).items() if not torch.equal(value, before[name])}
    assert any(name.startswith("regularizer.discriminator") for name in changed)
    assert not any(name.startswith("z_encoder") for name in changed)


def test_a_reference_of_one_batch_learns_a_second(counts_adata):
    counts_adata.obs["batch"] = pd.Categorical(["batch_1"] * counts_adata.n_obs)
    model = reference(counts_adata, condition_on_batch=True)
    query = BetaVAE.load_query_data(query_of(counts_adata, batch=NEW), model, accelerator="cpu")
    codes = model.get_latent_representation()
    query.is_trained_ = True
    np.testing.assert_allclose(query.decode(codes, batch="batch_1"), model.decode(codes), rtol=1e-5)
    nll_before, nll_after = adapt(query)
    assert nll_after < nll_before - 0.5
    change = (query.module.state_dict()[DECODER][:, -2:]).abs().max(dim=0).values
    assert change[0] == 0
    assert change[1] > 0.01


@pytest.mark.parametrize("reads_batch_key", [True, False])
def test_a_decoder_of_one_batch_maps_cells_of_this_batch_as_it_is(counts_adata, reads_batch_key):
    counts_adata.obs["batch"] = pd.Categorical(["batch_1"] * counts_adata.n_obs)
    model = reference(counts_adata, BATCH if reads_batch_key else {}, condition_on_batch=True)
    query = BetaVAE.load_query_data(query_of(counts_adata), model, accelerator="cpu")
    assert query.is_trained
    with pytest.raises(ValueError, match="Nothing is left to train"):
        query.train(max_epochs=1, **QUIET)
    asked = BetaVAE.load_query_data(query_of(counts_adata), model, accelerator="cpu", freeze_decoder_first_layer=False)
    assert not asked.is_trained
    nll_before, nll_after = adapt(asked)
    assert nll_after < nll_before - 0.5


@pytest.mark.parametrize("from_folder", [False, True])
@pytest.mark.parametrize(("dispersion", "column"), [("gene-batch", "batch"), ("gene-label", "labels")])
def test_a_new_dispersion_must_be_trained(counts_adata, tmp_path, dispersion, column, from_folder):
    model = reference(counts_adata, BATCH | {"labels_key": "labels"}, dispersion=dispersion)
    known = model.module.px_r.detach().clone()
    where = tmp_path / "model" if from_folder else model
    if from_folder:
        model.save(where)
    with pytest.warns(UserWarning, match=rf"dispersion='{dispersion}'.*Train the model before using it"):
        query = BetaVAE.load_query_data(query_of(counts_adata, **{column: NEW}), where, accelerator="cpu")
    assert not query.is_trained
    for method in ("get_latent_representation", "score_disentanglement"):
        with pytest.raises(RuntimeError, match="untrained model"):
            getattr(query, method)(*([column] if method.startswith("score") else []))
    before = weights_of(query)
    torch.testing.assert_close(before["px_r"][:, -1], known.mean(dim=1))
    nll_before, nll_after = adapt(query)
    assert nll_after < nll_before
    after = weights_of(query)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"px_r"}
    torch.testing.assert_close(after["px_r"][:, :-1], known, rtol=0, atol=0)
    np.testing.assert_allclose(query.get_latent_representation(counts_adata), model.get_latent_representation())


@pytest.mark.parametrize("dispersion", ["gene", "gene-batch", "gene-label"])
def test_a_query_of_known_categories_is_mapped_as_it_is(counts_adata, dispersion):
    model = reference(counts_adata, BATCH | {"labels_key": "labels"}, dispersion=dispersion)
    query = BetaVAE.load_query_data(query_of(counts_adata, batch="batch_2"), model, accelerator="cpu")
    assert query.is_trained
    torch.testing.assert_close(query.module.px_r, model.module.px_r, rtol=0, atol=0)


@pytest.mark.parametrize("unfrozen", [False, True])
@pytest.mark.parametrize(("condition_on_batch", "grows"), [(True, "batch"), (True, "donor"), (False, "donor")])
def test_new_categories_do_not_take_the_weights_of_others(counts_adata, condition_on_batch, grows, unfrozen):
    setup = BATCH | {"categorical_covariate_keys": ["donor", "condition"]}
    model = reference(counts_adata, setup, condition_on_batch=condition_on_batch)
    query = BetaVAE.load_query_data(query_of(counts_adata, **{grows: NEW}), model, accelerator="cpu", unfrozen=unfrozen)
    query.is_trained_ = True
    codes = model.get_latent_representation()
    for condition in ("control", "treated"):
        told = {"covariates": {"donor": "donor_3", "condition": condition}}
        if condition_on_batch:
            told["batch"] = "batch_2"
        np.testing.assert_allclose(query.decode(codes, **told), model.decode(codes, **told), rtol=1e-5)
