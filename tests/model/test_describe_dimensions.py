"""Cards of a model: made from its traversal, named after the planted factors, and kept with the model."""

import numpy as np
import pandas as pd
import pytest
import scvi

import scbetavae
from scbetavae.model import BetaVAE

SETS = {"set": [f"gene_{i}" for i in range(10)]}


@pytest.fixture(scope="module")
def trained():
    scvi.settings.seed = 0
    adata = scbetavae.datasets.simulate_counts(600, 100, n_cell_types=3, seed=0)
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = BetaVAE(adata, n_latent=5)
    return model.train(max_steps=150, enable_progress_bar=False, accelerator="cpu")


@pytest.fixture
def model(trained):
    """The model without results."""
    trained.adata.uns["betavae"] = {k: v for k, v in trained.adata.uns["betavae"].items() if k in ("params", "history")}
    trained.adata.obsm.pop("X_betavae", None)
    trained.dimension_names_ = None
    return trained


def sets_of(model):
    return {"set": list(model.adata.var_names[:10]), "other": list(model.adata.var_names[10:20])}


def test_batch_is_named_and_everything_needed_is_made(model):
    cards = model.describe_dimensions(gene_sets=sets_of(model))
    assert any(name.startswith("batch") for name in cards["name"])
    assert cards["deviance_explained"].notna().all()
    assert {"latent", "latent_summary", "traversal", "gene_sets", "dimensions"} <= set(model.adata.uns["betavae"])
    latent = model.adata.uns["betavae"]["latent"]
    assert latent.set_index("dimension")["name"][cards["dimension"]].tolist() == cards["name"].tolist()
    assert set(cards["name"]) <= set(model.to_latent_adata().var_names)


def test_a_stored_traversal_stays(model):
    frame = model.traverse([0], n_steps=3)
    model.describe_dimensions(gene_sets=sets_of(model))
    pd.testing.assert_frame_equal(model.adata.uns["betavae"]["traversal"], frame)


def test_names_stay_with_a_saved_model_and_go_with_training(model, tmp_path):
    model.describe_dimensions(gene_sets=sets_of(model), names={1: "mine"})
    model.save(tmp_path / "model", overwrite=True)
    loaded = BetaVAE.load(tmp_path / "model", adata=model.adata.copy())
    del loaded.adata.uns["betavae"]
    assert loaded.describe_dimensions(gene_sets=sets_of(model))["name"].iloc[1] == "mine"
    loaded.train(max_steps=2, enable_progress_bar=False, accelerator="cpu")
    assert loaded.dimension_names_ is None


def test_deviance_shares_are_those_of_the_ablation(model):
    summary = model.get_latent_summary()
    share = summary["reconstruction_lost"] / summary["deviance_explained"]
    np.testing.assert_allclose(share, share.iloc[0])
    assert share.iloc[0] > 0


def test_nothing_is_written_when_it_fails(model, monkeypatch):
    before = dict(model.adata.uns["betavae"])

    def fail(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr(scbetavae.tl, "run_description", fail)
    with pytest.raises(RuntimeError):
        model.describe_dimensions(gene_sets=sets_of(model))
    assert model.adata.uns["betavae"].keys() == before.keys()
    assert "X_betavae" not in model.adata.obsm


def test_random_state_stays(model):
    np.random.seed(0)  # noqa: NPY002 - the global state is what is tested
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    model.describe_dimensions(gene_sets=sets_of(model))
    assert np.random.rand() == expected  # noqa: NPY002


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_collapsed_model_has_no_cards():
    adata = scbetavae.datasets.simulate_counts(100, 40, n_cell_types=2, seed=0)
    BetaVAE.setup_anndata(adata, batch_key="batch")
    model = BetaVAE(adata, n_latent=3, beta=1e4, anchor=None, objective="beta_vae")
    model.train(max_steps=60, enable_progress_bar=False, accelerator="cpu")
    cards = model.describe_dimensions(gene_sets=sets_of(model))
    assert cards.empty
    assert "dimensions" in adata.uns["betavae"]
