"""Reading cells: every format that is promised, and a clear sentence for every file that is not one."""

import importlib.util
import sys

import h5py
import numpy as np
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from scbetavae.cli._io import SUFFIXES, read_cells

COUNTS = np.random.default_rng(0).poisson(1.0, size=(6, 4)).astype(np.float32)


@pytest.fixture
def adata():
    cells = AnnData(csr_matrix(COUNTS))
    cells.var_names = [f"gene {i}" for i in range(4)]
    cells.obs["donor"] = list("aabbcc")
    return cells


def write_10x(path, *, names=("A", "B", "B", "C")):
    """The layout of Cell Ranger 3: cells are columns, kinds of features are mixed."""
    matrix = csr_matrix(COUNTS.astype(np.int32))
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = np.array([4, 6], dtype=np.int32)
        group["barcodes"] = np.array([f"cell{i}" for i in range(6)], dtype="S")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i}" for i in range(4)], dtype="S")
        features["name"] = np.array(names, dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * 4, dtype="S")
        features["genome"] = np.array(["GRCh38"] * 4, dtype="S")


def dense(cells):
    return cells.X.toarray() if hasattr(cells.X, "toarray") else np.asarray(cells.X)


def test_h5ad_is_read(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    cells = read_cells(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(dense(cells), COUNTS)
    assert list(cells.obs["donor"]) == list("aabbcc")
    assert not cells.isbacked


def test_ending_in_capitals_is_read(adata, tmp_path):
    adata.write_h5ad(tmp_path / "CELLS.H5AD")
    assert read_cells(str(tmp_path / "CELLS.H5AD")).shape == (6, 4)


@pytest.mark.filterwarnings("ignore:.*zarr")
def test_zarr_is_read(adata, tmp_path):
    adata.write_zarr(tmp_path / "cells.zarr")
    np.testing.assert_array_equal(dense(read_cells(tmp_path / "cells.zarr")), COUNTS)


@pytest.mark.filterwarnings(
    "ignore:Variable names are not unique", "ignore:.*zarr", "ignore:.*infer_string:DeprecationWarning"
)
@pytest.mark.parametrize("name", ["matrix.h5", "cells.h5ad", "cells.zarr"])
def test_gene_names_are_made_unique_and_the_user_is_told(adata, tmp_path, name):
    adata.var_names = ["A", "B", "B", "C"]
    write = {".h5": write_10x, ".h5ad": adata.write_h5ad, ".zarr": adata.write_zarr}
    write[(tmp_path / name).suffix](tmp_path / name)
    with pytest.warns(UserWarning, match=rf"1 gene names occur more than once in '.*{name}' \('B'\).*as in 'B-1'"):
        cells = read_cells(tmp_path / name)
    np.testing.assert_array_equal(dense(cells), COUNTS)
    assert list(cells.var_names) == ["A", "B", "B-1", "C"]


def test_unique_gene_names_are_left_alone(tmp_path):
    write_10x(tmp_path / "matrix.h5", names=("A", "B", "B-1", "C"))
    assert list(read_cells(tmp_path / "matrix.h5").var_names) == ["A", "B", "B-1", "C"]


@pytest.mark.skipif(importlib.util.find_spec("loompy") is None, reason="loompy is not installed")
@pytest.mark.filterwarnings("ignore")
def test_loom_is_read(tmp_path):
    import loompy

    loompy.create(
        str(tmp_path / "cells.loom"), COUNTS.T, {"Gene": np.array(list("ABCD"))}, {"CellID": np.array(list("uvwxyz"))}
    )
    cells = read_cells(tmp_path / "cells.loom")
    np.testing.assert_array_equal(dense(cells), COUNTS)
    assert list(cells.var_names) == list("ABCD")


def test_loom_without_loompy_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "cells.loom").touch()
    monkeypatch.setitem(sys.modules, "loompy", None)
    monkeypatch.setattr("scbetavae.cli._io.find_spec", lambda _name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install loompy"):
        read_cells(tmp_path / "cells.loom")


def test_missing_file_names_the_nearest(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(FileNotFoundError, match=r"no file .*cell\.h5ad.* Did you mean .*cells\.h5ad"):
        read_cells(tmp_path / "cell.h5ad")


def test_missing_file_in_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="Check the path"):
        read_cells(tmp_path / "nowhere" / "cells.h5ad")


@pytest.mark.parametrize("name", ["cells.csv", "cells", "cells.h5ad.gz"])
def test_other_endings_are_refused_with_those_allowed(name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="does not end in one of") as error:
        read_cells(tmp_path / name)
    assert all(suffix in str(error.value) for suffix in SUFFIXES)


@pytest.mark.parametrize("name", ["cells.h5ad", "matrix.h5"])
def test_damaged_file(name, tmp_path):
    (tmp_path / name).write_bytes(b"this is no HDF5 file")
    with pytest.raises(ValueError, match="could not be read as"):
        read_cells(tmp_path / name)


def test_truncated_file(adata, tmp_path):
    path = tmp_path / "cells.h5ad"
    adata.write_h5ad(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="Is the file complete"):
        read_cells(path)


def test_hdf5_file_that_is_no_anndata(tmp_path):
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        file["something"] = np.arange(3)
    with pytest.raises(ValueError, match="it has no obs and no var"):
        read_cells(tmp_path / "cells.h5ad")


def test_anndata_under_a_10x_name(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5")
    with pytest.raises(ValueError, match=r"name should end in \.h5ad"):
        read_cells(tmp_path / "cells.h5")


def test_folder_under_a_file_name(tmp_path):
    (tmp_path / "cells.h5ad").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read_cells(tmp_path / "cells.h5ad")


def test_file_under_a_folder_name(tmp_path):
    (tmp_path / "cells.zarr").touch()
    with pytest.raises(ValueError, match="is a file"):
        read_cells(tmp_path / "cells.zarr")


def test_folder_that_is_no_zarr_store(tmp_path):
    (tmp_path / "cells.zarr").mkdir()
    with pytest.raises(ValueError, match="could not be read as AnnData store"):
        read_cells(tmp_path / "cells.zarr")


def test_no_cells(tmp_path):
    AnnData(np.zeros((0, 3), dtype=np.float32)).write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match="0 cells x 3 genes"):
        read_cells(tmp_path / "cells.h5ad")
