"""Data that change under a model are noticed in any way and data that only move are not."""

import anndata
import numpy as np
import pytest
import scanpy as sc
import scvi
from scipy import sparse

from scbetavae.datasets import simulate_counts
from scbetavae.model import BetaVAE

QUICK = {"max_epochs": 2, "enable_progress_bar": False, "accelerator": "cpu", "check_val_every_n_epoch": 1}
REFUSED = "The data of this model have changed since they were set up"


@pytest.fixture(scope="module")
def simulated():
    adata = simulate_counts(150, 80, n_batches=2, seed=0)
    adata.X = sparse.csr_matrix(adata.X)
    return adata


@pytest.fixture(scope="module")
def saved(simulated, tmp_path_factory):
    """Folder of a trained model."""
    scvi.settings.seed = 0
    adata = simulated.copy()
    BetaVAE.setup_anndata(adata, batch_key="batch")
    folder = tmp_path_factory.mktemp("saved") / "model"
    BetaVAE(adata, n_latent=3, n_hidden=16).train(**QUICK).save(folder)
    return folder


@pytest.fixture
def model(simulated, saved):
    """The trained model, with data of its own that a test may change."""
    return BetaVAE.load(saved, simulated.copy(), accelerator="cpu")


def assign(adata):
    adata.X = adata.X * 2


def normalize(adata):
    sc.pp.normalize_total(adata)


