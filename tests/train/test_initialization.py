import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

from scbetavae.model import BetaVAE
from scbetavae.module import BetaVAEModule
from scbetavae.train._initialization import TrainingCells, initialize_decoder

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    batch = rng.integers(2, size=3000)
    rate = rng.lognormal(size=20) * 20
    library = rng.lognormal(sigma=0.3, size=3000)
    mean = library[:, None] * rate / rate.sum() * 400
    theta = np.where(batch == 0, 2.0, 8.0)[:, None]
    counts = rng.negative_binomial(theta, theta / (theta + mean))
    return TrainingCells(sparse.csr_matrix(counts, dtype=float), batch, batch, library, None)


def module(**kwargs):
    return BetaVAEModule(20, n_batch=3, n_labels=3, n_hidden=8, n_latent=3, **kwargs)


def test_output_bias_is_the_log_mean_expression(cells):
    found = module()
    initialize_decoder(found, cells)
    total = cells.counts.toarray().sum(axis=0)
    rho = (total + 0.5) / (total.sum() + 0.5 * 20)
    bias = found.decoder.px_scale_decoder[0].bias
    np.testing.assert_allclose(bias.detach(), np.log(rho) - np.log(rho).mean(), atol=1e-5)
    np.testing.assert_allclose(torch.softmax(bias, 0).detach(), rho, rtol=1e-4)


def test_dispersion_is_that_of_the_definition_and_near_the_truth(cells):
    found = module()
    only = TrainingCells(*(None if part is None else part[cells.batch == 0] for part in cells))
    initialize_decoder(found, only)
    counts = only.counts.toarray()
    total, library = counts.sum(axis=0), counts.sum(axis=1)
    m = library[:, None] * (total + 0.5) / (total.sum() + 10.0)
    phi = ((counts - m) ** 2 - m).sum(axis=0) / (m**2).sum(axis=0)
    np.testing.assert_allclose(
        found.px_r.detach(), np.clip(-np.log(np.clip(phi, 1e-3, 1e3)), -3, 4), rtol=1e-3, atol=1e-3
    )
    assert np.median(np.exp(found.px_r.detach().numpy())) == pytest.approx(2.0, rel=0.3)


@pytest.mark.parametrize("dispersion", ["gene-batch", "gene-label"])
def test_dispersion_of_groups_is_shrunk_to_the_overall_value(cells, dispersion):
    overall, found = module(), module(dispersion=dispersion)
    initialize_decoder(overall, cells)
    few = np.flatnonzero(cells.batch == 1)[:5]
    some = np.concatenate([np.flatnonzero(cells.batch == 0), few])
    initialize_decoder(found, cells)
    theta = np.exp(found.px_r.detach().numpy())
    assert np.median(theta[:, 0]) < 3.5 < np.median(theta[:, 1])
    np.testing.assert_allclose(found.px_r[:, 2].detach(), overall.px_r.detach(), atol=1e-5)  # a group without cells
    subset = TrainingCells(*(None if part is None else part[some] for part in cells))
    initialize_decoder(found, subset)
    initialize_decoder(overall, subset)
    # Five cells move the estimate by 5 of 55 parts of the way.
    assert (found.px_r[:, 1] - overall.px_r).abs().max().item() < 7 * 5 / 55 + 1e-6


def test_what_has_no_dispersion_keeps_it_and_dropout_starts_off(cells):
    poisson = module(gene_likelihood="poisson")
    before = poisson.px_r.detach().clone()
    initialize_decoder(poisson, cells)
    assert torch.equal(poisson.px_r, before)
    zinb = module(gene_likelihood="zinb")
    initialize_decoder(zinb, cells)
    assert (torch.sigmoid(zinb.decoder.px_dropout_decoder.bias) < 0.02).all()


def test_dispersion_of_each_cell_and_gene_starts_at_its_bias(cells):
    overall, found = module(), module(dispersion="gene-cell")
    initialize_decoder(overall, cells)
    initialize_decoder(found, cells)
    torch.testing.assert_close(found.decoder.px_r_decoder.bias, overall.px_r)


def test_size_factors_take_the_place_of_the_library(cells):
    found = module(use_size_factor_key=True)
    initialize_decoder(found, cells)
    rate = torch.nn.functional.softplus(found.decoder.px_scale_decoder[0].bias.detach())
    expected = (cells.counts.toarray().sum(axis=0) + 0.5) / (cells.size_factors.sum() + 0.5)
    np.testing.assert_allclose(rate, expected, rtol=1e-4)


def biases(model):
    return model.module.decoder.px_scale_decoder[0].bias.detach().clone()


def test_it_starts_a_fresh_model_and_no_other(counts_adata, tmp_path):
    BetaVAE.setup_anndata(counts_adata)
    still = {"max_steps": 1, "plan_kwargs": {"lr": 1e-12}, **QUIET}
    model = BetaVAE(counts_adata, n_hidden=8, n_latent=3)
    random = biases(model)
    model.train(initialize=False, **still)
    torch.testing.assert_close(biases(model), random)
    model.train(**still)  # it was trained before
    torch.testing.assert_close(biases(model), random)
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", counts_adata, accelerator="cpu")
    loaded.is_trained_ = False
    loaded.train(**still)
    torch.testing.assert_close(biases(loaded), random)
    query = BetaVAE.load_query_data(counts_adata.copy(), tmp_path / "model", accelerator="cpu", unfrozen=True)
    query.train(**still)
    torch.testing.assert_close(biases(query), random)
    BetaVAE.setup_anndata(counts_adata)
    fresh = BetaVAE(counts_adata, n_hidden=8, n_latent=3).train(**still)
    assert not torch.allclose(biases(fresh), random, atol=0.1)


def test_data_on_disk_start_as_those_in_memory(counts_adata, tmp_path):
    counts_adata.write_h5ad(tmp_path / "cells.h5ad")
    found = []
    for adata in (counts_adata, anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")):
        BetaVAE.setup_anndata(adata, batch_key="batch")
        model = BetaVAE(adata, n_hidden=8, n_latent=3, condition_on_batch=True)
        model.train(max_steps=1, plan_kwargs={"lr": 1e-12}, batch_size=16, **QUIET)
        found.append(
            (biases(model), model.module.px_r.detach(), model.module.anchor.weights, model.module.anchor.offsets)
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
