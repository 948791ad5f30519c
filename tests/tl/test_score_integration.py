"""Embeddings as a whole: cell types kept apart, batches mixed."""

import anndata
import numpy as np
import pandas as pd
import pytest

from scbetavae import metrics, tl


@pytest.fixture
def adata(counts_adata):
    rng = np.random.default_rng(0)
    labels = counts_adata.obs["labels"].cat.codes.to_numpy()
    counts_adata.obsm["X_e"] = rng.normal(size=(counts_adata.n_obs, 3)) + 30 * np.eye(3)[labels]
    return counts_adata


def test_rows_are_the_metrics(adata):
    frame = tl.score_integration(adata, "labels", "batch", obsm_key="X_e", seed=3)
    values = frame.set_index(["metric", "covariate"])["value"]
    codes = adata.obsm["X_e"]
    assert values.to_dict() == {
        ("kmeans_ari", "labels"): 1.0,
        ("knn_accuracy", "labels"): 1.0,
        ("knn_accuracy", "batch"): metrics.knn_accuracy(codes, adata.obs["batch"], seed=3),
        ("ilisi", "batch"): metrics.ilisi(codes, adata.obs["batch"], seed=3),
    }
    assert values["ilisi", "batch"] > 0.5  # the batch is nowhere in these codes
    assert frame["n_classes"].tolist() == [3, 3, 2, 2]
    assert set(frame["flag"]) == {""}


def test_numbers_are_names_of_batches(adata):
    adata.obs["plate"] = adata.obs["batch"].cat.codes.astype(float)
    by_number = tl.score_integration(adata, batch_key="plate", obsm_key="X_e")
    by_name = tl.score_integration(adata, batch_key="batch", obsm_key="X_e")
    np.testing.assert_array_equal(by_number["value"], by_name["value"])
    assert by_name["metric"].tolist() == ["knn_accuracy", "ilisi"]


def test_missing_and_single_labels(adata):
    adata.obs["part"] = adata.obs["labels"].where(np.arange(adata.n_obs) > 20)
    frame = tl.score_integration(adata, "part", obsm_key="X_e")
    assert frame["n_cells"].tolist() == [adata.n_obs - 21] * 2
    adata.obs["same"] = "one"
    frame = tl.score_integration(adata, "same", obsm_key="X_e")
    assert frame["value"].isna().all()
    assert frame["flag"].str.contains("not defined: 1 classes").all()


def test_stored_and_read_back(adata, tmp_path):
    frame = tl.score_integration(adata, "labels", "batch", obsm_key="X_e")
    adata.write_h5ad(tmp_path / "a.h5ad")
    stored = anndata.read_h5ad(tmp_path / "a.h5ad").uns["betavae"]
    pd.testing.assert_frame_equal(stored["integration"].reset_index(drop=True), frame, check_dtype=False)
    assert stored["integration_params"]["obsm_key"] == "X_e"


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({}, ValueError, "both None"),
        ({"labels_key": "label"}, KeyError, "Did you mean 'labels'"),
        ({"batch_key": "bach"}, KeyError, "Did you mean 'batch'"),
        ({"labels_key": "labels", "obsm_key": "X_f"}, KeyError, "X_e"),
    ],
)
def test_refused_with_nothing_stored(adata, kwargs, error, words):
    with pytest.raises(error, match=words):
        tl.score_integration(adata, **{"obsm_key": "X_e", **kwargs})
    assert "betavae" not in adata.uns
