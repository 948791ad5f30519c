"""What a trained model says of cells: its own, some of them, and others."""

import numpy as np
import pandas as pd
import pytest
import scvi

from scbetavae.model import BetaVAE

ALIKE = "all batches decode alike; an error says so"
NO_CELLS = "an empty choice of cells is an error"


@pytest.mark.behavior("`get_elbo`, `get_reconstruction_error`, `get_marginal_ll`, as a mean and by cell")
def test_likelihoods(trained):
    assert trained.get_elbo().ndim == 0
    assert trained.get_elbo(return_mean=False).shape == (60,)
    error = trained.get_reconstruction_error()["reconstruction_loss"]
    by_cell = trained.get_reconstruction_error(return_mean=False)["reconstruction_loss"]
    assert by_cell.shape == (60,)
    assert np.isfinite([float(error), float(by_cell.sum())]).all()
    assert np.ndim(trained.get_marginal_ll(n_mc_samples=3)) == 0
    assert trained.get_marginal_ll(n_mc_samples=3, return_mean=False).shape == (60,)


@pytest.mark.behavior("`get_latent_representation`: means, variances, samples, some cells")
def test_latent_representation(trained):
    means, variances = trained.get_latent_representation(return_dist=True)
    np.testing.assert_array_equal(trained.get_latent_representation(), means)
    assert (variances > 0).all()
    draws = np.stack([trained.get_latent_representation(give_mean=False) for _ in range(60)])
    np.testing.assert_allclose(draws.mean(axis=0), means, atol=6 * np.sqrt(variances.max() / 60))
    np.testing.assert_allclose(trained.get_latent_representation(indices=[3, 1]), means[[3, 1]], rtol=1e-5)


@pytest.mark.behavior("`get_normalized_expression`: samples, genes, library sizes, cells")
@pytest.mark.parametrize("library_size", [1, 1e4, "latent"])
def test_normalized_expression(trained, library_size):
    options = {"library_size": library_size, "indices": [5, 2, 7], "gene_list": ["gene_3", "gene_1"]}
    frame = trained.get_normalized_expression(**options)
    assert frame.columns.tolist() == ["gene_1", "gene_3"]
    assert frame.index.tolist() == ["cell_5", "cell_2", "cell_7"]
    samples = trained.get_normalized_expression(n_samples=4, return_mean=False, return_numpy=True, **options)
    assert samples.shape == (4, 3, 2)
    assert trained.get_normalized_expression(n_samples=4, **options).shape == (3, 2)
    total = trained.get_normalized_expression(library_size=library_size).sum(axis=1)
    expected = trained.get_latent_library_size(give_mean=False)[:, 0] if library_size == "latent" else library_size
    np.testing.assert_allclose(total, expected, rtol=1e-4)


@pytest.mark.behavior("`get_normalized_expression` weighted by importance")
def test_importance_weights(trained):
    options = {"n_samples_overall": 8, "weights": "importance", "gene_list": ["gene_1"], "return_numpy": True}
    found = trained.get_normalized_expression(**options)
    assert found.shape == (8, 1)
    assert np.isfinite(found).all()


@pytest.mark.behavior("`transform_batch` by label, several and integers", default=ALIKE)
def test_transform_batch(trained, fit, cells, kind):
    if kind == "default":
        with pytest.raises(ValueError, match="condition_on_batch=True"):
            trained.get_normalized_expression(transform_batch="batch_1")
        return
    frames = []
    for batch in ("batch_0", "batch_1", ["batch_0", "batch_1"]):
        scvi.settings.seed = 0
        frames.append(trained.get_normalized_expression(transform_batch=batch, n_samples=100))
    one, other, both = (frame.to_numpy() for frame in frames)
    between = np.abs(both - (one + other) / 2)
    assert between.mean() < np.abs(one - other).mean() / 2
    options = {"indices": [1, 2, 3], "gene_list": ["gene_1", "gene_2"]}
    assert trained.posterior_predictive_sample(**options, n_samples=3, transform_batch=["batch_1"]).shape == (3, 2, 3)
    assert trained.get_feature_correlation_matrix(n_samples=2, transform_batch=["batch_0"]).shape == (20, 20)
    adata = cells()
    adata.obs["batch"] = np.resize([0.0, 1.0], adata.n_obs)
    model = fit(adata, {"batch_key": "batch"})
    assert model.get_normalized_expression(transform_batch=1).shape == adata.shape
    assert model.get_normalized_expression(transform_batch=[0, 1]).shape == adata.shape


@pytest.mark.behavior("`posterior_predictive_sample`")
def test_posterior_predictive_sample(trained):
    assert trained.posterior_predictive_sample().shape == (60, 20)
    options = {"indices": [1, 2, 3], "gene_list": ["gene_1", "gene_2"]}
    sample = trained.posterior_predictive_sample(**options, n_samples=4)
    assert sample.shape == (3, 2, 4)
    assert (sample.todense() >= 0).all()


