"""The cells of a command: read from the files that single-cell tools write, set up, and described."""

from __future__ import annotations

import warnings
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scbetavae import __version__
from scbetavae._core.text import did_you_mean, listed
from scbetavae.cli._errors import users_mistakes
from scbetavae.cli._outputs import line

if TYPE_CHECKING:
    from anndata import AnnData

_FORMATS = {
    ".h5ad": "AnnData file (.h5ad)",
    ".h5": "10x Cell Ranger matrix (.h5)",
    ".loom": "loom file (.loom)",
    ".zarr": "AnnData store (.zarr)",
}
SUFFIXES = tuple(_FORMATS)
"""Endings that :func:`read_cells` takes, ``.h5`` being the output of 10x Cell Ranger."""


def load_cells(options: Namespace) -> AnnData:
    """The user's cells, or the bundled ones, whose columns are then the default keys."""
    if options.file is not None:
        with users_mistakes(OSError, ValueError, ModuleNotFoundError):
            return read_cells(options.file)
    from scbetavae.datasets import pbmc68k

    options.batch_key = options.batch_key or "batch"
    options.labels_key = options.labels_key or "bulk_labels"
    options.covariates = options.covariates or list(dict.fromkeys((options.batch_key, options.labels_key, "phase")))
    return pbmc68k(planted_batches=2)


def set_up(adata: AnnData, options: Namespace) -> None:
    """Call ``setup_anndata``; unless named, covariates are batch and labels."""
    from scbetavae.model import BetaVAE

    if options.covariates is None:
        named = (options.batch_key, options.labels_key)
        options.covariates = list(dict.fromkeys(key for key in named if key is not None))
    passed = ["layer", "batch_key", "labels_key", "size_factor_key", "encoder_obsm_key"]
    passed += ["categorical_covariate_keys", "continuous_covariate_keys"]
    BetaVAE.setup_anndata(adata, **{name: getattr(options, name) for name in passed})


def report_cells(adata: AnnData, options: Namespace, command: str = "") -> None:
    """The first two lines of the report."""
    source = options.file or "700 blood cells with a planted batch effect, as no file was given"
    print(f"scbetavae {__version__}{command}: {source}")
    described = [f"{adata.n_obs} cells x {adata.n_vars} genes"]
    for key, one, many in ((options.batch_key, "batch", "batches"), (options.labels_key, "label", "labels")):
        if key is not None:
            n_values = adata.obs[key].nunique()
            described.append(f"{n_values} {one if n_values == 1 else many} ({key})")
    line("data", ", ".join(described))


def read_cells(path: str | Path) -> AnnData:
    """Read cells x genes from a file into memory; its name's ending decides how.

    At least one cell and one gene, and unique gene names (with a warning if they were not). A FileNotFoundError, a ValueError for
    a file that is not what its name says, or a ModuleNotFoundError for ``.loom`` without loompy.
    """
    path = Path(path)
    suffix = _suffix_of(path)
    try:
        adata = _read(path, suffix)
    except Exception as error:  # the readers raise nearly anything on a damaged file
        message = str(error.args[0]).strip() if error.args else ""
        reason = (message.splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = "Is the file complete, and is its name's ending right?"
        msg = f"{str(path)!r} could not be read as {_FORMATS[suffix]}: {reason}. {hint}"
        raise ValueError(msg) from error
    if 0 in adata.shape:
        msg = (
            f"{str(path)!r} holds {adata.n_obs} cells x {adata.n_vars} genes, so there is nothing to train on. "
            "Write a file with at least one cell and one gene."
        )
        raise ValueError(msg)
    if not adata.var_names.is_unique:
        shared = adata.var_names[adata.var_names.duplicated()].unique()
        adata.var_names_make_unique()
        msg = (
            f"{len(shared)} gene names occur more than once in {str(path)!r} ({listed(map(str, shared), 3)}). They were made "
            f"unique by a number at the end, as in {str(shared[0]) + '-1'!r}."
        )
        warnings.warn(msg, UserWarning, stacklevel=2)
    return adata


def _suffix_of(path: Path) -> str:
    """The ending of a path that exists, is known and can be read."""
    if not path.exists():
        folder = path.parent
        near = did_you_mean(path.name, [entry.name for entry in folder.iterdir()] if folder.is_dir() else [], 0.6)
        msg = f"There is no file {str(path)!r}.{near or ' Check the path.'}"
        raise FileNotFoundError(msg)
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        msg = (
            f"{str(path)!r} does not end in one of {', '.join(SUFFIXES)}. "
            "Read it with anndata or scanpy and write it with `adata.write_h5ad('cells.h5ad')`."
        )
        raise ValueError(msg)
    if path.is_dir() != (suffix == ".zarr"):
        found, expected = ("folder", "file") if path.is_dir() else ("file", "folder")
        msg = f"{str(path)!r} is a {found}, but {_FORMATS[suffix]} is a {expected}."
        raise ValueError(msg)
    if suffix == ".loom" and find_spec("loompy") is None:
        msg = f"Reading {str(path)!r} needs the package loompy: install it with `pip install loompy`."
        raise ModuleNotFoundError(msg)
    return suffix


def _read(path: Path, suffix: str) -> AnnData:
    """Read a file; anndata would read another HDF5 or zarr file as an empty object."""
    import anndata
    import h5py
    import scanpy

    if suffix == ".loom":
        # The first matrix of a loom file has no name; anndata would look for one named "spliced".
        return anndata.io.read_loom(path, X_name="")
    if suffix == ".zarr":
        import zarr

        _check_groups(zarr.open_group(str(path), mode="r"), suffix)
        return anndata.io.read_zarr(path)
    with h5py.File(path, "r") as file:
        if suffix == ".h5ad":
            _check_groups(file, suffix)
        elif "obs" in file and "var" in file:
            msg = "it is an AnnData file, whose name should end in .h5ad"
            raise ValueError(msg)
    return anndata.io.read_h5ad(path) if suffix == ".h5ad" else scanpy.read_10x_h5(path)


def _check_groups(group: Any, suffix: str) -> None:
    """Refuse a file that is not an AnnData."""
    missing = [name for name in ("obs", "var") if name not in group]
    if missing:
        msg = f"it has no {' and no '.join(missing)}, which every {_FORMATS[suffix]} has"
        raise ValueError(msg)
