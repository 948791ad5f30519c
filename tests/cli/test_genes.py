"""Gene symbols: given, guessed for Ensembl ids, or absent."""

from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scbetavae.cli._genes import choose_symbols

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
