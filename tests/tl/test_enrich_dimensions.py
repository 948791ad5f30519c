"""Gene sets along dimensions: the score is a t-value, the null holds, and bad input is refused before work."""

import builtins

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scbetavae import tl
from scbetavae.datasets import marker_gene_sets
from scbetavae.tl import _enrich_dimensions as module

GENES = [f"gene_{i}" for i in range(200)]


@pytest.fixture
def adata():
    """Two dimensions: the first ten genes rise along dimension 0, the next ten fall along dimension 1."""
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(rng.poisson(3.0, size=(50, 200)).astype(np.float32))
    adata.var_names, adata.obs_names = GENES, [f"cell_{i}" for i in range(50)]
    adata.obsm["X_test"] = rng.normal(size=(50, 2))
    loadings = rng.normal(size=(200, 2))
    loadings[:10, 0] += 3
    loadings[10:20, 1] -= 3
    adata.varm["loadings"] = loadings
    return adata


SETS = {"rising": GENES[:10], "falling": GENES[10:20], "neither": GENES[50:60], "small": GENES[:4]}
WHERE = {"obsm_key": "X_test", "loadings_key": "loadings"}


def test_score_is_the_t_value_of_a_regression_on_normal_scores(adata):
    table = tl.enrich_dimensions(adata, SETS, **WHERE)
    for row in table.itertuples():
        y = stats.norm.ppf((stats.rankdata(adata.varm["loadings"][:, row.dimension]) - 0.5) / 200)
        fit = stats.linregress(np.isin(GENES, SETS[row.gene_set]).astype(float), y)
        assert row.score == pytest.approx(fit.slope / fit.stderr, rel=1e-6)
        assert row.p_value == pytest.approx(fit.pvalue, rel=1e-6)
    np.testing.assert_allclose(table["p_adjusted"], stats.false_discovery_control(table["p_value"]))


def test_planted_sets_come_first_in_their_direction(adata):
    table = tl.enrich_dimensions(adata, SETS, **WHERE)
    first = table.groupby("dimension").first()
    assert first["gene_set"].tolist() == ["rising", "falling"]
    assert first["direction"].tolist() == ["up", "down"]
    assert set(first.loc[0, "genes"].split(", ")) <= set(SETS["rising"])
    assert "small" not in set(table["gene_set"])


def test_result_is_stored_and_survives_a_file(adata, tmp_path):
    table = tl.enrich_dimensions(adata, SETS, **WHERE)
    adata.write_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(
        anndata.read_h5ad(tmp_path / "a.h5ad").uns["betavae"]["gene_sets"].reset_index(drop=True),
        table,
        check_dtype=False,
    )


def test_network_dict_and_file_agree(adata, tmp_path):
    network = pd.DataFrame(
        [(name, gene) for name, genes in SETS.items() for gene in genes], columns=["source", "target"]
    )
    path = tmp_path / "sets.gmt"
    path.write_text("".join(f"{name}\tdescription\t" + "\t".join(genes) + "\n" for name, genes in SETS.items()))
    tables = [tl.enrich_dimensions(adata, sets, **WHERE) for sets in (SETS, network, path, str(path))]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


def test_negative_weights_turn_the_direction(adata):
    network = pd.DataFrame({"source": "s", "target": GENES[:10], "weight": -1.0})
    other = pd.DataFrame({"source": "t", "target": GENES[:10], "weight": 1.0})
    table = tl.enrich_dimensions(adata, pd.concat([network, other]), **WHERE)
    score = table[table["dimension"] == 0].set_index("gene_set")["score"]
    assert score["s"] == pytest.approx(-score["t"])


def test_permuted_gene_labels_give_no_set_in_95_of_100_draws():
    """Heavy-tailed changes, as those of a decoder, and sets of the sizes that are shipped."""
    rng = np.random.default_rng(0)
    genes = pd.Index(marker_gene_sets()["target"].unique()).append(pd.Index([f"other_{i}" for i in range(400)]))
    changes = pd.DataFrame(rng.standard_t(3, size=(10, len(genes))), columns=genes)
    network = module.read_gene_sets(None)
    found = 0
    for _ in range(100):
        permuted = changes.set_axis(rng.permutation(genes), axis=1)
        found += bool((module.run_enrichment(permuted, None, network)["p_adjusted"] < 0.05).any())
    assert found <= 5


def test_symbols_are_used_where_they_are_named(adata):
    adata.var["symbol"] = GENES
    adata.var_names = [f"ENSG{i:011d}" for i in range(200)]
    with pytest.raises(ValueError, match="identifiers and the other symbols: name the column"):
        tl.enrich_dimensions(adata, SETS, **WHERE)
    table = tl.enrich_dimensions(adata, SETS, gene_symbols="symbol", **WHERE)
    assert table["gene_set"].iloc[0] == "rising"


def test_a_tenth_of_the_genes_is_enough(adata):
    sets = {"set": [*GENES[:10], *(f"unknown_{i}" for i in range(90))]}
    assert len(tl.enrich_dimensions(adata, sets, **WHERE)) == 2
    sets["set"].append("unknown_90")
    with pytest.raises(ValueError, match="Only 10 of the 101 genes"):
        tl.enrich_dimensions(adata, sets, **WHERE)


@pytest.mark.parametrize(
    ("sets", "error", "text"),
    [
        ("missing.gmt", ValueError, "is not a file"),
        ({}, ValueError, "holds no genes"),
        ({"a": GENES[:4]}, ValueError, "No gene set has 5 measured genes"),
        (pd.DataFrame({"source": ["a"]}), ValueError, "no column 'target'"),
        (3, TypeError, "gene_sets is a int"),
    ],
)
def test_bad_gene_sets_are_refused(adata, sets, error, text):
    before = dict(adata.uns)
    with pytest.raises(error, match=text):
        tl.enrich_dimensions(adata, sets, **WHERE)
    assert adata.uns == before


def test_what_is_no_gmt_file_is_refused(adata, tmp_path):
    (tmp_path / "a.gmt").write_text("only a name\n")
    with pytest.raises(ValueError, match=r"is not a \.gmt file"):
        tl.enrich_dimensions(adata, tmp_path / "a.gmt", **WHERE)


def test_without_traversal_or_loadings(adata):
    with pytest.raises(KeyError, match="loadings_key='loadings'"):
        tl.enrich_dimensions(adata, SETS, obsm_key="X_test")
    adata.varm["three"] = np.ones((200, 3))
    with pytest.raises(ValueError, match="has 3 columns"):
        tl.enrich_dimensions(adata, SETS, obsm_key="X_test", loadings_key="three")


def test_without_decoupler(adata, monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "decoupler" else real(name))
    with pytest.raises(ImportError, match=r"scbetavae\[enrichment\]"):
        tl.enrich_dimensions(adata, SETS, **WHERE)
    cards = tl.describe_dimensions(adata, **WHERE)
    assert (cards["gene_set_up"] == "").all()
