"""A batch, a label or a condition of one or two cells, through the methods of a model."""

import warnings

import numpy as np
import pytest

import scbetavae
from scbetavae import pl
from scbetavae.model import BetaVAE

QUICK = {"n_permutations": 10, "n_bootstrap": 5}


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("scbetavae.metrics.integration._classifiers.N_TREES", 5)


@pytest.fixture(scope="module", params=[1, 2])
def trained(request):
    """A model whose batch ``b1`` and label ``rare`` have so many cells."""
    adata = scbetavae.datasets.simulate_counts(150, 80, n_batches=2, seed=0)
    small = np.arange(150) < request.param
    adata.obs["b"] = np.where(small, "b1", "b0")
    adata.obs["ct"] = np.where(small, "rare", adata.obs["cell_type"].astype(str))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fewer than 3 cells")  # scvi-tools' own
        BetaVAE.setup_anndata(adata, batch_key="b", labels_key="ct")
    model = BetaVAE(adata, n_latent=4, n_hidden=16)
    return model.train(max_epochs=20, enable_progress_bar=False, accelerator="cpu"), request.param


def cells(n):
    return f"{n} cell" + ("s" if n > 1 else "")


def test_batch_is_not_possible(trained):
    model, n = trained
    stored = model.adata.uns["betavae"]
    told = f"not possible: batch 'b1' has {cells(n)}"
    frame = model.find_batch_dimensions(n_permutations=10)
    assert not frame["chosen"].any()
    stored = model.adata.uns["betavae"]
    assert stored["batch_dimensions_params"]["status"] == "not possible"
    assert told in stored["batch_dimensions_params"]["summary"]
    pl.batch_dimensions(model.adata)
    with pytest.warns(UserWarning, match=told):
        zeroed = model.zero_batch_dimensions(n_bootstrap=5)
    np.testing.assert_array_equal(zeroed, model.adata.obsm["X_betavae"])
    stored = model.adata.uns["betavae"]
    assert stored["batch_removal_params"]["status"] == "nothing zeroed"
    assert stored["batch_removal"].loc[stored["batch_removal"]["role"] == "batch", "flag"].str.startswith(told).all()
    pl.batch_removal(model.adata)


def test_a_registered_label_of_few_cells_is_left_out_and_named(trained):
    model, n = trained
    model.find_batch_dimensions("batch", n_permutations=10)
    assert f"class 'rare' of 'ct' has {cells(n)}" in model.adata.uns["betavae"]["batch_dimensions_params"]["summary"]
    assert model.adata.uns["betavae"]["batch_dimensions_params"]["status"] in ("found", "none")
    prediction = model.predict_condition("ct", **QUICK)
    assert prediction.loc[prediction["active"], "accuracy"].notna().all()
    assert f"left out: class 'rare' has {cells(n)}" in prediction["flag"].iloc[4]


def test_scores_and_prediction_of_the_batch(trained):
    model, n = trained
    told = f"not possible: class 'b1' has {cells(n)}"
    scores = model.score_disentanglement(["b", "ct"], **QUICK)
    assert scores.loc[scores["covariate"] == "b", "value"].isna().all()
    assert scores.loc[scores["covariate"] == "b", "flag"].str.startswith(told).all()
    assert scores.loc[(scores["covariate"] == "ct") & (scores["metric"] == "mig"), "value"].notna().all()
    prediction = model.predict_condition("b", **QUICK)
    assert prediction["accuracy"].isna().all()
    assert prediction["flag"].str.startswith(told).all()
    assert pl.condition_prediction(model.adata).texts


@pytest.mark.parametrize("groupby", [None, "cell_type"])
@pytest.mark.parametrize("method", ["group_shift", "dimension"])
@pytest.mark.parametrize("ends", [("b0", "b1"), ("b1", "b0")])
def test_a_counterfactual_is_made_and_not_judged(trained, groupby, method, ends):
    model, n = trained
    predicted = model.counterfactual("b", *ends, groupby=groupby, method=method)
    assert np.isfinite(predicted.X.data).all()
    table = predicted.uns["betavae"]["counterfactual"]
    assert table[["relative_error", "r2"]].isna().all(axis=None)
    judged = table["n_target_cells"] > 0
    assert (table.loc[judged, "flag"].str.startswith(f"not possible: category 'b1' has {n} cell")).all()
    assert (table.loc[~judged, "flag"] == "no target cells").all()
    assert f"category 'b1' has {n} cell" in predicted.uns["betavae"]["counterfactual_params"]["summary"]
    pl.counterfactual(predicted)


@pytest.mark.filterwarnings("ignore:.*fewer than 3 cells")
def test_a_counterfactual_of_enough_cells_is_judged(trained):
    model, _ = trained
    adata = model.adata.copy()
    for n, known in ((3, False), (4, True)):
        adata.obs["c"] = np.where(np.arange(150) < n, "c1", "c0")
        predicted = model.counterfactual("c", "c0", "c1", adata=adata)
        table, params = (predicted.uns["betavae"][f"counterfactual{end}"] for end in ("", "_params"))
        assert table["relative_error"].notna().all() == known
        assert (table["flag"] == "").all() == known
        assert params["status"] == ("predicted" if known else "not possible")


def test_without_labels_clusters_stand_in(trained):
    model, n = trained
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.zero_batch_dimensions([1], conserve=[], n_bootstrap=5)
    params = model.adata.uns["betavae"]["batch_removal_params"]
    assert f"could not be classified: not possible: batch 'b1' has {cells(n)}" in params["summary"]
    assert params["status"] in ("batch unknown", "biology lost")
    assert any(axes.get_xlabel().startswith("accuracy") for axes in pl.batch_removal(model.adata).axes)
