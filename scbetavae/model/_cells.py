"""Which cells a method reads: ``indices`` means the same in all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbetavae._core.columns import obs_of
from scbetavae._core.text import did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData

_COMPARED = 20_000  # names among which the nearest is looked for


def resolve_rows(adata: AnnData, cells: Any, argument: str = "indices", *, at_least_one: bool = False) -> np.ndarray:
    """Positions of cells in the order given: ``None`` for all, a mask, positions (below 0 from the end), names, or a slice.

    A boolean Series that lists the cells in another order is read by its index.
    """
    everyone = np.arange(adata.n_obs)
    if cells is None:
        rows = everyone
    elif isinstance(cells, slice):
        rows = everyone[cells]
    else:
        wanted = _as_array(adata, cells, argument)
        if wanted.dtype.kind in "iu":
            rows = _rows_of_positions(wanted.astype(np.int64), adata.n_obs, argument)
        elif wanted.dtype != bool:
            rows = _rows_of_names(wanted, adata.obs_names, argument)
        elif len(wanted) == adata.n_obs:
            rows = np.flatnonzero(wanted)
        else:
            msg = (
                f"{argument} is a mask of {len(wanted)} values, but adata has {adata.n_obs} cells. Give a mask of shape "
                f'({adata.n_obs},), for example adata.obs["batch"] == "b1".'
            )
            raise ValueError(msg)
    if at_least_one and not len(rows):
        msg = f"{argument} names no cells. Give at least one cell, or leave it out."
        raise ValueError(msg)
    return rows


def rows_of_population(adata: AnnData, cells: Any, argument: str) -> np.ndarray | None:
    """Like `resolve_rows`, but a string is a query of ``.obs``, as scvi-tools reads it, and ``None`` stays."""
    if isinstance(cells, str):
        # Not by the names of the cells that the query finds, which other cells may share.
        place = "_place"
        return obs_of(adata).assign(**{place: np.arange(adata.n_obs)}).query(cells)[place].to_numpy()
    return None if cells is None else resolve_rows(adata, cells, argument)


def _as_array(adata: AnnData, cells: Any, argument: str) -> np.ndarray:
    """The cells as booleans, integers or strings of shape (n,)."""
    if isinstance(cells, pd.Series) and pd.api.types.is_bool_dtype(cells.dtype):
        same_cells = len(cells) == adata.n_obs and cells.index.is_unique and adata.obs_names.is_unique
        if same_cells and cells.index.isin(adata.obs_names).all():
            cells = cells.loc[adata.obs_names]
    try:
        wanted = np.asarray(cells)
        wanted = np.array(wanted.tolist()) if wanted.dtype == object else wanted
    except ValueError:  # lists of several lengths
        wanted = np.empty((0, 0))
    column = wanted.ndim == 2 and wanted.shape[1] == 1
    wanted = wanted.reshape(-1) if column or wanted.ndim == 0 else wanted
    if wanted.shape == (0,) and wanted.dtype != bool:
        return wanted.astype(np.int64)
    if wanted.ndim != 1 or wanted.dtype.kind not in "biuUT":
        msg = (
            f"{argument} (shape {wanted.shape}, dtype {wanted.dtype}) names no cells. Give a boolean mask of shape "
            f"({adata.n_obs},), positions, or names of cells."
        )
        raise ValueError(msg)
    return wanted


def _rows_of_positions(positions: np.ndarray, n_cells: int, argument: str) -> np.ndarray:
    wrong = positions[(positions < -n_cells) | (positions >= n_cells)]
    if len(wrong):
        msg = (
            f"{argument} has {len(wrong)} positions that do not exist, the first {wrong[0]}: adata has {n_cells} cells, "
            f"positions from 0 to {n_cells - 1}, or -1 to -{n_cells} from the end."
        )
        raise ValueError(msg)
    return np.where(positions < 0, positions + n_cells, positions)


def _rows_of_names(names: np.ndarray, obs_names: pd.Index, argument: str) -> np.ndarray:
    rows = np.flatnonzero(obs_names.isin(names))
    found = obs_names[rows].astype(object)
    if not found.is_unique:
        shared = found[found.duplicated()]
        msg = (
            f"{argument} names {shared[0]!r}, a name of {int((found == shared[0]).sum())} cells of adata. Give positions, or "
            "make the names unique first: adata.obs_names_make_unique()."
        )
        raise ValueError(msg)
    places = found.get_indexer(pd.Index(names.astype(object)))
    missing = names[places < 0]
    if len(missing):
        hint = (
            did_you_mean(missing[0], obs_names[:_COMPARED], cutoff=0.6)
            or f" Its names look like {str(obs_names[0])!r}."
        )
        msg = f"{argument}: {len(missing)} of {len(names)} names are of no cell of adata, the first {str(missing[0])!r}.{hint}"
        raise KeyError(msg)
    return rows[places]
