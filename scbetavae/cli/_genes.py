"""Gene symbols, for files whose genes are named by Ensembl ids."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, cast

import pandas as pd

from scbetavae._core.checks import check_keys

if TYPE_CHECKING:
    from anndata import AnnData

SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "symbol", "feature_name", "gene_name", "gene_names")
_ENSEMBL = r"ENS[A-Z]*G\d{6,}(?:\.\d+)?"  # of any species, with or without a version
_MOST = 0.5  # share of names from which on all count as Ensembl ids


def choose_symbols(adata: AnnData, options: Namespace) -> str:
    """Check ``options.gene_symbols``, or set it if names are Ensembl ids and symbols are found; the line of the report.

    A KeyError if there is no column of the name that was given.
    """
    if options.gene_symbols is not None:
        check_keys({"--gene-symbols": options.gene_symbols}, adata.var.columns, "adata.var")
        return f"symbols from .var[{options.gene_symbols!r}]"
    if not _are_ensembl(adata.var_names):
        return ""
    var = cast("pd.DataFrame", adata.var)
    options.gene_symbols = next((name for name in SYMBOL_COLUMNS if _has_symbols(var, name)), None)
    if options.gene_symbols is None:
        return "Ensembl ids; if a column of .var holds symbols, name it: --gene-symbols COLUMN"
    return f"Ensembl ids; symbols from .var[{options.gene_symbols!r}], another column with --gene-symbols"


def symbols_of(adata: AnnData, options: Namespace) -> pd.Series:
    """What to show for each gene, by its name: the symbol if there is one."""
    names = pd.Series(adata.var_names.astype(str), index=adata.var_names)
    if options.gene_symbols is None:
        return names
    symbols = adata.var[options.gene_symbols].astype("string")
    return names.where(symbols.isna() | (symbols == ""), symbols)


def _are_ensembl(names: pd.Index | pd.Series) -> bool:
    return bool(names.astype(str).str.fullmatch(_ENSEMBL).mean() > _MOST)


def _has_symbols(var: pd.DataFrame, name: str) -> bool:
    """Whether a column holds text that is no Ensembl id."""
    if name not in var or pd.api.types.is_numeric_dtype(var[name]):
        return False
    symbols = var[name].dropna()
    return len(symbols) > 0 and not _are_ensembl(symbols)
