"""The latent representation of a model: one computation, one table, no random number of the user's."""

import numpy as np
import pytest
import torch

import scbetavae
from scbetavae._core import results


@pytest.fixture
def model(make_model, counts_adata):
    return make_model(counts_adata, {"batch_key": "batch"})


def test_moments_and_divergences_are_those_of_the_posterior(model):
    latent = model._latent()
    means, variances = model.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(latent.means, means, atol=1e-6)
    np.testing.assert_allclose(latent.variances, variances, atol=1e-6)
    kl = 0.5 * (means**2 + variances - 1 - np.log(variances)).mean(axis=0)
    np.testing.assert_allclose(latent.kl, kl, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(latent.active, scbetavae.metrics.active_dimensions(means, kl=kl))
    assert latent.names == ("dim_0", "dim_1", "dim_2", "dim_3")
    assert latent.roles == ("free",) * 4


def test_random_states_stay(model):
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what must stay
    model._latent()
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("obsm_key", ["X_betavae", "X_mine"])
def test_writes_an_embedding_and_its_table(model, tmp_path, obsm_key):
    latent, adata = model._latent(), model.adata
    latent.write(adata, obsm_key)
    np.testing.assert_array_equal(adata.obsm[obsm_key], latent.means)
    table = adata.uns["betavae"]["latent"]
    assert table.columns.tolist() == ["dimension", "kl", "sd", "variance", "active", "role", "name"]
    np.testing.assert_allclose(table["variance"], latent.variances.mean(axis=0))
    assert results.parameters(adata, "latent")["obsm_key"] == obsm_key
    adata.write_h5ad(tmp_path / "cells.h5ad")


def test_a_simplex_is_known_by_its_means_and_the_normal_variable_by_its_posterior(make_model, counts_adata):
    model = make_model(counts_adata, latent_distribution="ln")
    simplex, normal = model._latent(), model._latent(normal=True)
    np.testing.assert_allclose(simplex.means.sum(axis=1), 1.0, atol=1e-4)
    assert simplex.kl is None
    assert simplex.variances is None
    assert simplex.table()["kl"].isna().all()
    np.testing.assert_allclose(normal.means, model.get_latent_representation(return_dist=True)[0], atol=1e-6)
    assert normal.kl.shape == (4,)


def test_a_diverged_model_is_refused(model):
    with torch.no_grad():
        model.module.z_encoder.mean_encoder.bias[0] = torch.nan
    with pytest.raises(ValueError, match="diverged"):
        model._latent()


def edit_counts(model, adata):
    adata.X.data[0] += 1


def edit_embedding(model, adata):
    adata.obsm["X_betavae"][0, 0] += 1


def edit_table(model, adata):
    adata.uns["betavae"]["latent"].loc[0, "kl"] = 5.0


def edit_weights(model, adata):
    with torch.no_grad():
        model.module.z_encoder.mean_encoder.bias[0] += 0.1


def swap_genes_of_a_cell(model, adata):
    start = adata.X.indptr[0]
    adata.X.indices[[start, start + 1]] = adata.X.indices[[start + 1, start]]


@pytest.mark.parametrize(
    ("change", "n_encodings"),
    [
        (lambda model, adata: None, 1),
        (edit_counts, 2),
        (swap_genes_of_a_cell, 2),
        (edit_embedding, 2),
        (edit_table, 2),
        (edit_weights, 2),
    ],
)
def test_cells_are_encoded_again_if_anything_has_changed(model, monkeypatch, change, n_encodings):
    adata, encoded, encode = model.adata.copy(), [], model.get_latent_representation
    monkeypatch.setattr(model, "get_latent_representation", lambda *a, **k: encoded.append(a) or encode(*a, **k))
    few = {"adata": adata, "metrics": "mig", "n_permutations": 0, "n_bootstrap": 0}
    model.score_disentanglement("labels", **few)
    change(model, adata)
    model.score_disentanglement("labels", **few)
    assert len(encoded) == n_encodings
    np.testing.assert_allclose(adata.obsm["X_betavae"], encode(adata), atol=1e-5)


def test_a_loaded_model_takes_the_stored_latent_representation_and_another_model_does_not(
    make_model, model, monkeypatch, tmp_path
):
    few = {"metrics": "mig", "n_permutations": 0, "n_bootstrap": 0}
    model.score_disentanglement("labels", **few)
    model.save(tmp_path / "model", save_anndata=True)
    loaded = type(model).load(tmp_path / "model", accelerator="cpu")
    other = make_model(model.adata.copy(), {"batch_key": "batch"})
    encoded = []
    for one in (loaded, other):
        encode = one.get_latent_representation
        monkeypatch.setattr(
            one, "get_latent_representation", lambda *a, f=encode, m=one, **k: encoded.append(m) or f(*a, **k)
        )
        one.score_disentanglement("labels", **few)
    assert encoded == [other]
