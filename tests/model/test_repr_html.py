"""What a model shows in a notebook: before and after training, escaped, and after loading."""

import pytest

import scbetavae
from scbetavae.model import BetaVAE

MARKUP = "<script>alert(1)</script>"


@pytest.fixture
def model():
    adata = scbetavae.datasets.simulate_counts(100, 30, n_cell_types=2, seed=0)
    adata.obs[MARKUP] = adata.obs["batch"]
    BetaVAE.setup_anndata(adata, batch_key=MARKUP)
    return BetaVAE(adata, n_latent=3)


def test_before_and_after_training(model, tmp_path):
    before = model._repr_html_()
    assert "not trained" in before
    assert "model.train()" in before
    model.train(max_steps=20, enable_progress_bar=False, accelerator="cpu")
    after = model._repr_html_()
    for text in (
        "100 cells x 30 genes",
        "beta_tcvae, beta 2",
        "20 steps",
        "negative log-likelihood",
        "of 3 dimensions active",
    ):
        assert text in after
    assert "model.describe_dimensions()" in after
    assert MARKUP not in before + after
    assert "&lt;script&gt;" in after
    model.save(tmp_path / "model")
    assert "100 cells" in BetaVAE.load(tmp_path / "model", adata=model.adata)._repr_html_()