CHANGES = {
    "log1p": (sc.pp.log1p, r"sampled entries of adata.X differ: they were log-transformed"),
    "normalize_total": (normalize, "adata.X differ: they were normalized or log-transformed"),
    "scaled counts": (assign, r"adata.X differ\."),
    "fewer genes": (
        lambda a: a._inplace_subset_var(a.var_names[:40]),
        "had 150 cells x 80 genes and has 150 cells x 40",
    ),
    "fewer cells": (lambda a: a._inplace_subset_obs(np.arange(100)), "150 cells x 80 genes and has 100 cells x 80"),
    "cells in another order": (
        lambda a: a._inplace_subset_obs(np.arange(150)[::-1]),
        "sampled entries of adata.X differ",
    ),
    "genes in another order": (
        lambda a: a._inplace_subset_var(np.arange(80)[::-1]),
        "gene 0 was 'gene_0' and is 'gene_79'",
    ),
    "other names": (lambda a: setattr(a, "var_names", "x" + a.var_names), "gene 0 was 'gene_0' and is 'xgene_0'"),
}
METHODS = {
    "train": lambda m: m.train(**QUICK),
    "latent": lambda m: m.get_latent_representation(),
    "its own data by name": lambda m: m.get_latent_representation(m.adata),
    "elbo": lambda m: m.get_elbo(),
    "expression": lambda m: m.get_normalized_expression(indices=[0]),
    "differential expression": lambda m: m.differential_expression(groupby="cell_type", silent=True),
    "summary": lambda m: m.get_latent_summary(),
    "traversal": lambda m: m.traverse(),
    "counterfactual": lambda m: m.counterfactual("condition", "control", "treated"),
    "minified": lambda m: m.minify_adata(),
    "scores": lambda m: m.score_disentanglement(["batch"], metrics=["mig"]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", ["log1p", "fewer genes"])
def test_every_method_notices(model, change, method):
    change, message = CHANGES[change]
    change(model.adata)
    stored = set(model.adata.uns)
    with pytest.raises(ValueError, match=f"{REFUSED}.*{message}"):
        METHODS[method](model)
    assert set(model.adata.uns) == stored


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(model, change):
    change, message = CHANGES[change]
    change(model.adata)
    with pytest.raises(ValueError, match=f"{REFUSED}.*{message}.*build the model anew"):
        model.get_latent_representation()


@pytest.mark.parametrize("change", CHANGES)
def test_changes_between_set_up_and_model_are_noticed(simulated, change):
    adata = simulated.copy()
    BetaVAE.setup_anndata(adata)
    CHANGES[change][0](adata)
    with pytest.raises(ValueError, match=f"{REFUSED}.*{CHANGES[change][1]}"):
        BetaVAE(adata)
    if change != "scaled counts":
        return
    BetaVAE.setup_anndata(adata)  # set up anew, they are what the model is told
    BetaVAE(adata)


def test_one_entry_is_noticed_before_training(model):
    """Methods compare a sample of the entries; training, which looks at all of them anyway, compares their sum."""
    model.adata.X.data[np.argmax(model.adata.X.data)] += 1
    with pytest.raises(ValueError, match=r"adata.X summed to \d+ and sums to \d+"):
        model.train(**QUICK)


@pytest.mark.filterwarnings("ignore:Training will be faster")
def test_the_same_counts_elsewhere_are_the_same(model):
    codes = model.get_latent_representation()
    counts = model.adata.X
    unsorted = counts[:, ::-1][:, ::-1]
    for matrix in (counts.tocsc(), counts.toarray(), counts.astype(np.float64), counts.astype(np.int32), unsorted):
        model.adata.X = matrix
        np.testing.assert_allclose(model.get_latent_representation(), codes, atol=1e-6)
    model.adata.obs["new"] = 1.0
    model.adata.layers["log"] = counts.log1p()
    model.adata.obsm["X_new"] = codes
    model.train(**QUICK)


def test_a_layer_is_what_counts(simulated):
    adata = simulated.copy()
    adata.layers["counts"] = adata.X.copy()
    BetaVAE.setup_anndata(adata, layer="counts")
    model = BetaVAE(adata, n_latent=3, n_hidden=16)
    normalize(adata)
    sc.pp.log1p(adata)
    model.train(**QUICK)
    adata.X = adata.layers["counts"].copy()
    adata.layers["counts"] = adata.layers["counts"].log1p()
    with pytest.raises(ValueError, match=r"of adata.layers\['counts'\] differ.*adata.X still holds the old values"):
        model.get_latent_representation()
    del adata.layers["counts"]
    with pytest.raises(KeyError, match=r"layer=.counts. is not in adata\.layers"):
        model.get_latent_representation()


def test_the_remedy_is_a_layer_that_has_the_counts(model):
    codes = model.get_latent_representation()
    model.adata.layers["raw"] = model.adata.X.copy()
    sc.pp.log1p(model.adata)
    with pytest.raises(ValueError, match=r"adata.X = adata.layers\['raw'\].copy\(\)"):
        model.get_latent_representation()
    model.adata.X = model.adata.layers["raw"].copy()
    np.testing.assert_array_equal(model.get_latent_representation(), codes)


def test_what_the_encoder_reads_in_place_of_counts(simulated):
    adata = simulated.copy()
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(150, 5))
    BetaVAE.setup_anndata(adata, encoder_obsm_key="X_pca")
    model = BetaVAE(adata, n_latent=3, n_hidden=16)
    model.train(**QUICK)
    adata.obsm["X_pca"] = adata.obsm["X_pca"] + 1
    with pytest.raises(ValueError, match=r"sampled entries of adata.obsm\['X_pca'\] differ"):
        model.get_latent_representation()


def test_data_given_later_are_remembered_too(model, simulated):
    model.adata = simulated[:100].copy()
    assert model.get_latent_representation().shape == (100, 3)
    sc.pp.log1p(model.adata)
    with pytest.raises(ValueError, match=REFUSED):
        model.get_latent_representation()


def test_each_model_remembers_its_own_set_up(model, simulated):
    adata = model.adata
    other = simulated.copy()
    assert model.get_latent_representation(other).shape == (150, 3)
    normalize(adata)
    BetaVAE.setup_anndata(adata)
    normal = BetaVAE(adata, n_latent=3, n_hidden=16, gene_likelihood="normal")
    normal.train(**QUICK)
    with pytest.raises(ValueError, match=REFUSED):
        model.get_latent_representation()
    assert normal.get_latent_representation().shape == (150, 3)


def test_data_on_disk(simulated, saved, tmp_path):
    for kind, matrix in {"csr": simulated.X, "csc": simulated.X.tocsc(), "dense": simulated.X.toarray()}.items():
        adata = anndata.AnnData(matrix, obs=simulated.obs, var=simulated.var)
        adata.write_h5ad(tmp_path / f"{kind}.h5ad")
        backed = anndata.read_h5ad(tmp_path / f"{kind}.h5ad", backed="r+")
        model = BetaVAE.load(saved, backed, accelerator="cpu")
        codes = model.get_latent_representation()
        np.testing.assert_array_equal(model.get_latent_representation(), codes)
        if kind == "dense":
            backed.file["X"][:] = np.log1p(matrix)
            with pytest.raises(ValueError, match=REFUSED):
                model.get_latent_representation()
        backed.file.close()


def test_minified_data_have_nothing_to_change(model):
    codes, variances = model.get_latent_representation(return_dist=True)
    model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = codes, variances
    model.minify_adata()
    np.testing.assert_allclose(model.get_latent_representation(), codes, atol=1e-6)
