"""Gene symbols, given, guessed for Ensembl ids, or absent; and the most variable genes."""

from argparse import Namespace

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

from scbetavae.cli._genes import MANY_GENES, choose_symbols, keep_variable_genes

HUMAN = ["ENSG00000000001", "ENSG00000000002.7", "ENSG00000000003", "MT-CO1"]
MOUSE = ["ENSMUSG00000000001", "ENSMUSG00000000002", "ENSMUSG00000000003", "Gm1"]
SYMBOLS = ["CD3D", None, "GNLY", "MT-CO1"]


def cells(names, **columns):
    adata = AnnData(np.ones((2, len(names)), dtype=np.float32))
    adata.var_names = names
    for name, values in columns.items():
        adata.var[name] = values
    return adata


def chosen(adata, given=None):
    options = Namespace(gene_symbols=given)
    return choose_symbols(adata, options), options


@pytest.mark.parametrize("names", [HUMAN, MOUSE])
@pytest.mark.parametrize("column", ["gene_symbols", "symbol", "feature_name", "gene_name"])
def test_guess_for_ensembl_ids(names, column):
    adata = cells(names, length=[1, 2, 3, 4], **{column: pd.Categorical(SYMBOLS)})
    text, options = chosen(adata)
    assert options.gene_symbols == column
    assert text == f"Ensembl ids; symbols from .var[{column!r}], another column with --gene-symbols"


def test_a_column_of_ids_or_numbers_is_no_column_of_symbols():
    adata = cells(HUMAN, gene_symbols=HUMAN, symbol=[1, 2, 3, 4], feature_name=[None] * 4)
    text, options = chosen(adata)
    assert options.gene_symbols is None
    assert "--gene-symbols COLUMN" in text
    adata.var["gene_name"] = SYMBOLS
    assert chosen(adata)[1].gene_symbols == "gene_name"


def test_symbols_as_names_need_nothing():
    adata = cells(["CD3D", "ENSG00000000002", "GNLY"], symbol=["a", "b", "c"])
    text, options = chosen(adata)
    assert (text, options.gene_symbols) == ("", None)


def test_a_given_column_wins_and_must_exist():
    adata = cells(HUMAN, symbol=SYMBOLS, mine=["a", "b", "c", ""])
    text, _ = chosen(adata, "mine")
    assert text == "symbols from .var['mine']"
    with pytest.raises(KeyError, match=r"--gene-symbols.*'symbol'"):
        chosen(adata, "symbl")


def variable(n_top_genes, layer=None):
    """Cells of two types that differ in the first five of 300 genes, of which all have the same mean."""
    rng = np.random.default_rng(0)
    means = np.full((80, 300), 20.0)
    means[:40, :5], means[40:, :5] = 2.0, 38.0
    adata = anndata.AnnData(rng.poisson(means).astype(np.float32))
    adata.layers["counts"] = adata.X.copy()
    adata.var_names = [f"g{i}" for i in range(300)]
    text = keep_variable_genes(adata, Namespace(n_top_genes=n_top_genes, layer=layer))
    return adata, text


@pytest.mark.parametrize("layer", [None, "counts"])
def test_the_most_variable_genes_are_kept(layer):
    adata, text = variable(10, layer)
    logs, _ = variable(None)
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    sc.pp.highly_variable_genes(logs, n_top_genes=10)
    assert adata.var_names.tolist() == logs.var_names[logs.var["highly_variable"]].tolist()
    assert len({f"g{i}" for i in range(5)} & set(adata.var_names)) >= 3
    assert text == f"the {adata.n_vars} most variable of 300"
    np.testing.assert_array_equal(adata.X, adata.layers["counts"])  # still counts


def test_all_genes_are_kept_without_the_option_or_with_too_few():
    assert variable(None)[0].n_vars == variable(300)[0].n_vars == 300
    assert variable(None)[1] == ""
    assert variable(300)[1] == "all 300, which are not more than --n-top-genes 300"


@pytest.mark.parametrize(("n_genes", "says"), [(MANY_GENES, False), (MANY_GENES + 1, True)])
def test_many_genes_are_pointed_out(n_genes, says):
    adata = anndata.AnnData(np.zeros((1, n_genes), dtype=np.float32))
    assert ("--n-top-genes 2000" in keep_variable_genes(adata, Namespace(n_top_genes=None, layer=None))) == says
