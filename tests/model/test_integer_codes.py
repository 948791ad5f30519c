"""Integer codes of labels, batch and condition in a model are the classes that they name."""

import warnings

import numpy as np
import pandas as pd
import pytest

import scbetavae
from scbetavae.model import BetaVAE

QUICK = {"n_permutations": 10, "n_bootstrap": 5}


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("scbetavae.metrics.integration._classifiers.N_TREES", 5)


@pytest.fixture(scope="module")
def models():
    """The same cells, set up by texts and by the codes of the same classes."""
    import scvi

    cells = scbetavae.datasets.simulate_counts(150, 80, n_batches=2, seed=0)
    for name in ("cell_type", "batch", "condition"):
        cells.obs[name] = pd.factorize(cells.obs[name])[0]
    made = []
    for kind in (str, float, int):
        adata = cells.copy()
        for name in ("cell_type", "batch", "condition"):
            adata.obs[name] = adata.obs[name].astype(kind)
        scvi.settings.seed = 0
        BetaVAE.setup_anndata(
            adata, batch_key="batch", labels_key="cell_type", categorical_covariate_keys=["condition"]
        )
        model = BetaVAE(adata, n_latent=4, n_hidden=16)
        made.append(model.train(max_epochs=15, enable_progress_bar=False, accelerator="cpu"))
    return made


def equal(results):
    texts, *others = results
    for other in others:
        pd.testing.assert_frame_equal(other, texts, check_exact=True)


def test_registered_columns_are_classes_in_every_method(models):
    equal([m.score_disentanglement(["cell_type", "batch", "condition"], **QUICK) for m in models])
    equal([m.predict_condition("condition", donor_key="cell_type", **QUICK) for m in models])
    equal([m.find_batch_dimensions(n_permutations=20) for m in models])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Zeroing|Nothing was zeroed")
        zeroed = [pd.DataFrame(m.zero_batch_dimensions([1], n_bootstrap=5)) for m in models]
        chosen = [pd.DataFrame(m.zero_batch_dimensions(n_bootstrap=5)) for m in models]
    equal(zeroed)
    equal(chosen)
    equal([m.adata.uns["betavae"]["batch_removal"] for m in models])
    assert {m.adata.uns["betavae"]["batch_dimensions_params"]["dimensions"] for m in models} == {
        models[0].adata.uns["betavae"]["batch_dimensions_params"]["dimensions"]
    }
    for model, kind in zip(models, (object, np.float64, np.int64), strict=True):
        assert kind is object or model.adata.obs["cell_type"].dtype == kind


def test_other_columns_warn_once_unless_they_are_named(models):
    model = models[-1]
    model.adata.obs["louvain"] = model.adata.obs["cell_type"].to_numpy()
    for ask in (
        lambda **more: model.score_disentanglement(["louvain", "cell_type"], metrics="sap", **QUICK, **more),
        lambda **more: model.predict_condition("louvain", **QUICK, **more),
        lambda **more: model.find_batch_dimensions(conserve=["cell_type", "louvain"], n_permutations=10, **more),
    ):
        with pytest.warns(UserWarning, match=r"\['louvain'\] hold 4 distinct integers") as record:
            ask()
        assert len(record) == 1
        ask(categorical="louvain")
    scores = model.score_disentanglement(["louvain", "cell_type"], categorical="louvain", metrics="sap", **QUICK)
    values = scores.set_index("covariate")["value"]
    assert values["louvain"] == values["cell_type"]


def test_a_counterfactual_goes_from_one_code_to_another(models):
    cells = scbetavae.datasets.simulate_counts(150, 80, seed=0)
    BetaVAE.setup_anndata(cells)
    model = BetaVAE(cells, n_latent=4, n_hidden=16).train(max_epochs=2, enable_progress_bar=False, accelerator="cpu")
    cells.obs["text"] = cells.obs["condition"].cat.codes.astype(str)
    cells.obs["kind"] = cells.obs["cell_type"].cat.codes.astype(str)
    expected = model.counterfactual("text", "0", "1", groupby="kind", exclude="2")
    for kind, source, target in ((int, 0, 1), (float, 0.0, 1), (np.uint8, "0", "1")):
        cells.obs["code"] = cells.obs["condition"].cat.codes.astype(kind)
        cells.obs["kind"] = cells.obs["cell_type"].cat.codes.astype(kind)
        predicted = model.counterfactual("code", source, target, groupby="kind", exclude=kind(2))
        pd.testing.assert_frame_equal(
            predicted.uns["betavae"]["counterfactual"], expected.uns["betavae"]["counterfactual"], check_exact=True
        )
        assert set(predicted.obs["counterfactual"]) == {"1"}
        assert predicted.uns["betavae"]["counterfactual_params"]["source"] == "0"


def test_a_sweep_scores_models_and_baselines_by_classes(tmp_path):
    tables = []
    for kind in (str, int):
        cells = scbetavae.datasets.simulate_counts(120, 40, seed=0)
        cells.obs["label"] = cells.obs["cell_type"].cat.codes.astype(kind)
        BetaVAE.setup_anndata(cells, labels_key="label")
        options = scbetavae.sweep.SweepOptions(
            model_kwargs={"n_latent": 3, "n_hidden": 16},
            train_kwargs={"max_epochs": 2, "accelerator": "cpu"},
            score_kwargs={"metrics": "sap", "n_permutations": 5, "n_bootstrap": 5},
            baselines="pca",
            progress=False,
        )
        folder = tmp_path / kind.__name__
        table = scbetavae.sweep.beta_sweep(cells, [1], covariates="label", seeds=[0], out_dir=folder, options=options)
        tables.append(table[table["metric"] == "sap"].reset_index(drop=True))
    assert tables[0]["run"].nunique() == 2
    pd.testing.assert_frame_equal(*tables, check_exact=True)
