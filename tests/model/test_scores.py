"""Scores of a model: what it knows of its posterior is used, and what was scored is stored."""

from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

import scbetavae
from scbetavae.model import BetaVAE

QUICK = {"n_permutations": 10, "n_bootstrap": 10}
TRAIN = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def make_model(make_model):
    return partial(make_model, setup={"batch_key": "batch"})


@pytest.fixture
def model(make_model, counts_adata):
    return make_model(counts_adata)


def kl_of(model):
    means, variances = model.get_latent_representation(return_dist=True)
    return (0.5 * (means**2 + variances - 1 - np.log(variances))).mean(axis=0)


def test_equals_the_function_on_its_means_and_divergences(model, counts_adata):
    choice = {"donor_key": "donor", "confounder": "batch", "seed": 1, **QUICK}
    frame = model.score_disentanglement(["labels", "age"], **choice)
    np.testing.assert_allclose(counts_adata.obsm["X_betavae"], model.get_latent_representation(), atol=1e-6)
    np.testing.assert_allclose(counts_adata.uns["betavae"]["latent"]["kl"], kl_of(model), rtol=1e-4)
    expected = scbetavae.tl.score_disentanglement(counts_adata, ["labels", "age"], key_added="again", **choice)
    pd.testing.assert_frame_equal(frame, expected)
    stored = counts_adata.uns["betavae"]
    pd.testing.assert_frame_equal(stored["disentanglement_dimensions"], stored["again_dimensions"])
    assert "history" in stored
    assert frame["level"].tolist()[-2:] == ["means", "samples"]


def test_a_dimension_below_the_least_divergence_takes_no_part(model, counts_adata, monkeypatch):
    """Means that tell the label perfectly, of a posterior that hardly leaves the prior."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(counts_adata.n_obs, 4)).astype(np.float32)
    means[:, 2] = 0.1 * (counts_adata.obs["labels"].cat.codes - 1)
    variances = np.full_like(means, 0.5)
    variances[:, 2] = 1.0
    monkeypatch.setattr(model, "get_latent_representation", lambda *_args, **_kwargs: (means, variances))
    assert kl_of(model)[2] < 0.01
    frame = model.score_disentanglement("labels", metrics="mig", **QUICK)
    assert frame["value"].iloc[0] < 0.2
    counts_adata.obsm["X_other"] = means
    by_spread = scbetavae.tl.score_disentanglement(counts_adata, "labels", obsm_key="X_other", metrics="mig", **QUICK)
    assert by_spread["value"].iloc[0] > 0.8
    model.score_disentanglement("labels", metrics="mig", **QUICK)
    table = counts_adata.uns["betavae"]["disentanglement_dimensions"]
    assert table.groupby("dimension")["active"].first().tolist() == [True, True, False, True]


def test_other_cells(model, counts_adata):
    other = counts_adata[:60].copy()
    before = set(counts_adata.uns["betavae"])
    frame = model.score_disentanglement("labels", adata=other, metrics="mig", **QUICK)
    assert frame["n_cells"].iloc[-1] == 60
    assert other.obsm["X_betavae"].shape == (60, 4)
    assert "X_betavae" not in counts_adata.obsm
    assert set(counts_adata.uns["betavae"]) == before


def test_names_of_the_users_choice(model, counts_adata):
    model.score_disentanglement("labels", metrics="mig", obsm_key="X_mine", key_added="mine", **QUICK)
    assert "X_mine" in counts_adata.obsm
    assert "X_betavae" not in counts_adata.obsm
    assert counts_adata.uns["betavae"]["mine_params"]["obsm_key"] == "X_mine"


def test_logistic_normal_is_scored_by_its_simplex(make_model, counts_adata):
    model = make_model(counts_adata, latent_distribution="ln")
    frame = model.score_disentanglement(["labels"], **QUICK)
    assert "gaussian_total_correlation" not in set(frame["metric"])
    np.testing.assert_allclose(counts_adata.obsm["X_betavae"].sum(axis=1), 1.0, atol=1e-4)


def test_same_seed_same_scores(model):
    frames = [model.score_disentanglement(["labels", "batch"], seed=seed, **QUICK) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert not frames[0].equals(frames[2])


@pytest.mark.parametrize(
    ("covariates", "arguments", "error", "word"),
    [
        ("lables", {}, KeyError, "Did you mean 'labels'"),
        ([], {}, ValueError, "covariates is empty"),
        ("labels", {"donor_key": "doner"}, KeyError, "'donor'"),
        ("labels", {"metrics": "migg"}, ValueError, "'mig'"),
        ("labels", {"n_bootstrap": -1}, ValueError, "n_bootstrap"),
        ("labels", {"key_added": "a/b"}, ValueError, "key_added"),
    ],
)
def test_mistakes_leave_no_trace(model, counts_adata, covariates, arguments, error, word):
    before = set(counts_adata.uns["betavae"])
    with pytest.raises(error, match=word):
        model.score_disentanglement(covariates, **arguments)
    assert "X_betavae" not in counts_adata.obsm
    assert set(counts_adata.uns["betavae"]) == before


def test_a_view_is_refused(model, counts_adata):
    with pytest.raises(ValueError, match="view"):
        model.score_disentanglement("labels", adata=counts_adata[:50])


def test_untrained(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(RuntimeError, match="train"):
        BetaVAE(counts_adata, n_latent=4).score_disentanglement("labels")


def test_scores_of_a_loaded_model_survive_a_file(model, counts_adata, tmp_path):
    frame = model.score_disentanglement(["labels", "age"], **QUICK)
    model.save(str(tmp_path / "model"))
    counts_adata.write_h5ad(tmp_path / "cells.h5ad")
    again = anndata.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_allclose(again.uns["betavae"]["disentanglement"]["value"], frame["value"])
    loaded = BetaVAE.load(str(tmp_path / "model"), again, accelerator="cpu")
    with torch.random.fork_rng():
        rescored = loaded.score_disentanglement(["labels", "age"], **QUICK)
    np.testing.assert_allclose(rescored["value"], frame["value"], atol=1e-4)
