"""From codes to expression: what scvi-tools' own method gives on the same codes, and nothing left behind."""

import anndata
import numpy as np
import pytest
import scvi
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scbetavae.model import BetaVAE

COVARIATES = {"continuous_covariate_keys": ["age"], "categorical_covariate_keys": ["donor", "condition"]}


@pytest.fixture(scope="module")
def make_model(make_model):
    def make(adata, setup=None, epochs=2, **kwargs):
        setup = {"batch_key": "batch", "labels_key": "labels", **(setup or {})}
        return make_model(adata, setup, epochs=epochs, **kwargs)

    return make


def same_draws(model, **kwargs):
    """Codes that were drawn, and what scvi-tools' own method decodes of these very draws."""
    scvi.settings.seed = 0
    codes = model.get_latent_representation(give_mean=False, batch_size=50)
    scvi.settings.seed = 0
    expression = scvi.model.SCVI.get_normalized_expression(model, return_numpy=True, batch_size=50, **kwargs)
    return codes, expression


@pytest.fixture(scope="module")
def model(make_model, _counts_adata):
    return make_model(_counts_adata.copy())


@pytest.fixture(scope="module")
def told_model(make_model, _counts_adata):
    return make_model(_counts_adata.copy(), COVARIATES, condition_on_batch=True)


@pytest.mark.parametrize(
    ("setup", "kwargs"),
    [
        ({}, {}),
        ({}, {"condition_on_batch": True}),
        ({}, {"condition_on_batch": True, "batch_representation": "embedding"}),
        (COVARIATES, {"condition_on_batch": True, "n_layers": 2}),
        (COVARIATES, {}),
        ({}, {"gene_likelihood": "zinb", "use_batch_norm": "both"}),
        ({}, {"gene_likelihood": "poisson"}),
        ({}, {"gene_likelihood": "normal"}),
        ({}, {"latent_distribution": "ln"}),
        ({}, {"dispersion": "gene-label"}),
        ({}, {"dispersion": "gene-cell", "use_observed_lib_size": False}),
        ({"size_factor_key": "size"}, {}),
    ],
)
def test_codes_decode_to_normalized_expression(make_model, counts_adata, setup, kwargs):
    counts_adata.obs["size"] = np.linspace(0.5, 2.0, counts_adata.n_obs)
    model = make_model(counts_adata, setup, epochs=1, **kwargs)
    codes, expected = same_draws(model)
    found = model.decode(codes, adata=counts_adata)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    if "size_factor_key" not in setup:
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)


def test_posterior_means_decode_to_normalized_expression_of_a_posterior_without_spread(make_model, counts_adata):
    model = make_model(counts_adata)
    means = model.get_latent_representation()
    model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = means, np.full_like(means, 1e-20)
    model.minify_adata()
    expected = scvi.model.SCVI.get_normalized_expression(model, return_numpy=True)
    np.testing.assert_allclose(model.decode(means), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["batch_1", "batch_2"])
def test_batch_is_that_of_transform_batch(told_model, name):
    codes, expected = same_draws(told_model, transform_batch=name)
    found = told_model.decode(codes, batch=name, adata=told_model.adata)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, told_model.decode(codes, adata=told_model.adata), rtol=1e-3)


def test_values_by_name_are_those_of_the_cells(told_model):
    codes = told_model.get_latent_representation()
    obs = told_model.adata.obs
    by_cells = told_model.decode(codes, indices=np.arange(len(codes)))
    by_name = told_model.decode(
        codes, batch=obs["batch"], covariates={name: obs[name].to_numpy() for name in ("age", "donor", "condition")}
    )
    np.testing.assert_array_equal(by_cells, by_name)
    older = told_model.decode(codes, adata=told_model.adata, covariates={"age": 1000.0})
    assert not np.allclose(older, by_cells, rtol=1e-3)
    some = np.arange(len(codes))[::-2]
    other = told_model.adata[some].copy()
    np.testing.assert_array_equal(by_cells[some], told_model.decode(codes[some], indices=some))
    np.testing.assert_allclose(by_cells[some], told_model.decode(codes[some], adata=other), rtol=1e-5)


def test_library_sizes_scale_rows(model):
    codes = model.get_latent_representation()
    shares = model.decode(codes)
    np.testing.assert_allclose(model.decode(codes, library_size=1e4), shares * 1e4, rtol=1e-6)
    totals = np.asarray(model.adata.X.sum(axis=1)).ravel()
    np.testing.assert_allclose(model.decode(codes, library_size=totals), shares * totals[:, None], rtol=1e-6)
    np.testing.assert_allclose(model.decode(codes, library_size=totals).sum(axis=1), totals, rtol=1e-5)


