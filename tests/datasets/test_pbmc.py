"""The embedded cells: counts that are exact, and refused when they would not be."""

import subprocess
import sys

import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

import scbetavae._core.keys as public_keys
from scbetavae.datasets import _checks, pbmc68k


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
        ({"planted_batches": -1}, ValueError, "planted_batches must be at least 0, got -1"),
        ({"planted_batches": 701}, ValueError, "at most 700, one for each cell, got 701"),
        ({"planted_batches": 2.0}, TypeError, "planted_batches must be a whole number"),
        ({"planted_batches": True}, TypeError, "planted_batches must be a whole number"),
        ({"batch_strength": -0.1}, ValueError, "batch_strength must be a finite number from 0 to 100, got -0.1"),
        ({"batch_strength": float("nan")}, ValueError, "finite number"),
        ({"batch_strength": float("inf")}, ValueError, "finite number"),
        ({"batch_strength": "strong"}, TypeError, "batch_strength must be a number"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        pbmc68k(**arguments)


def _shift_values(source):
    source.raw.X.data[:] += 0.3


def _break_third_decimal(source):
    # a single molecule, so that the count itself stays close to 1
    source.raw.X.data[source.raw.X.data.argmin()] += 0.002


def _drop_labels(source):
    del source.obs["bulk_labels"]


def _drop_raw(source):
    source.raw = None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_shift_values, "from whole numbers"),
        (_break_third_decimal, "miss the stored values by up to"),
        (_drop_labels, "it lacks bulk_labels"),
        (_drop_raw, "it has no .raw"),
    ],
)
def test_another_file_in_scanpy_is_refused(monkeypatch, change, match):
    source = sc.datasets.pbmc68k_reduced()
    change(source)
    monkeypatch.setattr(sc.datasets, "pbmc68k_reduced", lambda: source)
    with pytest.raises(RuntimeError, match=match) as caught:
        pbmc68k()
    assert "pip install 'scanpy<1.13'" in str(caught.value)


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


def test_keys_are_those_of_the_package():
    assert _checks.UNS == public_keys.UNS
    assert _checks.SIMULATION == public_keys.SIMULATION
    assert _checks.PLANTED_BATCH == public_keys.PLANTED_BATCH


def test_import_leaves_scanpy_and_matplotlib_out():
    code = "import sys, scbetavae.datasets; print('scanpy' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
