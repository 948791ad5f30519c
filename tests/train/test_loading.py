import anndata
import numpy as np
import pytest
import scvi
import torch
from scipy import sparse
from scvi.dataloaders import AnnDataLoader, DataSplitter

from scbetavae.model import BetaVAE
from scbetavae.train import InMemoryDataSplitter, in_memory_loader
from scbetavae.train._loading import MinibatchDataset, fits_in_memory, minibatches

KEYS = {
    "batch_key": "batch",
    "labels_key": "labels",
    "size_factor_key": "sf",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["age"],
    "encoder_obsm_key": "X_pca",
}


def manager_of(adata, **keys):
    BetaVAE.setup_anndata(adata, **keys)
    return BetaVAE(adata, n_hidden=8, n_latent=2).adata_manager


@pytest.mark.filterwarnings("ignore:Training will be faster when sparse matrix is formatted as CSR")
@pytest.mark.parametrize("layout", ["csr", "csc", "dense", "duplicates"])
def test_minibatches_are_those_of_scvi(counts_adata, layout):
    counts = counts_adata.X
    if layout == "csc":
        counts_adata.X = counts.tocsc()
    elif layout == "dense":
        counts_adata.X = counts.toarray()
    manager = manager_of(counts_adata, **KEYS)
    if layout == "duplicates":  # a matrix whose entries add up, as it may come out of a file
        doubled = sparse.csr_matrix(
            (np.repeat(counts.data / 2, 2), np.repeat(counts.indices, 2), counts.indptr * 2), shape=counts.shape
        )
        counts_adata.X = doubled
    rows = np.random.default_rng(0).permutation(120)[:75]
    torch.manual_seed(4)
    theirs = list(AnnDataLoader(manager, indices=rows, batch_size=32, shuffle=True))
    torch.manual_seed(4)
    ours = list(in_memory_loader(manager, rows, 32, shuffle=True))
    assert len(ours) == len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        assert set(other) <= set(mine)
        for name, expected in other.items():
            assert mine[name].dtype == expected.dtype
            torch.testing.assert_close(mine[name], expected)


def test_sparse_counts_are_those_of_the_dense_minibatch(counts_adata):
    manager = manager_of(counts_adata)
    batch = MinibatchDataset(manager, np.arange(120), sparse_counts=True)[[5, 99, 0]]
    assert batch["X"].layout == torch.sparse_csr
    assert set(batch) == set(MinibatchDataset(manager, np.arange(120))[[5, 99, 0]])
    np.testing.assert_array_equal(batch["X"].to_dense(), counts_adata.X[[5, 99, 0]].toarray())


def test_several_minibatches_at_once_are_the_same_minibatches(counts_adata):
    dataset = MinibatchDataset(manager_of(counts_adata), np.arange(75))
    torch.manual_seed(4)
    one_by_one = list(minibatches(dataset, 10, shuffle=True))
    torch.manual_seed(4)
    lists = list(minibatches(dataset, 10, shuffle=True, at_once=3))
    assert [len(several.minibatches) for several in lists] == [3, 3, 2]
    for mine, expected in zip((m for several in lists for m in several.minibatches), one_by_one, strict=True):
        torch.testing.assert_close(mine, expected)


def test_a_run_through_memory_is_the_run_through_scvi_s_loader(counts_adata, monkeypatch):
    class TheirSplitter(DataSplitter):
        def __init__(self, adata_manager, *, data_on_device, **kwargs):
            super().__init__(adata_manager, **kwargs)

    histories = []
    for splitter in (InMemoryDataSplitter, TheirSplitter):
        scvi.settings.seed = 0
        adata = counts_adata.copy()
        BetaVAE.setup_anndata(adata, batch_key="batch")
        model = BetaVAE(adata, n_hidden=16, n_latent=4, objective="beta_vae")
        monkeypatch.setattr(BetaVAE, "_data_splitter_cls", splitter)
        model.train(
            max_epochs=20, batch_size=32, check_val_every_n_epoch=1, accelerator="cpu", enable_progress_bar=False
        )
        histories.append({k: v[k].to_numpy(dtype=float) for k, v in model.history.items()})
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-4, err_msg=name)


