"""The marker gene sets: about thirty, large enough to test, each with a citation that the docs know."""

from pathlib import Path

import pytest

from scbetavae.datasets import marker_gene_sets

REFERENCES = Path(__file__).parents[2] / "docs" / "references.bib"


def test_sets_are_large_enough_and_cited():
    sets = marker_gene_sets()
    sizes = sets.groupby("source").size()
    assert 25 <= len(sizes) <= 40
    assert sizes.min() >= 8
    assert not sets.duplicated(["source", "target"]).any()
    known = REFERENCES.read_text(encoding="utf-8")
    assert all(f"{{{key}," in known for key in sets["reference"].unique())


def test_kinds():
    assert set(marker_gene_sets("program")["kind"]) == {"program"}
    with pytest.raises(ValueError, match="Did you mean 'program'"):
        marker_gene_sets("programs")
