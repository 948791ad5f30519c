"""What the command makes of cells that cannot be written to .h5ad: converted without loss, or refused before training."""

import collections
import datetime as dt
from pathlib import Path, PurePosixPath

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scbetavae.__main__ import main
from scbetavae.cli._writable import make_writable
from scbetavae.model import BetaVAE

N = 12
QUICK = ["--max-epochs", "2", "--n-latent", "3", "--accelerator", "cpu", "--no-scores", "--no-actions"]


def make_cells():
    adata = AnnData(np.random.default_rng(0).poisson(2.0, size=(N, 6)).astype(np.float32) + 1)
    adata.obs_names = [f"cell {i}" for i in range(N)]
    adata.var_names = [f"gene {i}" for i in range(6)]
    adata.obs["donor"] = pd.Categorical(np.tile(["d1", "d2"], N // 2))
    return adata


def column(values, **kwargs):
    """A column of ``.obs`` whose first four values are given and repeat."""
    return pd.Series(list(values) * (N // 4), index=[f"cell {i}" for i in range(N)], **kwargs)


COLUMNS = {
    "nullable text": (column(["a", None, "b", "c"], dtype="string"), ["a", None, "b", "c"]),
    "numbers as objects": (column([1, 2, 3, 4], dtype=object), [1, 2, 3, 4]),
    "numbers and gaps": (column([1, None, 2.5, 3], dtype=object), [1, None, 2.5, 3]),
    "booleans and gaps": (column([True, None, False, True], dtype=object), [True, None, False, True]),
    "numbers and text": (column([1, "a", 2.5, None], dtype=object), ["1", "a", "2.5", None]),
    "Float64": (column([0.5, None, 2, 3], dtype="Float64"), [0.5, None, 2, 3]),
    "sparse": (column([0, 0, 1, 0]).astype(pd.SparseDtype("int64", 0)), [0, 0, 1, 0]),
    "mixed categories": (column([1, "a", 1, "a"]).astype("category"), ["1", "a", "1", "a"]),
    "intervals": (column([pd.Interval(0, 1), pd.Interval(1, 2)] * 2).astype("category"), ["(0, 1]", "(1, 2]"] * 2),
    "dates": (column(pd.to_datetime(["2020-01-01", "2021-02-03", "2020-01-01", None])), ["2020", "2021", "2020", None]),
}


def written(adata, tmp_path):
    adata.write_h5ad(tmp_path / "written.h5ad")
    return anndata.read_h5ad(tmp_path / "written.h5ad")


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("place", ["obs", "obsm"])
def test_columns_keep_their_values(kind, place, tmp_path):
    values, expected = COLUMNS[kind]
    adata = make_cells()
    if place == "obs":
        adata.obs["x"] = values
    else:
        adata.obsm["table"] = pd.DataFrame({"x": values})
    make_writable(adata)
    again = written(adata, tmp_path)
    found = again.obs["x"] if place == "obs" else again.obsm["table"]["x"]
    assert [pd.isna(value) for value in found[:4]] == [value is None for value in expected]
    for value, wanted in zip(found[:4], expected, strict=True):
        if kind == "dates":
            assert wanted is None or str(value).startswith(wanted)
        elif wanted is not None:
            assert value == wanted
    assert make_writable(adata).changes == []


Point = collections.namedtuple("Point", "x y")
ENTRIES = {
    "tuple": ((1, 2), [1, 2]),
    "tuple of text": (("a", "b"), ["a", "b"]),
    "named tuple": (Point(0.5, 1), [0.5, 1]),
    "set": ({"b", "a"}, ["a", "b"]),
    "range": (range(3), [0, 1, 2]),
    "index": (pd.Index(["u", "v"]), ["u", "v"]),
    "path": (PurePosixPath("a/b"), "a/b"),
    "date": (dt.date(2020, 1, 2), "2020-01-02"),
}


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("nested", [False, True])
def test_entries_of_uns_keep_their_content(kind, nested, tmp_path):
    value, expected = ENTRIES[kind]
    adata = make_cells()
    adata.uns["x"] = {"deep": {"er": value}} if nested else value
    (change,) = make_writable(adata).changes
    assert change.startswith("uns['x']['deep']['er'] from " if nested else "uns['x'] from ")
    found = written(adata, tmp_path).uns["x"]
    found = found["deep"]["er"] if nested else found
    assert (found if isinstance(found, str) else list(found)) == expected


def test_more_of_uns(tmp_path):
    adata = make_cells()
    adata.uns["colors"] = {1: "red", "2/3": "blue"}
    adata.uns["series"] = pd.Series([1.5, 2.5], index=["a", "b"], name="s")
    adata.uns["ordered"] = collections.OrderedDict(k=1)
    adata.uns["coo"] = sparse.coo_matrix(np.eye(2))
    adata.uns["frame"] = pd.DataFrame([[1, 2]], columns=[0, "a/b"])
    make_writable(adata)
    uns = written(adata, tmp_path).uns
    assert uns["colors"] == {"1": "red", "2_3": "blue"}
    assert uns["series"]["s"].to_dict() == {"a": 1.5, "b": 2.5}
    assert uns["ordered"] == {"k": 1}
    np.testing.assert_array_equal(uns["coo"].toarray(), np.eye(2))
    assert list(uns["frame"].columns) == ["0", "a_b"]


def test_names_that_files_do_not_take(tmp_path):
    adata = make_cells()
    adata.raw = adata.copy()
    adata.raw.var["length/kb"] = 1.0
    adata.obs["a/b"], adata.obs["a_b"], adata.obs[""], adata.obs[3] = 1, 2, 3, 4
    adata.obs.index.name = "donor"
    for slot in (adata.layers, adata.obsm):
        slot["x/y"] = adata.X.copy()
    converted = make_writable(adata)
    again = written(adata, tmp_path)
    assert again.obs[["a_b_1", "a_b", "unnamed", "3"]].iloc[0].tolist() == [1, 2, 3, 4]
    assert again.obs_names[0] == "cell 0"
    assert "x_y" in again.layers
    assert "x_y" in again.obsm
    assert "length_kb" in again.raw.var
    assert converted.renamed["obs"] == {"a/b": "a_b_1", "": "unnamed", 3: "3"}


REFUSED = {
    "uns['x'], function": lambda adata: adata.uns.update(x=lambda: 1),
    "uns['x'], tuple": lambda adata: adata.uns.update(x=(1, "a")),
    "uns['x']['y'], object": lambda adata: adata.uns.update(x={"y": object()}),
    "obs['x'], object": lambda adata: adata.obs.insert(0, "x", [[1]] * N),
    "obs['y'], object": lambda adata: adata.obs.insert(0, "y", [1, "1"] * (N // 2)),
    "obsm['x'], object": lambda adata: adata.obsm.update(x=np.array([["a", 1]] * N, dtype=object)),
    "obs (several columns are named 'donor')": lambda adata: adata.obs.insert(0, "donor", 1, allow_duplicates=True),
}


@pytest.mark.parametrize("entry", REFUSED)
def test_the_rest_is_refused_before_any_work(entry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.h5ad").touch()
    adata = make_cells()
    REFUSED[entry](adata)
    monkeypatch.setattr("scbetavae.cli._io.read_cells", lambda _: adata)
    monkeypatch.setattr(BetaVAE, "train", lambda *_, **__: pytest.fail("it trained"))
    assert main(["cells.h5ad", *QUICK]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert entry in line
    assert "Remove them, or convert them" in line
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_a_mixture_is_seen_beyond_the_first_rows():
    adata = make_cells()
    adata.obs["x"] = pd.Series([["a list"] if i == N - 1 else "text" for i in range(N)], index=adata.obs_names)
    with pytest.raises(ValueError, match=r"obs\['x'\], object"):
        make_writable(adata)


@pytest.fixture
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_in_an_empty_folder")
@pytest.mark.filterwarnings("ignore:.*orward slashes:FutureWarning")
def test_command_on_a_file_with_slashes(capsys):
    adata = make_cells()
    adata.obs["plate_well"] = np.tile(["p1", "p2", "p3"], N // 3)
    adata.layers["raw_counts"] = adata.X.copy()
    adata.write_h5ad("cells.h5ad")
    with h5py.File("cells.h5ad", "r+") as file:  # as an older version of anndata writes such a name
        file["obs"].move("plate_well", "plate/well")
        columns = [name.replace("plate_", "plate/") for name in file["obs"].attrs["column-order"]]
        file["obs"].attrs["column-order"] = np.array(columns, dtype=h5py.string_dtype())
    code = main(["cells.h5ad", *QUICK, "--batch-key", "plate/well", "--layer", "raw_counts"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "converted   so that betavae.h5ad can be written: obs['plate/well'] renamed to 'plate_well'" in captured.out
    again = anndata.read_h5ad("scbetavae-out/betavae.h5ad")
    assert again.obs["plate_well"].tolist() == adata.obs["plate_well"].tolist()
    assert again.obsm["X_betavae"].shape == (N, 3)
    assert BetaVAE.load_registry("scbetavae-out/model")["setup_args"]["batch_key"] == "plate_well"


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_command_on_a_file_of_nullable_text(capsys):
    adata = make_cells()
    adata.obs["note"] = pd.array([None if i % 2 else f"note {i}" for i in range(N)], dtype="string")
    adata.obs["barcode"] = pd.array([f"barcode {i}" for i in range(N)], dtype="string")
    adata.obs_names = pd.Index(pd.array(list(adata.obs_names), dtype="string"))
    adata.uns["table"] = pd.DataFrame({"x": pd.array(["u", None], dtype="string")})
    with anndata.settings.override(allow_write_nullable_strings=True):  # the default under pandas 3
        adata.write_h5ad("cells.h5ad")
    code = main(["cells.h5ad", *QUICK, "--batch-key", "donor"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    again = anndata.read_h5ad("scbetavae-out/betavae.h5ad")
    assert list(again.obs_names) == list(adata.obs_names)
    assert again.obs["barcode"].tolist() == adata.obs["barcode"].tolist()
    assert again.obs["note"].dropna().tolist() == adata.obs["note"].dropna().tolist()
    assert again.obs["note"].isna().sum() == N // 2
    assert again.uns["table"]["x"].isna().tolist() == [False, True]


@pytest.mark.usefixtures("_in_an_empty_folder")
def test_command_on_entries_that_are_converted(monkeypatch, capsys):
    adata = make_cells()
    adata.uns["order"] = ("a", "b")
    adata.obs["dose"] = pd.Series([0, "high", 2.5] * (N // 3), index=adata.obs_names)
    Path("cells.h5ad").touch()
    monkeypatch.setattr("scbetavae.cli._io.read_cells", lambda _: adata)
    code = main(["cells.h5ad", *QUICK, "--batch-key", "dose"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "uns['order'] from tuple to " in captured.out
    again = anndata.read_h5ad("scbetavae-out/betavae.h5ad")
    assert list(again.uns["order"]) == ["a", "b"]
    assert again.obs["dose"].tolist() == ["0", "high", "2.5"] * (N // 3)
