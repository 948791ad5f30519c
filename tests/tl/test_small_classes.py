"""A batch or a class of one or two cells: what cannot be compared is a status with the reason, and the rest goes on."""

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest

import scbetavae
from scbetavae import pl, tl

QUICK = {"n_permutations": 10, "n_bootstrap": 5}


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("scbetavae.metrics.integration._classifiers.N_TREES", 5)
    # Leiden is tested where it is called; it takes long to load.
    quick = lambda codes, _seed: np.where(codes[:, 2] > np.median(codes[:, 2]), "0", "1")  # noqa: E731
    monkeypatch.setattr("scbetavae.tl._batch_inputs._leiden", quick)


@pytest.fixture(scope="module")
def _cells():
    adata = scbetavae.datasets.simulate_counts(150, 80, n_batches=2, seed=0)
    embedding = np.random.default_rng(0).normal(size=(150, 4))
    embedding[:, 1] += 6.0 * (adata.obs["batch"] == "batch_1")
    embedding[:, 2] += 4.0 * adata.obs["cell_type"].cat.codes
    adata.obsm["X_betavae"] = embedding
    return adata


@pytest.fixture
def cells(_cells):
    return _cells.copy()


def lone(n):
    """``"b1"`` for the first n cells, otherwise ``"b0"``."""
    return np.where(np.arange(150) < n, "b1", "b0")


def params(adata, key):
    return adata.uns["betavae"][f"{key}_params"]


def reason(n, noun="batch", of=""):
    return f"not possible: {noun} 'b1'{of} has {n} cell{'s' if n > 1 else ''}"


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    ("method", "conserve"), [("stepwise", "cell_type"), ("dominant", "cell_type"), ("stepwise", None), ("dominant", [])]
)
def test_finding_says_why_it_is_not_possible(cells, n, method, conserve):
    cells.obs["b"] = lone(n)
    frame = tl.find_batch_dimensions(cells, "b", conserve=conserve, method=method, n_permutations=10)
    assert not frame["chosen"].any()
    assert frame["batch_given_conserved"].isna().all()
    assert params(cells, "batch_dimensions")["status"] == "not possible"
    assert reason(n) in params(cells, "batch_dimensions")["summary"]
    axes = pl.batch_dimensions(cells)
    assert f"batch 'b1' has {n} cell" in axes.texts[0].get_text().replace("\n", " ")
    assert "batch_dimensions_clusters" not in cells.obs


def test_as_few_cells_as_it_takes(cells):
    cells.obs["b"] = lone(4)
    tl.find_batch_dimensions(cells, "b", conserve="cell_type", n_permutations=10)
    assert params(cells, "batch_dimensions")["status"] in ("found", "none")
    assert not np.isnan(params(cells, "batch_dimensions")["batch_accuracy_before"])
    integration = tl.score_integration(cells, "b", "b")
    assert integration["value"].notna().all()
    assert set(integration["flag"]) == {""}
    assert tl.predict_condition(cells, "b", **QUICK)["accuracy"].notna().all()
    scores = tl.score_disentanglement(cells, "b", metrics=["mig", "sap"], **QUICK)
    assert scores["value"].notna().all()


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("conserve", ["cell_type", None])
def test_zeroing_says_why_nothing_was_zeroed(cells, n, conserve):
    cells.obs["b"] = lone(n)
    with pytest.warns(UserWarning, match="Nothing was zeroed, because that is not possible"):
        zeroed = tl.zero_batch_dimensions(cells, None, "b", conserve=conserve, n_bootstrap=5)
    np.testing.assert_array_equal(zeroed, cells.obsm["X_betavae"])
    assert params(cells, "batch_removal")["status"] == "nothing zeroed"
    assert reason(n) in params(cells, "batch_removal")["summary"]
    report = cells.uns["betavae"]["batch_removal"]
    of_batch = report["role"] == "batch"
    assert report.loc[of_batch, "before"].isna().all()
    assert report.loc[of_batch, "flag"].str.startswith(reason(n)).all()
    assert report.loc[~of_batch, "before"].notna().all()
    assert pl.batch_removal(cells).axes


