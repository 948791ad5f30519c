"""Zeroing of any embedding: the constant is the right one, the report says what went, and mistakes leave no trace."""

import anndata
import numpy as np
import pandas as pd
import pytest

import scbetavae
from scbetavae._core import results
from scbetavae.tl import _batch_text

QUICK = {"n_bootstrap": 10}
SETTINGS = {"batch_key": "batch", "conserve": "kind", "obsm_key": "X_ica"}


def make_cells(n=240, confounded=False):
    """Dimension 0 is batch, 1 is kind, 2 is age, 3 is noise."""
    rng = np.random.default_rng(0)
    batch = np.where(np.arange(n) % 2, "b/1", "b/2")
    kind = np.where(np.arange(n) // 2 % 2, "T cell", "B cell")
    if confounded:
        kind = np.where(rng.random(n) < 0.1, kind, np.where(batch == "b/1", "T cell", "B cell"))
    age = rng.uniform(20, 80, n)
    obs = pd.DataFrame({"batch": batch, "kind": kind, "age": age, "donor": [f"d{i % 6}" for i in range(n)]})
    obs.index = [f"cell_{i}" for i in range(n)]
    codes = rng.normal(size=(n, 4)) * [0.2, 0.2, 0.1, 1.0]
    codes += np.stack([3 * (batch == "b/1"), 3 * (kind == "T cell"), (age - 50) / 15, np.zeros(n)], axis=1)
    return anndata.AnnData(obs=obs, obsm={"X_ica": codes.astype(np.float32)})


def write_latent(cells):
    """The table that a model writes for its latent representation."""
    table = {"dimension": range(4), "kl": 1.0, "sd": 1.0, "variance": 0.1, "active": True, "role": "free"}
    table = pd.DataFrame(table).assign(name=[f"dim_{d}" for d in range(4)])
    results.store(cells, "latent", {"": table}, {"obsm_key": "X_ica"}, {"X_ica": cells.obsm["X_ica"]})


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("scbetavae.metrics.integration._classifiers.N_TREES", 10)


@pytest.fixture
def cells():
    return make_cells()


def report_of(adata, key="batch_removal"):
    return adata.uns["betavae"][key].set_index(["covariate", "classifier"])


def status(adata):
    return adata.uns["betavae"]["batch_removal_params"]["status"]


def test_batch_goes_and_the_conserved_stay(cells):
    before = cells.obsm["X_ica"].copy()
    zeroed = scbetavae.tl.zero_batch_dimensions(cells, [0], "batch", conserve=["kind", "age"], obsm_key="X_ica")
    np.testing.assert_array_equal(zeroed[:, 1:], before[:, 1:])
    np.testing.assert_array_equal(cells.obsm["X_ica"], before)
    np.testing.assert_array_equal(cells.obsm["X_ica_zeroed"], zeroed)
    assert zeroed.dtype == np.float32
    report = report_of(cells)
    batch = report.loc["batch"]
    assert batch.loc["knn", "before"] == 1.0
    assert batch.loc["ilisi", "before"] < 0.01
    assert (batch.loc[["knn", "random_forest"], "after"].abs() < 0.15).all()
    assert batch.loc["ilisi", "after"] > 0.95
    kept = report.loc[["kind", "age"], "kept"]
    assert (kept > 0.98).all()
    assert kept.loc["kind", "knn"] == 1.0
    assert status(cells) == "clean"
    parameters = cells.uns["betavae"]["batch_removal_params"]
    assert (parameters["dimensions"], parameters["method"], parameters["conserve"]) == ("0", "given", "kind, age")


@pytest.mark.parametrize("to", ["mean", "reference", "prior"])
def test_the_constant(cells, to):
    codes = cells.obsm["X_ica"].astype(float)
    is_reference = (cells.obs["batch"] == "b/2").to_numpy()
    expected = {"mean": codes.mean(axis=0), "reference": codes[is_reference].mean(axis=0), "prior": np.zeros(4)}
    extra = {"reference_batch": "b/2"} if to == "reference" else {}
    if to == "prior":
        write_latent(cells)
    zeroed = scbetavae.tl.zero_batch_dimensions(cells, [0, 3], **SETTINGS, to=to, **extra, **QUICK)
    np.testing.assert_allclose(zeroed[:, [0, 3]], np.tile(expected[to][[0, 3]], (240, 1)), rtol=1e-5)
    np.testing.assert_array_equal(zeroed[:, [1, 2]], cells.obsm["X_ica"][:, [1, 2]])


def test_the_wrong_dimension_costs_and_says_so(cells):
    with pytest.warns(UserWarning, match="condition_on_batch=True") as record:
        scbetavae.tl.zero_batch_dimensions(cells, [0, 1], **SETTINGS, **QUICK)
    assert "'kind' 9" in str(record[0].message) or "'kind' 1" in str(record[0].message)
    assert (report_of(cells).loc["kind", "kept"] < 0.2).all()
    assert status(cells) == "biology lost"


def test_batch_that_stays_is_named(cells):
    scbetavae.tl.zero_batch_dimensions(cells, 3, **SETTINGS, **QUICK)
    assert status(cells) == "batch remains"
    assert report_of(cells).loc[("batch", "knn"), "after"] == 1.0


def test_less_batch_than_the_conserved_imply_is_destruction():
    cells = make_cells(confounded=True)
    table = pd.crosstab(cells.obs["kind"], cells.obs["batch"], normalize="columns")
    floor = table.max(axis=1).sum() - 1  # two batches: 2 * (recall - 1/2)
    with pytest.warns(UserWarning, match="suggests over-correction"):
        scbetavae.tl.zero_batch_dimensions(cells, [0, 1], **SETTINGS, **QUICK)
    batch = report_of(cells).loc["batch"]
    assert batch.loc["knn", "expected"] == pytest.approx(floor, abs=1e-9)
    assert batch.loc["knn", "after"] < 0.3 < floor
    assert status(cells) == "biology lost"
    scbetavae.tl.zero_batch_dimensions(cells, [0], **SETTINGS, **QUICK)
    assert report_of(cells).loc[("batch", "knn"), "after"] == pytest.approx(floor, abs=0.05)
    assert status(cells) == "clean"


def test_without_dimensions_they_are_found_and_reported_on_other_cells(cells):
    zeroed = scbetavae.tl.zero_batch_dimensions(cells, **SETTINGS, **QUICK)
    assert np.ptp(zeroed[:, 0]) == 0
    stored = cells.uns["betavae"]
    assert stored["batch_removal_params"]["dimensions"] == stored["batch_dimensions_params"]["dimensions"] == "0"
    assert stored["batch_removal_params"]["method"] == "stepwise"
    assert (stored["batch_removal"]["n_cells"] == 120).all()
    # The same cells as those on which the search reports.
    found = stored["batch_dimensions_report"].set_index("covariate")
    report = stored["batch_removal"].query("classifier == 'knn'").set_index("covariate")
    np.testing.assert_allclose(report["before"], found["accuracy_before"])
    np.testing.assert_allclose(report["after"], found["accuracy_after"], atol=1e-9)


def test_nothing_found_is_nothing_zeroed(cells):
    cells.obsm["X_ica"][:, 0] = np.random.default_rng(1).normal(size=240)
    with pytest.warns(UserWarning, match="Nothing was zeroed, because"):
        zeroed = scbetavae.tl.zero_batch_dimensions(cells, **SETTINGS, **QUICK)
    np.testing.assert_array_equal(zeroed, cells.obsm["X_ica"])
    assert status(cells) == "nothing zeroed"
    report = cells.uns["betavae"]["batch_removal"]
    np.testing.assert_array_equal(report["before"], report["after"])


def test_clusters_stand_in_for_labels(cells, monkeypatch):
    # Leiden is tested where it is called; it takes long to load.
    quick = lambda codes, _seed: np.where(codes[:, 1] > 0, "0", "1")  # noqa: E731
    monkeypatch.setattr("scbetavae.tl._batch_inputs._leiden", quick)
    scbetavae.tl.zero_batch_dimensions(cells, [0], "batch", obsm_key="X_ica", **QUICK)
    parameters = cells.uns["betavae"]["batch_removal_params"]
    assert parameters["clustered"]
    assert "clusters" in parameters["summary"]
    assert parameters["conserve"] in cells.obs


def test_donors_and_missing_labels(cells):
    cells.obs.loc[cells.obs_names[:40], "kind"] = None
    scbetavae.tl.zero_batch_dimensions(cells, [0], **SETTINGS, donor_key="donor", **QUICK)
    report = report_of(cells)
    assert report.loc[("kind", "knn"), "n_cells"] == 200
    assert report.loc[("kind", "knn"), "kept"] == pytest.approx(1.0)


def test_round_trips(cells, tmp_path):
    scbetavae.tl.zero_batch_dimensions(cells, **SETTINGS, **QUICK, key_added="again")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    cells.write_zarr(tmp_path / "cells.zarr")
    for read in (anndata.read_h5ad(tmp_path / "cells.h5ad"), anndata.read_zarr(tmp_path / "cells.zarr")):
        pd.testing.assert_frame_equal(
            read.uns["betavae"]["again"], cells.uns["betavae"]["again"], check_dtype=False, check_index_type=False
        )
        assert dict(read.uns["betavae"]["again_params"]) == cells.uns["betavae"]["again_params"]
        np.testing.assert_array_equal(read.obsm["X_ica_again"], cells.obsm["X_ica_again"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dimensions": 4}, ValueError, "from 0 to 3"),
        ({"dimensions": [-1]}, ValueError, "from 0 to 3"),
        ({"dimensions": [True]}, ValueError, "from 0 to 3"),
        ({"dimensions": []}, ValueError, "empty"),
        ({"dimensions": range(4)}, ValueError, "nothing would be left"),
        ({"batch_key": "bach"}, KeyError, "batch"),
        ({"batch_key": "age"}, ValueError, "fractions"),
        ({"batch_key": "one"}, ValueError, "one category"),
        ({"conserve": "kid"}, KeyError, "kind"),
        ({"conserve": ["kind", "batch"]}, ValueError, "batch"),
        ({"conserve": "plate"}, ValueError, "alias"),
        ({"conserve": "one"}, ValueError, "one value"),
        ({"obsm_key": "X_ic"}, KeyError, "X_ica"),
        ({"obsm_key": "X_flat"}, ValueError, "active"),
        ({"donor_key": "donr"}, KeyError, "donor"),
        ({"method": "guard"}, ValueError, "stepwise"),
        ({"method": [0]}, ValueError, "dimensions"),
        ({"to": "means"}, ValueError, "mean"),
        ({"to": "reference"}, ValueError, "reference_batch"),
        ({"to": "reference", "reference_batch": "b/3"}, ValueError, "b/2"),
        ({"to": "mean", "reference_batch": "b/1"}, ValueError, "reference"),
        ({"to": "prior"}, ValueError, "has no prior"),
        ({"n_bootstrap": -1}, ValueError, "n_bootstrap"),
        ({"key_added": "a/b"}, ValueError, "key_added"),
    ],
)
def test_bad_input_is_refused_and_leaves_no_trace(cells, change, error, message):
    cells.obs["one"] = "only"
    cells.obs["plate"] = np.where(cells.obs["batch"] == "b/1", "plate 1", "plate 2")
    cells.obsm["X_flat"] = np.zeros((240, 4))
    there = (list(cells.obs), list(cells.obsm), list(cells.uns))
    with pytest.raises(error, match=message):
        scbetavae.tl.zero_batch_dimensions(cells, **({"dimensions": [0]} | SETTINGS | change))
    assert there == (list(cells.obs), list(cells.obsm), list(cells.uns))


def test_a_view_is_refused(cells):
    with pytest.raises(ValueError, match="view"):
        scbetavae.tl.zero_batch_dimensions(cells[:100], [0], **SETTINGS)


def test_probes_that_fall_short_of_a_weak_floor_are_no_destruction():
    """A floor that fifteen neighbors cannot reach, and cell types that are all there."""
    report = {"before": 1.0, "before_ci_low": 1.0, "after": 0.0, "after_ci_high": 0.1, "expected": 0.2}
    rows = [{"role": "batch", "covariate": "batch", "classifier": "knn", **report}]
    kept = {"role": "conserved", "covariate": "kind", "classifier": "knn", "before": 0.9, "before_ci_low": 0.8}
    for share, expected in ((1.0, "clean"), (0.5, "biology lost"), (np.nan, "biology lost")):
        frame = pd.DataFrame([*rows, kept | {"after": 0.9 * share, "kept": share}])
        summary = _batch_text.describe_removal(frame, [0], clusters=False)
        assert summary.status == expected
        assert ("This suggests over-correction" in summary.sentence) == (expected != "clean")


def test_a_search_with_the_same_question_is_used_and_another_one_is_kept(cells, monkeypatch):
    search = {"conserve": "kind", "obsm_key": "X_ica"}
    scbetavae.tl.find_batch_dimensions(cells, "batch", **search)
    cells.uns["betavae"]["batch_dimensions"]["chosen"] = [False, False, False, True]  # what is stored is what is used
    scbetavae.tl.zero_batch_dimensions(cells, **SETTINGS, **QUICK)
    assert cells.uns["betavae"]["batch_removal_params"]["dimensions"] == "3"
    for change in ({"seed": 1}, {"method": "dominant"}, {"conserve": ["kind", "age"]}):
        scbetavae.tl.find_batch_dimensions(cells, "batch", **(search | change))
        before = cells.uns["betavae"]["batch_dimensions"].copy(), dict(cells.uns["betavae"]["batch_dimensions_params"])
        scbetavae.tl.zero_batch_dimensions(cells, **SETTINGS, **QUICK)
        pd.testing.assert_frame_equal(cells.uns["betavae"]["batch_dimensions"], before[0])
        assert cells.uns["betavae"]["batch_dimensions_params"] == before[1]
        assert cells.uns["betavae"]["batch_removal_params"]["dimensions"] == "0"


@pytest.mark.parametrize("change", ["labels", "embedding", "cells"])
def test_a_search_of_other_labels_or_embedding_is_made_again(cells, change):
    scbetavae.tl.find_batch_dimensions(cells, "batch", conserve="kind", obsm_key="X_ica")
    cells.uns["betavae"]["batch_dimensions"]["chosen"] = [False, False, False, True]
    if change == "labels":
        cells.obs["kind"] = cells.obs["kind"].replace("T cell", "NK cell")
    elif change == "embedding":
        cells.obsm["X_ica"] = cells.obsm["X_ica"] + np.float32([0, 0, 0, 5])
    else:
        cells = cells[20:].copy()
    scbetavae.tl.zero_batch_dimensions(cells, **SETTINGS, **QUICK)
    assert cells.uns["betavae"]["batch_removal_params"]["dimensions"] == "0"
