"""How far a run has come: the bar shows minibatches of all, and epochs are counted with fractions where a run ends within one."""

import warnings

import pytest

from scbetavae.model import BetaVAE, PosteriorCollapseWarning

SMALL = {"n_hidden": 16, "n_latent": 3, "anchor": None}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
PER_EPOCH = 27  # minibatches of four of the 108 training cells


@pytest.fixture
def model(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    return BetaVAE(counts_adata, objective="beta_vae", beta=1e4, **SMALL)


@pytest.mark.parametrize(
    ("length", "steps"),
    [({"max_epochs": 2}, 54), ({"max_steps": 9}, 9), ({"max_epochs": 1, "early_stopping": True}, 27)],
)
def test_the_bar_counts_minibatches_of_all(model, capsys, length, steps):
    model.train(batch_size=4, accelerator="cpu", **length)
    shown = "".join(capsys.readouterr())
    assert f"{steps}/{steps} [" in shown  # with a total there is a time left


@pytest.mark.parametrize(
    ("length", "epochs"),
    [
        ({"max_steps": 9}, 9 / PER_EPOCH),
        ({"max_steps": PER_EPOCH}, 1),
        ({"max_epochs": 3}, 3),
        ({"max_steps": 60}, 60 / 27),
    ],
)
def test_epochs_of_a_run_are_those_that_were_done(model, length, epochs):
    model.train(batch_size=4, **length, **QUIET)
    assert model.adata.uns["betavae"]["params"]["epochs"] == pytest.approx(epochs)
    assert len(model.adata.uns["betavae"]["history"]) > epochs or epochs == 3


@pytest.mark.parametrize(("steps", "judged"), [(100, False), (250, True)])
def test_collapse_is_judged_by_minibatches_not_by_rows_of_the_history(model, steps, judged):
    # Rows are a fraction of an epoch each, so that counting them as epochs would judge both runs.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PosteriorCollapseWarning)
        model.train(max_steps=steps, batch_size=4, **QUIET)
    assert any(w.category is PosteriorCollapseWarning for w in caught) == judged
    model.get_latent_summary()
    sentence = model.adata.uns["betavae"]["latent_summary_params"]["collapse"]
    assert ("too early to judge" in sentence) != judged
    assert (f"after {steps} steps" in sentence) != judged
