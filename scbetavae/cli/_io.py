"""Reading cells from the files that single-cell tools write.

Used by the command line. In a notebook, :func:`scanpy.read_h5ad` and its companions do the same.
"""

from __future__ import annotations

import difflib
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

SUFFIXES = (".h5ad", ".h5", ".loom", ".zarr")
"""File name endings that :func:`read_cells` takes, ``.h5`` being the output of 10x Cell Ranger."""


def read_cells(path: str | Path) -> AnnData:
    """Read cells x genes from a file into memory.

    Parameters
    ----------
    path
        An AnnData file (``.h5ad`` or a ``.zarr`` folder), a count matrix of 10x Cell Ranger (``.h5``: its gene
        expression features), or a ``.loom`` file. The name's ending decides how it is read.

    Returns
    -------
    AnnData
        At least one cell and one gene, in memory, with gene names that are unique.

    Raises
    ------
    FileNotFoundError
        If there is nothing at ``path``.
    ValueError
        If the ending is not one of the four, if the content is not what the ending promises, or if it holds no cells
        or no genes.
    ModuleNotFoundError
        If the file is a ``.loom`` and the package loompy is not installed.

    Warns
    -----
    UserWarning
        If gene names were not unique and were made so.
    """
    path = Path(path)
    reader = _reader(path)
    try:
        adata = reader(path)
    except Exception as error:  # the readers raise nearly anything on a damaged file
        msg = (
            f"{str(path)!r} could not be read as {_format_name(path)}: {_first_line(error)}. "
            "Is the file complete, and is its name's ending right?"
        )
        raise ValueError(msg) from error
    if 0 in adata.shape:
        msg = (
            f"{str(path)!r} holds {adata.n_obs} cells x {adata.n_vars} genes, so there is nothing to train on. "
            "Write a file with at least one cell and one gene."
        )
        raise ValueError(msg)
    _make_genes_unique(adata, path)
    return adata


def _make_genes_unique(adata: AnnData, path: Path) -> None:
    """Give every gene a name of its own, and say which had none."""
    if adata.var_names.is_unique:
        return
    shared = adata.var_names[adata.var_names.duplicated()].unique()
    names = ", ".join(repr(str(name)) for name in shared[:3]) + (" ..." if len(shared) > 3 else "")
    adata.var_names_make_unique()
    msg = (
        f"{len(shared)} gene names occur more than once in {str(path)!r} ({names}). They were made unique by a number at the "
        f"end, as in {str(shared[0]) + '-1'!r}."
    )
    warnings.warn(msg, UserWarning, stacklevel=3)


def _reader(path: Path) -> Callable[[Path], AnnData]:
    """The reader for a path that exists and whose ending is known."""
    if not path.exists():
        msg = f"There is no file {str(path)!r}.{_similar_name(path)}"
        raise FileNotFoundError(msg)
    readers = dict(zip(SUFFIXES, (_read_h5ad, _read_10x, _read_loom, _read_zarr), strict=True))
    suffix = path.suffix.lower()
    if suffix not in readers:
        msg = (
            f"{str(path)!r} does not end in one of {', '.join(SUFFIXES)}. "
            "Read it with anndata or scanpy and write it with `adata.write_h5ad('cells.h5ad')`."
        )
        raise ValueError(msg)
    if path.is_dir() != (suffix == ".zarr"):
        found = "folder" if path.is_dir() else "file"
        msg = f"{str(path)!r} is a {found}, but {_format_name(path)} is a {'folder' if suffix == '.zarr' else 'file'}."
        raise ValueError(msg)
    if suffix == ".loom" and find_spec("loompy") is None:
        msg = f"Reading {str(path)!r} needs the package loompy: install it with `pip install loompy`."
        raise ModuleNotFoundError(msg)
    return readers[suffix]


def _read_h5ad(path: Path) -> AnnData:
    import anndata
    import h5py

    with h5py.File(path, "r") as file:
        _check_groups(file, path)
    return anndata.read_h5ad(path)


def _read_zarr(path: Path) -> AnnData:
    import anndata
    import zarr

    _check_groups(zarr.open_group(str(path), mode="r"), path)
    return anndata.read_zarr(path)


def _read_10x(path: Path) -> AnnData:
    import h5py
    import scanpy

    with h5py.File(path, "r") as file:
        if "obs" in file and "var" in file:
            msg = "it is an AnnData file, whose name should end in .h5ad"
            raise ValueError(msg)
    return scanpy.read_10x_h5(path)


def _read_loom(path: Path) -> AnnData:
    from anndata import io

    # The first matrix of a loom file has no name; anndata would look for one named "spliced".
    return io.read_loom(path, X_name="")


def _check_groups(group: object, path: Path) -> None:
    """Refuse an HDF5 or zarr file that is something else: anndata would read it as an empty object."""
    missing = [name for name in ("obs", "var") if name not in group]
    if missing:
        msg = f"it has no {' and no '.join(missing)}, which every {_format_name(path)} has"
        raise ValueError(msg)


def _format_name(path: Path) -> str:
    return {
        ".h5": "10x Cell Ranger matrix (.h5)",
        ".loom": "loom file (.loom)",
        ".zarr": "AnnData store (.zarr)",
    }.get(path.suffix.lower(), "AnnData file (.h5ad)")


def _similar_name(path: Path) -> str:
    """A sentence that names the file the user may have meant, or nothing."""
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    nearest = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {str(folder / nearest[0])!r}?" if nearest else " Check the path."


def _first_line(error: Exception) -> str:
    """What an error says, on one line and without the full stop."""
    message = str(error.args[0]) if error.args else type(error).__name__
    lines = message.strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