def test_dimensions_that_are_named_are_zeroed_and_batch_is_not_measured(cells):
    cells.obs["b"] = lone(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        zeroed = tl.zero_batch_dimensions(
            cells, [3], "b", conserve="cell_type", to="reference", reference_batch="b1", n_bootstrap=5
        )
    assert np.ptp(zeroed[:, 3]) == 0
    assert zeroed[0, 3] == pytest.approx(cells.obsm["X_betavae"][:2, 3].mean())
    assert params(cells, "batch_removal")["status"] in ("batch unknown", "biology lost")
    assert f"could not be classified: {reason(2)}" in params(cells, "batch_removal")["summary"]


def test_a_report_in_which_nothing_could_be_measured_is_drawn_as_its_reason(cells):
    cells.obs["b"], cells.obs["c"] = lone(2), np.where(np.arange(150) > 148, "c1", "c0")
    with pytest.warns(UserWarning, match="not possible"):
        tl.zero_batch_dimensions(cells, None, "b", conserve="c", n_bootstrap=5)
    assert cells.uns["betavae"]["batch_removal"]["before"].isna().all()
    (axes,) = pl.batch_removal(cells).axes
    text = axes.texts[0].get_text().replace("\n", " ")
    assert "batch 'b1' has 2 cells" in text
    assert "class 'c1' has 1 cell" in text


@pytest.mark.parametrize("n", [1, 2])
def test_a_conserved_class_without_company_is_named(cells, n):
    cells.obs["b"] = lone(n)
    frame = tl.find_batch_dimensions(cells, "batch", conserve=["cell_type", "b"], n_permutations=10)
    assert not frame["chosen"].any()
    assert reason(n, "class", " of 'b'") in params(cells, "batch_dimensions")["summary"]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("donor_key", [None, "donor"])
def test_scores_and_predictions_are_missing_with_a_flag(cells, n, donor_key):
    cells.obs["b"] = lone(n)
    cells.obs["donor"] = np.where(np.arange(150) == 149, "one cell", np.char.add("d", (np.arange(150) % 5).astype(str)))
    told = reason(n, "class")
    scores = tl.score_disentanglement(cells, ["b", "cell_type"], donor_key=donor_key, **QUICK)
    ours = scores[scores["covariate"] == "b"]
    assert ours["value"].isna().all()
    assert ours["flag"].str.startswith(told).all()
    assert scores.loc[(scores["covariate"] == "cell_type") & (scores["metric"] == "sap"), "value"].item() > 0.3
    compared = tl.compare_embeddings(
        cells, ["b", "cell_type"], "X_betavae", donor_key=donor_key, metrics="mig", **QUICK
    )
    assert compared.loc[compared["covariate"] == "b", "flag"].str.startswith(told).all()
    prediction = tl.predict_condition(cells, "b", donor_key=donor_key, **QUICK)
    assert prediction["accuracy"].isna().all()
    assert prediction["flag"].str.startswith(told).all()
    assert list(prediction) == list(tl.predict_condition(cells, "cell_type", key_added="other", **QUICK))
    assert params(cells, "condition_prediction")["status"] == "not possible"
    assert params(cells, "other")["status"] == "predicted"
    assert f"has {n} cell" in pl.condition_prediction(cells).texts[0].get_text().replace("\n", " ")
    integration = tl.score_integration(cells, "b", "b")
    assert integration["value"].isna().all()
    assert integration["flag"].str.startswith(("not possible: class", "not possible: batch")).all()
    for picture in (pl.disentanglement, pl.dimension_covariate):
        assert picture(cells) is not None


@pytest.mark.parametrize("n", [1, 2])
def test_one_small_class_among_large_ones_is_left_out_and_named(cells, n):
    small = np.arange(150) < n
    cells.obs["plate"] = np.where(small, "b1", cells.obs["batch"].astype(str))
    cells.obs["kind"] = np.where(small, "rare", cells.obs["cell_type"].astype(str))
    without = cells[~small].copy()
    frame = tl.find_batch_dimensions(cells, "plate", conserve="kind", n_permutations=10)
    assert frame.loc[frame["chosen"], "dimension"].tolist() == [1]
    assert f"Left out: batch 'b1' has {n} cell" in params(cells, "batch_dimensions")["summary"]
    assert params(cells, "batch_dimensions")["n_cells"] == 150 - n
    pd.testing.assert_frame_equal(
        tl.find_batch_dimensions(cells, "plate", conserve="kind", n_permutations=10),
        tl.find_batch_dimensions(without, "plate", conserve="kind", n_permutations=10),
    )
    zeroed = tl.zero_batch_dimensions(cells, None, "plate", conserve="kind", n_bootstrap=5)
    assert np.ptp(zeroed[:, 1]) == 0
    report = cells.uns["betavae"]["batch_removal"].set_index(["covariate", "classifier"])
    assert report.loc[("plate", "knn"), "before"] > 0.8
    assert report.loc[("plate", "knn"), "flag"].startswith(f"left out: batch 'b1' has {n} cell")
    integration = tl.score_integration(cells, "kind", "plate")
    expected = tl.score_integration(without, "kind", "plate")
    assert integration["flag"].str.startswith(("left out: class 'rare'", "left out: batch 'b1'")).all()
    assert integration["n_classes"].tolist() == expected["n_classes"].tolist()
    prediction = tl.predict_condition(cells, "kind", technical_covariates=[], **QUICK)
    expected = tl.predict_condition(without, "kind", technical_covariates=[], **QUICK)
    pd.testing.assert_frame_equal(prediction.drop(columns="flag"), expected.drop(columns="flag"))
    assert prediction["flag"].str.contains(f"left out: class 'rare' has {n} cell").all()
    scores = tl.score_disentanglement(cells, "kind", metrics="sap", **QUICK)
    assert scores["value"].notna().all()
    assert f"class of {'one cell' if n == 1 else 'two cells'}: rare" in scores["flag"].iloc[0]


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_a_status_survives_a_file(cells, tmp_path, kind):
    cells.obs["b"] = lone(1)
    tl.predict_condition(cells, "b", **QUICK)
    with pytest.warns(UserWarning, match="not possible"):
        tl.zero_batch_dimensions(cells, None, "b", conserve="cell_type", n_bootstrap=5)
    path = tmp_path / f"cells.{kind}"
    getattr(cells, f"write_{kind}")(path)
    back = getattr(anndata, f"read_{kind}")(path)
    for name, entry in cells.uns["betavae"].items():
        if isinstance(entry, pd.DataFrame):
            pd.testing.assert_frame_equal(back.uns["betavae"][name], entry, check_dtype=False, check_index_type=False)
    assert (
        params(back, "batch_dimensions")["status"] == params(back, "condition_prediction")["status"] == "not possible"
    )
    assert pl.batch_dimensions(back).texts
