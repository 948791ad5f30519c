"""Library size and percent mitochondrial: what a dimension should predict more than."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from pandas.api import types
from scipy import sparse

from scbetavae._core.checks import as_list, check_keys
from scbetavae._core.columns import obs_of
from scbetavae._core.genes import SYMBOL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable

LIBRARY_SIZE_COLUMNS = (
    "total_counts", "n_counts", "nCount_RNA", "library_size", "n_umi", "nUMI", "_scvi_observed_lib_size"
)  # fmt: skip
MITOCHONDRIAL_COLUMNS = (
    "pct_counts_mt", "pct_counts_mito", "percent_mito", "percent_mt", "percent.mt", "percent.mito", "mito_frac"
)  # fmt: skip
_CHUNK = 4096  # cells read at once


def read_technical(
    adata: AnnData, technical_covariates: str | Iterable[str] | None, layer: str | None, *, genes_detected: bool = False
) -> pd.DataFrame:
    """Technical covariates as columns of finite numbers, named for what they are; refused with the nearest name or the cells.

    ``None`` looks for two: the logarithm of the library size (from counts, otherwise from a column with a usual name) and percent
    mitochondrial (from a column with a usual name, otherwise from counts of genes whose name begins with ``MT-``); with
    ``genes_detected`` also for the logarithm of the number of genes with counts.
    """
    check_keys({"layer": layer}, adata.layers, "adata.layers")
    if technical_covariates is None:
        return _find(adata, layer, genes_detected)
    names = as_list(technical_covariates)
    for name in names:
        check_keys({"technical_covariates": name}, adata.obs.columns, "adata.obs")
    return pd.DataFrame({str(name): _read_column(adata, name) for name in names}, index=adata.obs_names)


def _values(adata: AnnData, name: str) -> np.ndarray:
    """A column as float64, NaN where it is missing."""
    return obs_of(adata)[name].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)


def _read_column(adata: AnnData, name: str) -> np.ndarray:
    kind = obs_of(adata)[name].dtype
    if not types.is_numeric_dtype(kind):
        msg = f"technical_covariates={name!r} holds {kind}, not numbers. Name columns of adata.obs that hold numbers."
        raise TypeError(msg)
    values = _values(adata, name)
    n_broken = int((~np.isfinite(values)).sum())
    if n_broken:
        msg = (
            f"technical_covariates={name!r} is missing or infinite in {n_broken} cells. "
            "Fill it, leave these cells out, or go without it: technical_covariates=[]."
        )
        raise ValueError(msg)
    return values


def _find(adata: AnnData, layer: str | None, genes_detected: bool) -> pd.DataFrame:
    """Log library size and percent mitochondrial, as far as they can be found."""
    found = {}
    column = _first_usable(adata, MITOCHONDRIAL_COLUMNS)
    genes = np.zeros(adata.n_vars, dtype=bool) if column is not None else _mitochondrial_genes(adata)
    totals = _count(adata, layer, genes)
    if totals is None and layer is not None:
        msg = (
            f"adata.layers[{layer!r}] does not hold counts: values are negative, fractional or not finite. "
            "Name the layer with raw counts, or columns of adata.obs: technical_covariates=[...]."
        )
        raise ValueError(msg)
    if totals is not None and totals["total_counts"].any():  # a minified AnnData holds zeros
        found["log library size"] = np.log1p(totals["total_counts"].to_numpy(np.float64))
        if genes_detected:
            found["log genes detected"] = np.log1p(totals["n_genes_by_counts"].to_numpy(np.float64))
    else:
        size = _first_usable(adata, LIBRARY_SIZE_COLUMNS)
        if size is not None:
            found[f"log {size}"] = np.log1p(np.maximum(_read_column(adata, size), 0.0))
    if column is not None:
        found[column] = _read_column(adata, column)
    elif totals is not None and totals["total_counts_mt"].any():
        found["percent mitochondrial"] = totals["pct_counts_mt"].fillna(0).to_numpy(np.float64)
    return pd.DataFrame(found, index=adata.obs_names)


def _first_usable(adata: AnnData, names: tuple[str, ...]) -> str | None:
    """The first of these columns that is there and holds finite numbers."""
    usable = (n for n in names if n in adata.obs and types.is_numeric_dtype(obs_of(adata)[n].dtype))
    return next((name for name in usable if np.isfinite(_values(adata, name)).all()), None)


def _mitochondrial_genes(adata: AnnData) -> np.ndarray:
    """Genes named ``MT-...``."""
    for names in (adata.var_names, *(adata.var[name] for name in SYMBOL_COLUMNS if name in adata.var)):
        mask = np.array([str(name).upper().startswith("MT-") for name in names], dtype=bool)
        if mask.any():
            return mask
    return np.zeros(adata.n_vars, dtype=bool)


def _count(adata: AnnData, layer: str | None, genes: np.ndarray) -> pd.DataFrame | None:
    """Scanpy's quality measures of every cell; ``None`` if the matrix does not hold counts."""
    import scanpy as sc

    matrix: Any = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        return None
    parts = []
    for start in range(0, adata.n_obs, _CHUNK):  # a part at a time, for matrices on disk
        part = matrix[start : start + _CHUNK]
        values = part.data if sparse.issparse(part) else np.asarray(part)
        if not np.issubdtype(values.dtype, np.number) or not _are_counts(values):
            return None
        cells = AnnData(
            part.astype(np.float64), var=pd.DataFrame({"mt": genes}, index=np.arange(len(genes)).astype(str))
        )
        measures: Any = sc.pp.calculate_qc_metrics(cells, qc_vars=["mt"], percent_top=None, inplace=False)
        parts.append(measures[0])
    return pd.concat(parts)


def _are_counts(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values == np.rint(values)).all())