@pytest.mark.behavior("`get_feature_correlation_matrix`, Pearson and Spearman")
@pytest.mark.parametrize("correlation_type", ["pearson", "spearman"])
def test_feature_correlations(trained, correlation_type):
    options = {"correlation_type": correlation_type, "n_samples": 3, "rna_size_factor": 500}
    matrix = trained.get_feature_correlation_matrix(**options, indices=range(30))
    assert matrix.shape == (20, 20)
    np.testing.assert_allclose(np.diag(matrix), 1.0, rtol=1e-4)
    np.testing.assert_allclose(matrix, matrix.T)


@pytest.mark.behavior("`get_likelihood_parameters` of nb and zinb, and of dispersion by cell")
@pytest.mark.parametrize(
    "arguments", [{"gene_likelihood": "zinb"}, {"gene_likelihood": "nb"}, {"dispersion": "gene-cell"}]
)
def test_likelihood_parameters(fit, adata, arguments):
    model = fit(adata, **arguments)
    names = {"mean", "dispersions"} | ({"dropout"} if arguments.get("gene_likelihood") == "zinb" else set())
    for options, shape in (({}, (60, 20)), ({"indices": [1, 2], "n_samples": 3, "give_mean": True}, (2, 20))):
        found = model.get_likelihood_parameters(**options)
        assert set(found) == names
        assert {value.shape for value in found.values()} == {shape}


@pytest.mark.behavior("`get_latent_library_size`")
def test_library_size(trained):
    totals = np.asarray(trained.adata.X.sum(axis=1)).ravel()
    np.testing.assert_allclose(
        trained.get_latent_library_size(indices=[4, 2], give_mean=False)[:, 0], totals[[4, 2]], rtol=1e-5
    )


@pytest.mark.behavior("Other cells, a view and a copy: the set-up is transferred")
def test_other_cells(trained, cells):
    other = cells(seed=5)
    latents = trained.get_latent_representation(other)
    assert not np.allclose(latents, trained.get_latent_representation())
    np.testing.assert_allclose(trained.get_latent_representation(other[:10]), latents[:10], rtol=1e-5)
    np.testing.assert_allclose(
        trained.get_latent_representation(trained.adata.copy()), trained.get_latent_representation()
    )
    for result in (trained.get_elbo(other), trained.get_marginal_ll(other, n_mc_samples=2)):
        assert np.isfinite(float(result))
    assert trained.get_normalized_expression(other, indices=[1, 2]).shape == (2, 20)
    assert trained.get_likelihood_parameters(other, indices=[1, 2])["mean"].shape == (2, 20)


@pytest.mark.behavior("Other cells with unknown categories are an error")
@pytest.mark.parametrize("column", ["batch", "labels"])
def test_unknown_categories(trained, cells, column):
    other = cells(seed=6)
    other.obs[column] = other.obs[column].cat.rename_categories(lambda name: f"new {name}")
    with pytest.raises(ValueError, match="not found in source registry"):
        trained.get_elbo(other)


@pytest.mark.behavior("Other cells without a registered column are an error")
def test_missing_column(trained, cells):
    other = cells(seed=7)
    del other.obs["batch"]
    with pytest.raises(KeyError, match="batch"):
        trained.get_latent_representation(other)


@pytest.mark.behavior("Other cells with fewer categories, in another order")
def test_fewer_categories(trained, cells):
    other = cells(seed=8, batches=("batch_1",))
    expected = trained.get_latent_representation(other)
    other = cells(seed=8, batches=("batch_1",))
    other.obs["batch"] = pd.Categorical(other.obs["batch"], categories=["batch_1", "batch_0"])
    np.testing.assert_allclose(trained.get_latent_representation(other), expected)
    assert set(other.obs["_scvi_batch"]) == {1}


@pytest.mark.behavior("Assigning other data to `model.adata`")
def test_assigning_data(fit, adata, cells):
    model = fit(adata)
    latents = model.get_latent_representation()
    model.adata = cells(seed=5)
    assert not np.allclose(model.get_latent_representation(), latents)
    np.testing.assert_allclose(model.get_latent_representation(adata), latents)
    assert model.registry_ is not model.get_anndata_manager(adata).registry
    wrong = cells(seed=4)
    del wrong.obs["batch"]
    with pytest.raises(KeyError, match="batch"):
        model.adata = wrong


