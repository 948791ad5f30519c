"""What the command makes of columns of codes, and of a batch or a class of one cell."""

import contextlib
import io

import anndata
import numpy as np
import pandas as pd
import pytest

import scbetavae
from scbetavae.__main__ import main

QUICK = ["--max-epochs", "3", "--n-latent", "3", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def cells():
    adata = scbetavae.datasets.simulate_counts(80, 30, n_cell_types=3, n_batches=2, seed=0)
    for name in ("cell_type", "batch", "condition"):
        adata.obs[name] = adata.obs[name].cat.codes.astype(int)
    adata.obs["louvain"] = adata.obs["cell_type"].to_numpy()
    adata.obs = adata.obs[["cell_type", "batch", "condition", "louvain"]]
    return adata


def run(adata, folder, *arguments):
    """The report, what went to standard error, and the folder of results."""
    adata.write_h5ad(folder / "cells.h5ad")
    report, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(report), contextlib.redirect_stderr(errors):
        code = main([str(folder / "cells.h5ad"), *QUICK, *arguments, "--out", str(folder / "out")])
    assert code == 0, errors.getvalue()
    return report.getvalue(), errors.getvalue(), folder / "out"


def as_texts(adata, kind=str):
    adata = adata.copy()
    for name in adata.obs:
        adata.obs[name] = adata.obs[name].astype(kind)
    return adata


def test_codes_of_labels_batch_and_condition_are_classes(cells, tmp_path):
    keys = ["--labels-key", "cell_type", "--batch-key", "batch", "--condition", "condition"]
    found = {}
    for kind in (str, float):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        report, errors, out = run(as_texts(cells, kind), folder, *keys)
        assert "distinct integers" not in errors
        assert "condition 0 -> 1: error" in report
        found[kind] = {name.name: pd.read_csv(name) for name in sorted((out / "tables").glob("*.csv"))}
    assert set(found[float]) == set(found[str])
    for name in (
        "scores.csv",
        "batch_dimensions.csv",
        "batch_removal.csv",
        "condition_prediction.csv",
        "counterfactual.csv",
    ):
        pd.testing.assert_frame_equal(found[float][name], found[str][name])


def test_other_covariates_warn_once_unless_they_are_named(cells, tmp_path):
    ask = ["--covariates", "louvain", "--no-actions"]
    _, errors, out = run(cells, tmp_path, *ask)
    assert errors.count("['louvain'] hold 3 distinct integers") == 1
    assert (pd.read_csv(out / "tables" / "scores.csv")["n_classes"] == 0).all()
    _, errors, out = run(cells, tmp_path, *ask, "--categorical", "louvain")
    assert "distinct integers" not in errors
    scores = pd.read_csv(out / "tables" / "scores.csv")
    assert (scores.loc[scores["covariate"] == "louvain", "n_classes"] == 3).all()
    assert anndata.read_h5ad(out / "betavae.h5ad").obs["louvain"].dtype == np.int64


@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_of_one_or_two_cells_is_a_line_of_the_report(cells, tmp_path, n):
    adata = as_texts(cells)
    adata.obs["batch"] = np.where(np.arange(80) < n, "b1", "b0")
    report, errors, out = run(adata, tmp_path, "--batch-key", "batch", "--condition", "batch")
    lines = {line[:12].strip(): line[12:] for line in report.splitlines()}
    told = f"not possible: {{}} 'b1' has {n} cell"
    assert told.format("batch") in lines["batch"]
    assert lines["condition"].startswith(told.format("class"))
    assert told.format("category") in lines["effect"]
    stored = anndata.read_h5ad(out / "betavae.h5ad").uns["betavae"]
    assert stored["batch_dimensions_params"]["status"] == "not possible"
    for name in ("batch_dimensions", "batch_removal", "condition_prediction", "counterfactual", "scores"):
        assert (out / "figures" / f"{name}.png").exists(), errors
        assert (
            pd.read_csv(out / "tables" / f"{name}.csv")["flag" if name != "batch_dimensions" else "chosen"]
            .notna()
            .any()
        )
