"""Gene symbols, for files whose genes are named by Ensembl ids."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from scbetavae._core.checks import check_keys
from scbetavae._core.genes import are_identifiers, guess_gene_symbols

if TYPE_CHECKING:
    from anndata import AnnData


def choose_symbols(adata: AnnData, options: Namespace) -> str:
    """Check ``options.gene_symbols``, or set it if names are Ensembl ids and symbols are found; the line of the report.

    A KeyError if there is no column of the name that was given.
    """
    if options.gene_symbols is not None:
        check_keys({"--gene-symbols": options.gene_symbols}, adata.var.columns, "adata.var")
        return f"symbols from .var[{options.gene_symbols!r}]"
    if not are_identifiers(adata.var_names):
        return ""
    options.gene_symbols = guess_gene_symbols(adata)
    if options.gene_symbols is None:
        return "Ensembl ids; if a column of .var holds symbols, name it: --gene-symbols COLUMN"
    return f"Ensembl ids; symbols from .var[{options.gene_symbols!r}], another column with --gene-symbols"
