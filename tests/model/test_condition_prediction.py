"""Prediction from a model: its divergences and its counts are used, and what predicted is stored."""

import numpy as np
import pandas as pd
import pytest

import scbetavae
from scbetavae.model import BetaVAE

QUICK = {"n_permutations": 10, "n_bootstrap": 10}


@pytest.fixture
def model(make_model, counts_adata):
    counts_adata.X = np.log1p(counts_adata.X)
    return make_model(counts_adata, {"layer": "counts"}, epochs=3)


def test_equals_the_function_on_its_means_divergences_and_counts(model, counts_adata):
    frame = model.predict_condition("condition", donor_key="donor", seed=1, **QUICK)
    np.testing.assert_allclose(counts_adata.obsm["X_betavae"], model.get_latent_representation(), atol=1e-6)
    expected = scbetavae.tl.predict_condition(
        counts_adata, "condition", donor_key="donor", layer="counts", seed=1, key_added="again", **QUICK
    )
    pd.testing.assert_frame_equal(frame, expected)
    stored = counts_adata.uns["betavae"]
    pd.testing.assert_frame_equal(stored["condition_prediction"], frame)
    assert stored["condition_prediction_params"]["technical_covariates"] == "log library size"
    assert "history" in stored
    assert "log library size" not in counts_adata.obs


def test_a_dimension_below_the_least_divergence_takes_no_part(model, counts_adata, monkeypatch):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(counts_adata.n_obs, 4)).astype(np.float32)
    means[:, 2] = 0.1 * (counts_adata.obs["condition"] == "treated")
    variances = np.full_like(means, 0.5)
    variances[:, 2] = 1.0
    monkeypatch.setattr(model, "get_latent_representation", lambda *_args, **_kwargs: (means, variances))
    frame = model.predict_condition("condition", **QUICK)
    assert frame["active"].tolist() == [True, True, False, True, True, True]
    assert frame["accuracy"][4] < 0.5


def test_other_cells_and_names(model, counts_adata):
    other = counts_adata[:60].copy()
    before = set(counts_adata.uns["betavae"])
    frame = model.predict_condition("condition", adata=other, obsm_key="X_mine", key_added="mine", **QUICK)
    assert frame["n_cells"].eq(60).all()
    assert other.obsm["X_mine"].shape == (60, 4)
    assert "mine_params" in other.uns["betavae"]
    assert set(counts_adata.uns["betavae"]) == before


@pytest.mark.parametrize(
    ("covariate", "arguments", "error", "word"),
    [
        ("conditon", {}, KeyError, "Did you mean 'condition'"),
        ("condition", {"donor_key": "doner"}, KeyError, "'donor'"),
        ("condition", {"technical_covariates": "donor"}, TypeError, "numbers"),
        ("condition", {"n_permutations": -1}, ValueError, "n_permutations"),
        ("one", {}, ValueError, "one class"),
        ("condition", {"key_added": "a/b"}, ValueError, "key_added"),
    ],
)
def test_mistakes_leave_no_trace(model, counts_adata, covariate, arguments, error, word):
    counts_adata.obs["one"] = "x"
    before = set(counts_adata.uns["betavae"])
    with pytest.raises(error, match=word):
        model.predict_condition(covariate, **arguments)
    assert "X_betavae" not in counts_adata.obsm
    assert set(counts_adata.uns["betavae"]) == before


def test_untrained(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(RuntimeError, match="train"):
        BetaVAE(counts_adata, n_latent=4).predict_condition("condition")