def test_the_fused_likelihood_trains_as_the_distribution_does(counts_adata, monkeypatch):
    """Loss histories over 20 epochs agree to a relative 1e-4, for each dispersion that is fused."""
    for dispersion in ("gene", "gene-batch", "gene-label"):
        histories = []
        for fused in (True, False):
            scvi.settings.seed = 0
            adata = counts_adata.copy()
            BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="labels")
            model = BetaVAE(adata, n_hidden=16, n_latent=4, dispersion=dispersion)
            assert model.module.has_fused_likelihood
            if not fused:
                monkeypatch.setattr(type(model.module), "has_fused_likelihood", False)
            model.train(max_epochs=20, batch_size=32, accelerator="cpu", enable_progress_bar=False)
            monkeypatch.undo()
            histories.append(model.history["train_loss"]["train_loss"].to_numpy(dtype=float))
        np.testing.assert_allclose(*histories, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "fused"),
    [
        ({}, True),
        ({"dispersion": "gene-cell"}, False),
        ({"gene_likelihood": "zinb"}, False),
        ({"gene_likelihood": "poisson"}, False),
    ],
)
def test_which_likelihoods_are_fused(counts_adata, arguments, fused):
    BetaVAE.setup_anndata(counts_adata)
    assert BetaVAE(counts_adata, n_hidden=8, n_latent=2, **arguments).module.has_fused_likelihood == fused


def test_size_factors_are_not_fused(counts_adata):
    BetaVAE.setup_anndata(counts_adata, size_factor_key="sf")
    assert not BetaVAE(counts_adata, n_hidden=8, n_latent=2).module.has_fused_likelihood


def test_backed_and_minified_data_go_through_scvi_s_loader(counts_adata, tmp_path):
    counts_adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert not fits_in_memory(manager_of(backed))
    assert in_memory_loader(manager_of(backed), np.arange(5), 2) is None
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, n_hidden=8, n_latent=2)
    assert fits_in_memory(model.adata_manager)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    mean, variance = model.get_latent_representation(return_dist=True)
    counts_adata.obsm["X_latent_qzm"], counts_adata.obsm["X_latent_qzv"] = mean, variance
    model.minify_adata()
    assert not fits_in_memory(model.adata_manager)


@pytest.mark.parametrize("data_on_device", [True, False])
def test_data_on_device_changes_no_number(counts_adata, data_on_device):
    losses = []
    for choice in (data_on_device, "auto"):
        scvi.settings.seed = 0
        adata = counts_adata.copy()
        BetaVAE.setup_anndata(adata)
        model = BetaVAE(adata, n_hidden=8, n_latent=2)
        model.train(max_epochs=2, data_on_device=choice, accelerator="cpu", enable_progress_bar=False)
        losses.append(model.history["train_loss"]["train_loss"].to_numpy(dtype=float))
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_data_on_device_takes_three_values(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, n_hidden=8, n_latent=2)
    with pytest.raises(ValueError, match="Choose from True, False, 'auto'"):
        model.train(max_epochs=1, data_on_device="yes")


def test_options_of_the_loader_still_reach_scvi(counts_adata):
    """A splitter option that only scvi-tools' loader knows is handed to it."""
    splitter = InMemoryDataSplitter(manager_of(counts_adata), batch_size=32, load_sparse_tensor=True)
    splitter.setup()
    assert isinstance(splitter.train_dataloader(), AnnDataLoader)
    plain = InMemoryDataSplitter(manager_of(counts_adata), batch_size=32)
    plain.setup()
    assert isinstance(plain.train_dataloader().dataset, MinibatchDataset)
    assert isinstance(plain.val_dataloader().dataset, MinibatchDataset)
