"""The summary of dimensions: bars are those of the table, in its order, empty dimensions shaded, the sentence above."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.patches import Rectangle

import scbetavae

SENTENCE = (
    "2 of 4 dimensions carry under 0.01 nats (the other 2 together 1.9). At beta 16 they save less than they cost, which is "
    "usual; scores leave them out."
)


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "dimension": [0, 1, 2, 3],
            "kl": [0.002, 0.7, 1.2, 0.009],
            "active": [False, True, True, False],
            "reconstruction_lost": [-0.1, 20.0, 150.0, 0.3],
            "reconstruction_lost_se": [0.1, 2.0, 9.0, 0.1],
            "order": [4, 2, 1, 3],
        }
    )


def bars(axes):
    (container,) = [c for c in axes.containers if hasattr(c, "patches")]
    return [bar.get_width() for bar in container.patches]


def shaded_rows(axes):
    spans = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_height() == pytest.approx(1.0)]
    return sorted(round(p.get_y() + 0.5) for p in spans)


def test_bars_labels_and_shades_are_those_of_the_table(table):
    figure = scbetavae.pl.latent_summary(table)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["2", "1", "inactive 3", "inactive 0"]
    assert bars(left) == [1.2, 0.7, 0.009, 0.002]
    assert bars(right) == [150.0, 20.0, 0.3, -0.1]
    assert left.get_ylim() == (3.5, -0.5)
    for axes in (left, right):
        assert shaded_rows(axes) == [2, 3]
    (lines,) = right.collections
    ends = [segment[:, 0].tolist() for segment in lines.get_segments()]
    np.testing.assert_allclose(ends, [[132, 168], [16, 24], [0.1, 0.5], [-0.3, 0.1]], atol=1e-9)
    assert [text.get_text() for text in right.texts] == ["150", "20", "0.3", "-0.1"]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["inactive: 0.01 nats or less"]


def test_all_active_needs_no_shade(table):
    figure = scbetavae.pl.latent_summary(table.assign(active=True))
    assert figure.axes[1].get_legend() is None
    assert shaded_rows(figure.axes[0]) == []
    assert figure.get_suptitle() == ""


def test_the_sentence_stands_above(table):
    params = {"collapse": SENTENCE, "measured_on": "validation", "n_measured": 10}
    adata = AnnData(uns={"betavae": {"latent_summary": table, "latent_summary_params": params}})
    assert scbetavae.pl.latent_summary(adata).get_suptitle().replace("\n", " ") == SENTENCE
    assert scbetavae.pl.latent_summary(table).get_suptitle() == ""
    other = AnnData(uns={"betavae": {"mine": table}})
    assert scbetavae.pl.latent_summary(other, key="mine").get_suptitle() == ""


def test_bars_are_the_table_in_order_and_the_table_is_left_alone(table):
    axes = scbetavae.pl.latent_summary(table).axes[0]
    assert bars(axes) == table["kl"].iloc[[2, 1, 3, 0]].tolist()
    assert table["order"].tolist() == [4, 2, 1, 3]


def test_stability_has_a_panel_and_below_the_line_is_pale(table):
    stable = table.assign(active=True, stability=[0.69, 0.71, np.nan, 0.7])  # drawn in the order 2, 1, 3, 0
    figure = scbetavae.pl.latent_summary(stable)
    left, right, third = figure.axes
    pale = [False, False, False, True]  # neither 0.7 itself nor a dimension without a component
    for axes in (left, right):
        (container,) = [c for c in axes.containers if hasattr(c, "patches")]
        alphas = [bar.get_alpha() or 1.0 for bar in container.patches]
        assert [alpha < 0.5 for alpha in alphas] == pale
    full, faint = third.collections
    assert full.get_offsets().tolist() == [[0.71, 1], [0.7, 2]]
    assert faint.get_offsets().tolist() == [[0.69, 3]]
    assert faint.get_alpha() < 0.5
    assert third.get_xlabel() == "stability"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["pale: stability below 0.7"]
    both = scbetavae.pl.latent_summary(stable.assign(active=table["active"]))
    labels = [text.get_text() for text in both.axes[1].get_legend().get_texts()]
    assert labels == ["inactive: 0.01 nats or less", "pale: stability below 0.7"]
    assert shaded_rows(both.axes[2]) == [2, 3]


@pytest.mark.parametrize("stability", [[0.7, 0.7, 0.9, 1.0], [np.nan] * 4])
def test_nothing_is_pale_without_low_stability(table, stability):
    figure = scbetavae.pl.latent_summary(table.assign(active=True, stability=stability))
    assert figure.axes[1].get_legend() is None
    assert len(figure.axes) == (2 if np.isnan(stability).all() else 3)


@pytest.mark.parametrize("stability", [None, 0.5])
@pytest.mark.parametrize("n_dims", [1, 4, 64])
def test_nothing_is_cut_off_and_pyplot_is_left_alone(table, n_dims, stability):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    frame = pd.concat([table] * 16, ignore_index=True).iloc[:n_dims]
    frame = frame.assign(dimension=range(n_dims), order=range(1, n_dims + 1))
    frame = frame if stability is None else frame.assign(stability=stability)
    params = {"collapse": SENTENCE}
    data = AnnData(uns={"betavae": {"latent_summary": frame, "latent_summary_params": params}})
    figure = scbetavae.pl.latent_summary(data)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    for axes in figure.axes:
        assert all(text.get_window_extent().x1 <= axes.bbox.x1 + 1 for text in axes.texts)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_a_single_cell_has_no_error(table):
    figure = scbetavae.pl.latent_summary(table.assign(reconstruction_lost_se=np.nan))
    assert list(figure.axes[1].collections) == []
    figure.draw_without_rendering()


def test_mistakes(table):
    with pytest.raises(KeyError, match="get_latent_summary"):
        scbetavae.pl.latent_summary(AnnData())
    with pytest.raises(KeyError, match="no column 'order'"):
        scbetavae.pl.latent_summary(table.drop(columns="order"))
    with pytest.raises(ValueError, match="no rows"):
        scbetavae.pl.latent_summary(table.iloc[:0])
