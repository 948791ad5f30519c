import numpy as np
import pytest
import scvi

from scbetavae.model import BetaVAE


@pytest.fixture
def model(make_model, counts_adata):
    return make_model(counts_adata, {"batch_key": "batch", "continuous_covariate_keys": ["age"]}, epochs=2)


def their_method(model, name, **kwargs):
    """What scvi-tools' own method gives, through scvi-tools' own loader."""
    loader = scvi.model.base.BaseModelClass._make_data_loader(model, model.adata, kwargs.pop("indices", None))
    return getattr(scvi.model.SCVI, name)(model, dataloader=loader, **kwargs)


def test_means_and_variances_are_those_of_scvi(model):
    np.testing.assert_allclose(
        model.get_latent_representation(), their_method(model, "get_latent_representation"), atol=1e-6
    )
    for found, expected in zip(
        model.get_latent_representation(return_dist=True),
        their_method(model, "get_latent_representation", return_dist=True),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("indices", [[3, 1, 4], np.array([7, 7]), np.arange(120) % 2 == 0])
def test_cells_may_be_chosen(model, indices):
    np.testing.assert_allclose(
        model.get_latent_representation(indices=indices), model.get_latent_representation()[indices], atol=1e-6
    )


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_size_of_the_minibatches_changes_no_mean(model, batch_size):
    np.testing.assert_allclose(
        model.get_latent_representation(batch_size=batch_size), model.get_latent_representation(), atol=1e-6
    )


def test_draws_differ_from_means(model):
    scvi.settings.seed = 0
    draws = model.get_latent_representation(give_mean=False)
    assert not np.allclose(draws, model.get_latent_representation())
    scvi.settings.seed = 0
    np.testing.assert_array_equal(draws, their_method(model, "get_latent_representation", give_mean=False))


def test_an_untrained_model_says_so(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(RuntimeError, match="train"):
        BetaVAE(counts_adata).get_latent_representation()


def test_elbo_is_that_of_scvi_s_loader(model):
    loader = scvi.model.base.BaseModelClass._make_data_loader(model, model.adata)
    scvi.settings.seed = 0
    expected = float(scvi.model.SCVI.get_elbo(model, dataloader=loader))
    scvi.settings.seed = 0
    assert float(model.get_elbo()) == pytest.approx(expected, rel=1e-5)
