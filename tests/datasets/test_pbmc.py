"""The bundled cells: counts that are exact, and those of scanpy's file."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import scbetavae
from scbetavae.datasets import pbmc68k

FROM_SCANPY = runpy.run_path(str(Path(__file__).with_name("scanpy_counts.py")))
FILE = Path(scbetavae.datasets.__file__).with_name("pbmc68k.npz")


@pytest.fixture(scope="module")
def adata():
    return pbmc68k()


def test_counts_are_whole_and_reproduce_the_source(adata):
    source = sc.datasets.pbmc68k_reduced()
    counts = adata.X.toarray().astype(float)
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert (counts == np.rint(counts)).all()
    assert counts.min() == 0
    expected = np.log1p(counts * 1e4 / source.obs["n_counts"].to_numpy(dtype=float)[:, None])
    assert np.abs(expected - source.raw.X.toarray()).max() < 0.5e-3 + 1e-6
    assert adata.X.nnz == 174_400
    assert list(adata.var_names) == list(source.var_names)
    assert list(adata.obs_names) == list(source.obs_names)


@pytest.mark.skipif(not hasattr(sc.datasets, "pbmc68k_reduced"), reason="scanpy no longer ships the file")
def test_they_are_exactly_those_of_the_file_in_scanpy(adata, tmp_path):
    counts, obs, var = FROM_SCANPY["recover"]()
    assert (counts != adata.X).nnz == 0
    for array in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(adata.X, array), getattr(counts, array), strict=True)
    pd.testing.assert_frame_equal(adata.obs, obs, check_exact=True)
    pd.testing.assert_frame_equal(adata.var, var, check_exact=True)
    FROM_SCANPY["write"](tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as again, np.load(FILE) as shipped:
        assert set(again) == set(shipped)
        for name in again:
            np.testing.assert_array_equal(again[name], shipped[name], strict=True)


def test_the_file_is_small_and_needs_no_pickle():
    assert FILE.stat().st_size < 300_000
    with np.load(FILE, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "iufU" for name in arrays)


def test_library_size_covers_the_genes_kept(adata):
    share = np.asarray(adata.X.sum(axis=1)).ravel() / adata.obs["n_counts"].to_numpy()
    assert share.min() > 0.10
    assert share.max() < 0.28
    assert adata.obs["n_counts"].dtype == np.int64


def test_only_covariates_and_provenance_come_along(adata):
    columns = ["bulk_labels", "louvain", "phase", "S_score", "G2M_score", "percent_mito", "n_counts"]
    assert list(adata.obs) == columns
    assert [adata.obs[c].nunique() for c in columns[:3]] == [10, 11, 3]
    assert not adata.obsm
    assert not adata.varm
    assert not adata.obsp
    assert adata.raw is None
    assert set(adata.uns) == {"source"}
    assert "10.1038/ncomms14049" in adata.uns["source"]


def test_planting_is_seeded_and_reported():
    first, again, other = pbmc68k(3), pbmc68k(planted_batches=3), pbmc68k(planted_batches=3, seed=1)
    assert (first.X != again.X).nnz == 0
    assert (first.X != other.X).nnz > 0
    assert first.uns["betavae"]["planted_batch"]["n_batches"] == 3
    assert "source" in first.uns


def test_zero_strength_plants_labels_only(adata):
    planted = pbmc68k(planted_batches=2, batch_strength=0.0)
    assert (planted.X != adata.X).nnz == 0
    assert planted.obs["batch"].nunique() == 2


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"planted_batches": 1}, ValueError, "one batch is no batch effect"),
        ({"planted_batches": -1}, ValueError, "planted_batches=-1 is not allowed: pass an integer from 0 to 700"),
        ({"planted_batches": 701}, ValueError, "planted_batches=701 is not allowed: pass an integer from 0 to 700"),
        ({"planted_batches": 2.0}, ValueError, "planted_batches=2.0 is not allowed: pass an integer"),
        ({"planted_batches": True}, ValueError, "planted_batches=True is not allowed: pass an integer"),
        ({"batch_strength": -0.1}, ValueError, r"batch_strength=-0.1 is not allowed: pass a number in \[0, 100\]"),
        ({"batch_strength": float("nan")}, ValueError, "batch_strength=nan is not allowed"),
        ({"batch_strength": float("inf")}, ValueError, "batch_strength=inf is not allowed"),
        ({"batch_strength": "strong"}, ValueError, "batch_strength='strong' is not allowed: pass a number"),
        ({"seed": -1}, ValueError, "seed=-1 is not allowed: pass an integer of at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        pbmc68k(**arguments)


def test_files_keep_everything(round_trip):
    planted = pbmc68k(planted_batches=2, batch_strength=0.5, seed=3)
    read = round_trip(planted)
    assert (read.X != planted.X).nnz == 0
    assert read.uns["source"] == planted.uns["source"]
    np.testing.assert_array_equal(read.varm["planted_batch"], planted.varm["planted_batch"])
    written, stored = planted.uns["betavae"]["planted_batch"], read.uns["betavae"]["planted_batch"]
    assert set(stored) == set(written)
    for key, value in written.items():
        np.testing.assert_array_equal(stored[key], value)
    assert list(read.obs["batch"]) == list(planted.obs["batch"])
    assert list(read.obs["bulk_labels"]) == list(planted.obs["bulk_labels"])


def test_import_leaves_scanpy_and_matplotlib_out():
    code = "import sys, scbetavae.datasets; print('scanpy' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
