"""Library size and percent mitochondrial: what a dimension should know more than."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api import types
from scipy import sparse

from scbetavae._core.checks import as_list, check_key, check_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

LIBRARY_SIZE_COLUMNS = (
    "total_counts",
    "n_counts",
    "nCount_RNA",
    "library_size",
    "n_umi",
    "nUMI",
    "_scvi_observed_lib_size",
)
MITOCHONDRIAL_COLUMNS = (
    "pct_counts_mt", "pct_counts_mito", "percent_mito", "percent_mt", "percent.mt", "percent.mito", "mito_frac"
)  # fmt: skip
SYMBOL_COLUMNS = ("symbol", "gene_symbol", "gene_symbols", "gene_name", "gene_names", "feature_name")
_CHUNK = 4096  # cells read at once


def read_technical(adata: AnnData, technical_covariates: str | Iterable[str] | None, layer: str | None) -> pd.DataFrame:
    """Technical covariates as columns of finite numbers, named for what they are.

    Parameters
    ----------
    adata
        Annotated data.
    technical_covariates
        Columns of ``.obs`` with numbers; none of them if empty. ``None`` looks for two: the logarithm of the library size
        (from counts, otherwise from a column with a usual name) and percent mitochondrial (from a column with a usual
        name, otherwise from counts of genes whose name begins with ``MT-``).
    layer
        Layer with counts; ``None`` for ``.X``, as far as it holds counts.

    Returns
    -------
    DataFrame of shape (n_cells, n_technical covariates), possibly without columns.

    Raises
    ------
    KeyError
        If a column or the layer is not there, with the nearest that is.
    TypeError
        If a column does not hold numbers.
    ValueError
        If a column holds missing or infinite values, or the layer values that are no counts.
    """
    check_keys({"layer": layer}, adata.layers, "adata.layers")
    if technical_covariates is None:
        return _find(adata, layer)
    names = as_list(technical_covariates)
    for name in names:
        check_key(name, adata.obs.columns, "technical_covariates", "adata.obs")
    return pd.DataFrame({str(name): _read_column(adata, name) for name in names}, index=adata.obs_names)


def _read_column(adata: AnnData, name: str) -> np.ndarray:
    column = adata.obs[name]
    if not types.is_numeric_dtype(column.dtype):
        msg = f"technical_covariates={name!r} holds {column.dtype}, not numbers. Name columns of adata.obs that hold numbers."
        raise TypeError(msg)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    n_broken = int((~np.isfinite(values)).sum())
    if n_broken:
        msg = (
            f"technical_covariates={name!r} is missing or infinite in {n_broken} cells. "
            "Fill it, leave these cells out, or go without it: technical_covariates=[]."
        )
        raise ValueError(msg)
    return values


def _find(adata: AnnData, layer: str | None) -> pd.DataFrame:
    found = {}
    column = _first_usable(adata, MITOCHONDRIAL_COLUMNS)
    genes = _mitochondrial_genes(adata) if column is None else np.zeros(adata.n_vars, dtype=bool)
    totals = _count(adata, layer, genes)
    if totals is None and layer is not None:
        msg = (
            f"adata.layers[{layer!r}] holds values that are no counts (negative, fractional or not finite). "
            "Name the layer with raw counts, or columns of adata.obs: technical_covariates=[...]."
        )
        raise ValueError(msg)
    if totals is not None and totals.any():  # a minified AnnData holds zeros
        found["log library size"] = np.log1p(totals[:, 0])
    else:
        size = _first_usable(adata, LIBRARY_SIZE_COLUMNS)
        if size is not None:
            found[f"log {size}"] = np.log1p(np.maximum(_read_column(adata, size), 0.0))
    if column is not None:
        found[column] = _read_column(adata, column)
    elif totals is not None and totals[:, 1].any():
        found["percent mitochondrial"] = 100 * totals[:, 1] / np.maximum(totals[:, 0], 1.0)
    return pd.DataFrame(found, index=adata.obs_names)


def _first_usable(adata: AnnData, names: tuple[str, ...]) -> str | None:
    """The first of these columns that is there and holds finite numbers."""
    for name in names:
        if name in adata.obs and types.is_numeric_dtype(adata.obs[name].dtype):
            values = adata.obs[name].to_numpy(dtype=np.float64, na_value=np.nan)
            if np.isfinite(values).all():
                return name
    return None


def _mitochondrial_genes(adata: AnnData) -> np.ndarray:
    for names in (adata.var_names, *(adata.var[name] for name in SYMBOL_COLUMNS if name in adata.var)):
        mask = np.array([str(name).upper().startswith("MT-") for name in names], dtype=bool)
        if mask.any():
            return mask
    return np.zeros(adata.n_vars, dtype=bool)


def _count(adata: AnnData, layer: str | None, genes: np.ndarray) -> np.ndarray | None:
    """Counts of every cell, in all genes and in some, (n_cells, 2); ``None`` if the matrix holds no counts."""
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        return None
    totals = np.zeros((adata.n_obs, 2))
    for start in range(0, adata.n_obs, _CHUNK):
        part: Any = matrix[start : start + _CHUNK]
        values = part.data if sparse.issparse(part) else np.asarray(part)
        if not np.issubdtype(values.dtype, np.number) or not _are_counts(values):
            return None
        totals[start : start + _CHUNK, 0] = np.asarray(part.sum(axis=1)).reshape(-1)
        if genes.any():
            totals[start : start + _CHUNK, 1] = np.asarray(part[:, np.flatnonzero(genes)].sum(axis=1)).reshape(-1)
    return totals


def _are_counts(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values == np.rint(values)).all())
