"""Genes of a command: the most variable ones, and symbols where they are named by Ensembl ids."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pandas as pd
from anndata import AnnData

from scbetavae._core.checks import check_keys
from scbetavae._core.genes import are_identifiers, guess_gene_symbols

MANY_GENES = 5000
"""Genes above which a command suggests to select the most variable."""


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


def keep_variable_genes(adata: AnnData, options: Namespace) -> str:
    """Leave the most variable genes of the log-normalized counts in ``adata``, if the user wants that; the line of the report."""
    n_top, n_genes = options.n_top_genes, adata.n_vars
    if n_top is None:
        if n_genes <= MANY_GENES:
            return ""
        return f"all {n_genes}; the most variable give clearer dimensions in less time: --n-top-genes 2000"
    if n_top >= n_genes:
        return f"all {n_genes}, which are not more than --n-top-genes {n_top}"
    import scanpy as sc

    check_keys({"--layer": options.layer}, adata.layers, "adata.layers")
    counts: Any = adata.X if options.layer is None else adata.layers[options.layer]
    cells = AnnData(counts.copy(), var=pd.DataFrame(index=adata.var_names))
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.highly_variable_genes(cells, n_top_genes=n_top)
    adata._inplace_subset_var(cells.var["highly_variable"].to_numpy())
    return f"the {adata.n_vars} most variable of {n_genes}"