def test_genes_come_in_the_order_named(model):
    codes = model.get_latent_representation()
    names = model.adata.var_names[[7, 2, 30]].tolist()
    np.testing.assert_array_equal(model.decode(codes, gene_list=names), model.decode(codes)[:, [7, 2, 30]])
    np.testing.assert_array_equal(model.decode(codes, gene_list=names[0]), model.decode(codes)[:, [7]])


@settings(max_examples=20, deadline=None, database=None)
@given(n_rows=st.integers(0, 40), batch_size=st.integers(1, 50), scale=st.floats(0.1, 50.0))
def test_rows_are_independent_of_their_neighbors(model, n_rows, batch_size, scale):
    codes = scale * np.random.default_rng(n_rows).normal(size=(n_rows, 4))
    found = model.decode(codes, batch_size=batch_size)
    assert found.shape == (n_rows, model.adata.n_vars)
    assert (found >= 0).all()
    for row, code in zip(found, codes, strict=True):
        np.testing.assert_allclose(row, model.decode(code[None])[0], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_left_behind(model, training):
    codes = model.get_latent_representation()
    before = codes.copy()
    model.module.train(training)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global one
    found = model.decode(codes, library_size=7.0)
    assert model.module.training is training
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    np.testing.assert_array_equal(codes, before)
    np.testing.assert_array_equal(model.decode(codes, library_size=7.0), found)


def test_a_loaded_model_and_a_query_model_decode_the_same(model, tmp_path):
    codes = model.get_latent_representation()
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", adata=model.adata)
    np.testing.assert_array_equal(loaded.decode(codes), model.decode(codes))
    query = anndata.AnnData(model.adata.X[:90].copy(), obs=model.adata.obs[:90].copy(), var=model.adata.var.copy())
    query.obs["batch"] = "batch_3"
    query_model = BetaVAE.load_query_data(query, model)
    np.testing.assert_array_equal(query_model.decode(codes), model.decode(codes))


def test_a_model_of_one_batch_needs_no_batch(make_model, counts_adata):
    counts_adata.obs["batch"] = "only"
    model = make_model(counts_adata, condition_on_batch=True)
    codes = model.get_latent_representation()
    np.testing.assert_array_equal(model.decode(codes), model.decode(codes, batch="only"))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"z": np.zeros((3, 5))}, ValueError, r"shape \(n_cells, 4\)"),
        ({"z": np.zeros(4)}, ValueError, r"z\[None\]"),
        ({"z": np.full((2, 4), "a")}, ValueError, "needs numbers"),
        ({"z": np.array([[0.0, 0, 0, 0], [0, np.nan, 0, 0]])}, ValueError, "the first 1"),
        ({"library_size": "latent"}, ValueError, "get_latent_library_size"),
        ({"library_size": [1.0, 2.0]}, ValueError, "one of each of the 3 rows"),
        ({"library_size": 0}, ValueError, "not positive"),
        ({"library_size": np.nan}, ValueError, "library_size holds NaN"),
        ({"gene_list": ["gen_1"]}, KeyError, "Did you mean 'gene_1'"),
        ({"gene_list": []}, ValueError, "gene_list is empty"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"batch": "batch_1"}, ValueError, "condition_on_batch=False"),
        ({"covariates": {"age": 3}}, KeyError, "It is conditioned on no covariates"),
        ({"indices": [0, 1]}, ValueError, "z has 3 rows"),
    ],
)
def test_mistakes(model, kwargs, error, message):
    with pytest.raises(error, match=message):
        model.decode(**{"z": np.zeros((3, 4)), **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, ValueError, "batch='batch_1'"),
        ({"batch": "batch1"}, ValueError, "Did you mean 'batch_1'"),
        ({"batch": ["batch_1"]}, ValueError, "batch has shape"),
        ({"batch": "batch_1"}, ValueError, r"covariates=\{'donor'"),
        ({"batch": "batch_1", "covariates": {"donr": "x"}}, KeyError, "Did you mean 'donor'"),
        ({"indices": [0, 1, 2], "covariates": {"donor": "donor_9"}}, ValueError, "donor='donor_9'"),
        ({"indices": [0, 1, 2], "covariates": {"age": "old"}}, TypeError, "age does not hold numbers"),
        ({"indices": [0, 1, 2], "covariates": {"age": np.inf}}, ValueError, "age holds NaN or infinite"),
    ],
)
def test_mistakes_about_what_the_decoder_is_told(told_model, kwargs, error, message):
    with pytest.raises(error, match=message):
        told_model.decode(np.zeros((3, 4)), **kwargs)


def test_an_untrained_model_says_so(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(RuntimeError, match="train"):
        BetaVAE(counts_adata, n_latent=4).decode(np.zeros((1, 4)))
