"""Names of genes: identifiers in ``.var_names``, symbols in a column of ``.var``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from scbetavae._core.checks import check_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

IDENTIFIER = re.compile(r"(ENS[A-Z]*G|FBgn|WBGene)\d+")
SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "symbol", "feature_name", "gene_name", "gene_names")
"""Columns of ``.var`` that usually hold symbols."""


def var_of(adata: AnnData) -> pd.DataFrame:
    """``adata.var``, which is a DataFrame unless the AnnData was opened lazily."""
    return cast("pd.DataFrame", adata.var)


def gene_symbols_of(adata: AnnData, gene_symbols: str | None) -> pd.Series:
    """Name to show for each gene, by its ``.var_names``: the symbol in a column of ``.var``, or the name where it is missing."""
    names = pd.Index(adata.var_names).astype(str)
    if gene_symbols is None:
        return pd.Series(names.to_numpy(object), index=names)
    check_key(gene_symbols, list(adata.var.columns), "gene_symbols", "adata.var")
    column = var_of(adata)[gene_symbols]
    blank = (column.isna() | (column.astype(str).str.strip() == "")).to_numpy()
    return pd.Series(np.where(blank, names.to_numpy(object), column.astype(object).to_numpy()), index=names).astype(str)


def guess_gene_symbols(adata: AnnData) -> str | None:
    """The column of ``.var`` that holds symbols, if ``.var_names`` hold identifiers; ``None`` if there is none or no need."""
    if not are_identifiers(adata.var_names):
        return None
    usual = (name for name in SYMBOL_COLUMNS if name in adata.var)
    return next((name for name in usual if _holds_symbols(var_of(adata)[name].dropna())), None)


def _holds_symbols(column: pd.Series) -> bool:
    """Whether a column holds texts that are no identifiers."""
    return bool(len(column)) and isinstance(column.iloc[0], str) and not are_identifiers(column)


def are_identifiers(names: Iterable[object]) -> bool:
    """Whether most of these names are identifiers of a database, such as ``ENSG00000187608``."""
    found = [bool(IDENTIFIER.match(str(name))) for name in names]
    return bool(found) and float(np.mean(found)) > 0.5
