"""Dimension cards: what they say of planted dimensions, how names are chosen on either side of a threshold, who keeps them."""

import anndata
import numpy as np
import pandas as pd
import pytest

from scbetavae import tl
from scbetavae.tl._dimension_names import (
    CLEAR,
    LEAST_DIRECTION,
    LEAST_INFORMATION,
    LEAST_TECHNICAL,
    derive_names,
    read_names,
)

GENES = [f"gene_{i}" for i in range(60)]


@pytest.fixture
def adata():
    """Dimension 0 is the batch, 1 marks class A, 2 is depth, 3 is noise."""
    rng = np.random.default_rng(0)
    n = 300
    batch, label = np.where(np.arange(n) % 2, "b1", "b0"), np.array(["A", "B", "C"])[np.arange(n) % 3]
    depth = rng.lognormal(5, 0.6, size=n)
    counts = rng.poisson(depth[:, None] / 60 * np.ones(60)).astype(np.float32)
    adata = anndata.AnnData(
        counts, obs=pd.DataFrame({"batch": batch, "cell_type": label}, index=[f"c{i}" for i in range(n)])
    )
    adata.var_names = GENES
    latent = 0.2 * rng.normal(size=(n, 4))
    latent[:, 0] += batch == "b1"
    latent[:, 1] += label == "A"
    latent[:, 2] = np.log(counts.sum(axis=1))
    adata.obsm["X_test"] = latent
    adata.varm["loadings"] = rng.normal(size=(60, 4))
    return adata


WHERE = {"obsm_key": "X_test", "loadings_key": "loadings"}
SETS = {"set": GENES[:8]}


def test_cards_name_what_was_planted(adata):
    cards = tl.describe_dimensions(adata, ["batch", "cell_type"], gene_sets=SETS, **WHERE)
    assert cards["name"].tolist()[:3] == ["batch", "A", "log library size"]
    assert cards["encodes"].tolist()[:2] == ["high in b1", "high in A"]
    assert cards["warning"].iloc[2].startswith("follows log library size, r = 1.0")
    assert cards["warning"].iloc[[0, 1, 3]].tolist() == ["", "", ""]
    top = cards["genes_up"].iloc[3].split(", ")[0].split(" ")[0]
    assert top == GENES[int(np.argmax(adata.varm["loadings"][:, 3]))]
    assert cards["name"].iloc[3].startswith(top) or "gene_" in cards["name"].iloc[3]


def test_a_class_at_the_low_end_is_named_as_low(adata):
    adata.obsm["X_test"][:, 1] *= -1
    cards = tl.describe_dimensions(adata, "cell_type", gene_sets=SETS, **WHERE)
    assert cards["name"].iloc[1] == "A (low)"
    assert cards["encodes"].iloc[1] == "low in A"


def test_without_labels_cards_name_genes(adata):
    cards = tl.describe_dimensions(adata, gene_sets=SETS, **WHERE)
    assert (cards["encodes"] == "").all()
    assert cards["information"].isna().all()
    assert cards["name"].is_unique


def test_names_of_the_user_are_kept_and_shown(adata):
    tl.describe_dimensions(adata, gene_sets=SETS, names={1: "mine"}, **WHERE)
    cards = tl.describe_dimensions(adata, "batch", gene_sets=SETS, **WHERE)
    assert cards["name"].iloc[1] == "mine"
    assert cards["named_by"].tolist() == ["derived", "user", "derived", "derived"]
    again = tl.describe_dimensions(adata, "batch", gene_sets=SETS, names={0: "batch effect"}, **WHERE)
    assert again["name"].tolist()[:2] == ["batch effect", "mine"]


@pytest.mark.parametrize(
    ("names", "error", "text"),
    [
        ({9: "x"}, ValueError, "numbered from 0 to 3"),
        ({"no": "x"}, KeyError, "names no dimension"),
        ({0: ""}, ValueError, "not empty"),
        ({0: 3}, ValueError, "not empty"),
        ({0: "x", 1: "x"}, ValueError, "to several dimensions"),
    ],
)
def test_bad_names_are_refused(adata, names, error, text):
    with pytest.raises(error, match=text):
        tl.describe_dimensions(adata, gene_sets=SETS, names=names, **WHERE)
    assert "betavae" not in adata.uns


def test_default_sets_are_skipped_where_no_gene_matches(adata, caplog):
    cards = tl.describe_dimensions(adata, **WHERE)
    assert "Cards have no gene sets" in caplog.text
    assert (cards["gene_set_up"] == "").all()


def test_cards_survive_a_file(adata, tmp_path):
    cards = tl.describe_dimensions(adata, "batch", gene_sets=SETS, **WHERE)
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "a.h5ad").uns["betavae"]["dimensions"].reset_index(drop=True)
    pd.testing.assert_frame_equal(back, cards, check_dtype=False)


def card(**known):
    """A card of which nothing is known but this."""
    nothing = {"dimension": 0, "role": "free", "covariate": "", "class": "", "information": np.nan, "direction": np.nan}
    nothing |= {"marks_class": False, "technical": "", "technical_r": np.nan, "named_after": ("", "up", [], 1.0)}
    return nothing | {"top": {"up": [("G1", 2.0), ("G2", 1.0)], "down": [("G3", -3.0)]}} | known


CLASS = {"covariate": "cell_type", "class": "B cells", "marks_class": True, "information": 0.9, "direction": 0.9}


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({}, "G3"),
        ({"role": "guided:batch"}, "batch"),
        (CLASS | {"information": LEAST_INFORMATION}, "B cells"),
        (CLASS | {"information": LEAST_INFORMATION - 1e-6}, "G3"),
        (CLASS | {"direction": LEAST_DIRECTION}, "B cells"),
        (CLASS | {"direction": LEAST_DIRECTION - 1e-6}, "G3"),
        (CLASS | {"direction": -LEAST_DIRECTION}, "B cells (low)"),
        ({"technical": "depth", "technical_r": -LEAST_TECHNICAL}, "depth"),
        ({"technical": "depth", "technical_r": LEAST_TECHNICAL - 1e-6}, "G3"),
        (
            {"named_after": ("interferon", "up", ["ISG15", "IFI6", "MX1", "LY6E"], 0.04)},
            "interferon (ISG15, IFI6, MX1)",
        ),
        ({"named_after": ("interferon", "down", ["ISG15"], 0.04)}, "interferon, low (ISG15)"),
        (CLASS | {"covariate": "condition", "marks_class": False}, "condition"),
        (
            CLASS | {"covariate": "condition", "marks_class": False, "named_after": ("ifn", "up", [], CLEAR / 2)},
            "condition: ifn",
        ),
        (
            CLASS | {"covariate": "condition", "marks_class": False, "named_after": ("ifn", "up", [], CLEAR)},
            "condition",
        ),
        ({"top": {"up": [], "down": []}}, "dim_0"),
    ],
)
def test_names_by_rule(known, name):
    assert derive_names([card(**known)]) == [name]


def test_no_two_names_are_alike():
    cards = [card(**CLASS), card(**CLASS, top={"up": [("G9", 5.0)], "down": []}), card(**CLASS), card(), card()]
    names = derive_names(cards)
    assert len(set(names)) == 5
    assert names[:2] == ["B cells (G3)", "B cells (G9)"]


def test_names_by_number_or_by_name():
    assert read_names({0: "a", "dim_1": "b"}, ["dim_0", "dim_1"]) == {0: "a", 1: "b"}
