"""The agreement of several embeddings: dots and bars are those of the table, one row per dimension."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure

import scbetavae
from scbetavae.pl._consensus import _frame


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(100, 3))
    adata = AnnData(obs=pd.DataFrame(index=[f"cell {i}" for i in range(100)]))
    for i in range(3):
        adata.obsm[f"seed {i}"] = shared + [0.1, 0.5, 1.0] * rng.normal(size=shared.shape)
    adata.obsm["seed 2"][:, 2] = 0.0
    scbetavae.tl.consensus_dimensions(adata, [f"seed {i}" for i in range(3)])
    return adata


def test_dots_and_bars_are_those_of_the_table(adata):
    axes = scbetavae.pl.consensus(adata)
    matches, frame = (adata.uns["betavae"][name] for name in ("consensus_matches", "consensus"))
    dots, bars = (collection.get_offsets() for collection in axes.collections)
    np.testing.assert_allclose(np.sort(dots[:, 0]), np.sort(matches["agreement"]))
    assert np.round(dots[:, 1]).tolist() == matches["dimension"].tolist()
    np.testing.assert_allclose(bars, frame[["agreement", "dimension"]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2 (2 of 3)"]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one embedding", "mean"]


def test_a_table_is_as_good_and_the_frame_is_what_is_drawn(adata):
    table = adata.uns["betavae"]["consensus_matches"]
    frame = _frame(adata)
    pd.testing.assert_frame_equal(frame, _frame(table.astype({"embedding": "category"})))
    assert frame.drop_duplicates("dimension")["mean"].tolist() == pytest.approx(
        adata.uns["betavae"]["consensus"]["agreement"].tolist()
    )
    assert list(table) == list(frame)[:-1]


def test_draws_where_it_is_told_and_nothing_is_cut_off(adata):
    from matplotlib import pyplot as plt

    figure = Figure()
    given = figure.add_subplot()
    assert scbetavae.pl.consensus(adata, ax=given) is given
    axes = scbetavae.pl.consensus(adata)
    figure = axes.get_figure()
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    box = axes.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    assert axes._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_mistakes(adata):
    with pytest.raises(KeyError, match="consensus_dimensions"):
        scbetavae.pl.consensus(AnnData())
    with pytest.raises(KeyError, match=r"no table in .*'other_matches'"):
        scbetavae.pl.consensus(adata, key="other")
    with pytest.raises(ValueError, match="no rows"):
        scbetavae.pl.consensus(adata.uns["betavae"]["consensus_matches"].iloc[:0])
