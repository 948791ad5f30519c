"""What tests of the model share: a small model, trained for a few epochs."""

import pytest

from scbetavae.model import BetaVAE


@pytest.fixture(scope="session")
def make_model():
    """``make_model(adata, setup, epochs=5, train={...}, **kwargs)``: set up, build and train; 4 dimensions, 16 hidden units."""

    def make(adata, setup=None, *, epochs=5, train=None, **kwargs):
        BetaVAE.setup_anndata(adata, **(setup or {}))
        model = BetaVAE(adata, **{"n_latent": 4, "n_hidden": 16} | kwargs)
        return model.train(max_epochs=epochs, enable_progress_bar=False, accelerator="cpu", **(train or {}))

    return make
