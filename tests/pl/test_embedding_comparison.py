"""Embeddings side by side: one color each, all on the axis of their metric."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scbetavae
from scbetavae.pl._disentanglement import _frame


@pytest.fixture
def table():
    rows = []
    for embedding, value in (("X_pca", 0.2), ("X_ica", 0.6), ("X_betavae", np.nan)):
        for covariate in ("cell type", "all"):
            for metric in ("mig", "sap"):
                known = not np.isnan(value)
                numbers = [0.01, 0.01, 0.9, value - 0.1, value + 0.1] if known else [np.nan] * 5
                rows.append((embedding, metric, covariate, value, *numbers))
    columns = ["embedding", "metric", "covariate", "value", "null", "p_value", "ceiling", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def dots(axes):
    return [line for line in axes.get_lines() if line.get_marker() == "o"]


def picture_of(axes):
    return [line.get_xydata().tolist() for line in axes.get_lines()], [text.get_text() for text in axes.texts]


def test_embeddings_have_their_colors_and_places(table):
    figure = scbetavae.pl.embedding_comparison(table)
    assert [axes.get_title() for axes in figure.axes] == ["all covariates", "cell type"]
    handles = figure.legends[0].legend_handles
    assert [handle.get_label() for handle in handles] == ["X_pca", "X_ica", "X_betavae", "from null to ceiling"]
    colors = {handle.get_label(): handle.get_color() for handle in handles[:3]}
    assert len(set(colors.values())) == 3
    first = figure.axes[1]
    drawn = {(line.get_color(), float(line.get_xdata()[0])) for line in dots(first)}
    assert drawn == {(colors["X_pca"], 0.2), (colors["X_ica"], 0.6)}
    heights = [float(line.get_ydata()[0]) for line in dots(first)]
    assert len(set(heights)) == 4
    assert sorted(np.round(heights).astype(int)) == [0, 0, 1, 1]
    assert len(first.texts) == 2


def test_frame_is_ordered_by_covariate_metric_embedding(table):
    frame = _frame(table.sample(frac=1, random_state=1))
    assert frame["covariate"].tolist() == ["all"] * 6 + ["cell type"] * 6
    assert frame["title"].tolist()[:6] == ["MIG"] * 3 + ["SAP"] * 3
    assert len(set(frame["embedding"][:3])) == 3


def test_from_an_anndata(table):
    adata = AnnData(uns={"betavae": {"embedding_comparison": table}})
    stored, given = (scbetavae.pl.embedding_comparison(data) for data in (adata, table))
    assert len(stored.axes) == 2
    np.testing.assert_equal([picture_of(axes) for axes in stored.axes], [picture_of(axes) for axes in given.axes])


def test_mistakes(table):
    with pytest.raises(KeyError, match=r"tl\.compare_embeddings"):
        scbetavae.pl.embedding_comparison(AnnData())
    with pytest.raises(KeyError, match="no column 'embedding'"):
        scbetavae.pl.embedding_comparison(table.drop(columns="embedding"))
    many = pd.concat([table.assign(embedding=f"X_{i}") for i in range(8)])
    handles = scbetavae.pl.embedding_comparison(many).legends[0].legend_handles
    assert len({handle.get_color() for handle in handles[:8]}) == 8