@pytest.mark.behavior("`dataloader=` in place of cells")
@pytest.mark.filterwarnings("ignore:Using .* after custom Dataloader")
def test_data_loader(trained):
    loader = trained._make_data_loader(trained.adata, batch_size=16)
    assert np.isfinite(float(trained.get_elbo(dataloader=loader)))
    assert np.isfinite(float(trained.get_marginal_ll(dataloader=loader, n_mc_samples=2)))
    assert np.isfinite(float(trained.get_reconstruction_error(dataloader=loader)["reconstruction_loss"]))
    np.testing.assert_allclose(
        trained.get_latent_representation(dataloader=loader), trained.get_latent_representation(), rtol=1e-4, atol=1e-6
    )
    means, variances = trained.get_latent_representation(dataloader=loader, return_dist=True)
    assert means.shape == variances.shape == (60, 3)
    assert trained.get_normalized_expression(dataloader=loader, return_numpy=True).shape == (60, 20)


@pytest.mark.behavior("An untrained model is refused")
def test_untrained(build, adata):
    model = build(adata)
    with pytest.raises(RuntimeError, match="untrained model"):
        model.get_latent_representation()
    with pytest.raises(RuntimeError, match="untrained model"):
        model.get_aggregated_posterior()


@pytest.mark.behavior("`differential_expression`: groups, cells, one against the rest, both modes, by importance")
@pytest.mark.parametrize(("mode", "weights"), [("vanilla", "uniform"), ("change", "importance")])
def test_differential_expression(trained, mode, weights):
    options = {"mode": mode, "weights": weights, "silent": True}
    rest = trained.differential_expression(groupby="labels", **options)
    assert len(rest) == 3 * 20
    pair = trained.differential_expression(groupby="labels", group1="a", group2="b", **options)
    assert set(pair["comparison"]) == {"a vs b"}
    by_cells = trained.differential_expression(idx1=[0, 1, 2], idx2=[3, 4, 5], **options)
    assert np.isfinite(by_cells["bayes_factor"]).all()
    assert len(trained.differential_expression(idx1=trained.adata.obs["labels"] == "a", **options)) == 20
    assert len(trained.differential_expression(idx1="labels == 'a'", idx2="labels == 'b'", **options)) == 20
    if mode == "change":
        assert "proba_de" in trained.differential_expression(groupby="labels", delta=0.5, pseudocounts=1e-4, **options)


@pytest.mark.behavior("`differential_expression(batch_correction=True)`", default=ALIKE)
def test_batch_correction(trained, kind):
    options = {"groupby": "labels", "group1": "a", "batch_correction": True, "silent": True}
    if kind == "default":
        with pytest.raises(ValueError, match="condition_on_batch=True"):
            trained.differential_expression(**options)
        return
    assert len(trained.differential_expression(**options)) == 20
    batches = {"batchid1": ["batch_0"], "batchid2": ["batch_1"]}
    assert len(trained.differential_expression(**options, **batches)) == 20


@pytest.mark.behavior("`get_aggregated_posterior` and `differential_abundance`")
@pytest.mark.filterwarnings("ignore:Using .* after custom Dataloader")
@pytest.mark.parametrize("dof", [3.0, None])
def test_differential_abundance(fit, adata, dof):
    model = fit(adata)
    density = model.get_aggregated_posterior(indices=range(20), dof=dof)
    assert density.mixture_distribution.probs.shape == (20,)
    model.differential_abundance(sample_key="plate", num_cells_posterior=20, dof=dof)
    assert np.isfinite(np.asarray(adata.obsm["da_log_probs"])).all()
    assert adata.obsm["da_log_probs"].shape == (60, 2)


@pytest.mark.behavior(
    "`get_aggregated_posterior(indices=[])` takes all cells",
    default=NO_CELLS,
    conditioned=NO_CELLS,
)
def test_aggregated_posterior_of_no_cells(trained):
    with pytest.raises(ValueError, match="no cells"):
        trained.get_aggregated_posterior(indices=[])


@pytest.mark.behavior("`setup_anndata` again: models keep the set-up they were built with")
def test_two_setups(build, adata):
    one = build(adata, {"batch_key": "batch"})
    two = build(adata, {"batch_key": "plate"})
    keys = [m.adata_manager.get_state_registry("batch").original_key for m in (one, two)]
    assert keys == ["batch", "plate"]
    one.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert np.isfinite(one.get_latent_representation()).all()


@pytest.mark.behavior("`deregister_manager`, `to_device`, `get_var_names`")
def test_managers(fit, adata, cells):
    model = fit(adata)
    other = cells(seed=3)
    BetaVAE.setup_anndata(other, batch_key="batch", labels_key="labels")
    model.get_latent_representation(other)
    assert model.get_anndata_manager(other) is not None
    model.deregister_manager(other)
    assert model.get_anndata_manager(other) is None
    assert BetaVAE._get_most_recent_anndata_manager(other) is None
    model.to_device("cpu")
    assert list(model.get_var_names()) == list(adata.var_names)
    assert BetaVAE._get_most_recent_anndata_manager(adata) is not None
