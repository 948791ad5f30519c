"""How far a run has come: the bar shows how many minibatches are done, of how many."""

import pytest

from scbetavae.model import BetaVAE

SMALL = {"n_hidden": 16, "n_latent": 3, "anchor": None}


@pytest.fixture
def model(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    return BetaVAE(counts_adata, **SMALL)


@pytest.mark.parametrize(
    ("length", "steps"),
    [({"max_epochs": 2}, 54), ({"max_steps": 9}, 9), ({"max_epochs": 1, "early_stopping": True}, 27)],
)
def test_the_bar_counts_minibatches_of_all(model, capsys, length, steps):
    model.train(batch_size=4, accelerator="cpu", **length)
    shown = "".join(capsys.readouterr())
    assert f"{steps}/{steps} [" in shown  # with a total there is a time left
