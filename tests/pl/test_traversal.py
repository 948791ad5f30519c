"""Heatmaps of traversals: what they draw, in which order, and what they say of steps without cells."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import scbetavae
from scbetavae.pl._traversal import _frame


@pytest.fixture
def frame():
    """Two dimensions, five steps, 30 genes; gene i has slope i - 15 along dimension 4 and its opposite along 7."""
    values, genes = np.arange(-2.0, 3.0), [f"gene_{i}" for i in range(30)]
    parts = []
    for dimension, sign in ((4, 1), (7, -1)):
        for step, value in enumerate(values):
            part = pd.DataFrame({"dimension": dimension, "step": step, "value": value, "gene": genes})
            part["log_fold_change"] = sign * value * (np.arange(30) - 15) / 10
            part["in_range"] = 0 < step < 4
            parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    frame["gene"] = frame["gene"].astype("category")
    return frame.assign(standard_error=0.1, expression=2.0)


def test_genes_steps_and_colors(frame):
    axes = scbetavae.pl.traversal(frame, 4, n_genes=3)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["gene_29", "gene_28", "gene_27", "gene_2", "gene_1", "gene_0"]
    mesh = axes.collections[0]
    assert mesh.get_array().shape == (6, 5)
    slopes = np.array([1.4, 1.3, 1.2, -1.3, -1.4, -1.5])
    np.testing.assert_allclose(mesh.get_array(), slopes[:, None] * np.arange(-2.0, 3.0))
    low, high = mesh.get_clim()
    assert low == -high
    assert 1.4 <= high <= 1.5  # steps without cells reach 3
    assert axes.get_title() == "dimension 4"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["−2", "−1", "0", "1", "2"]


def test_steps_without_cells_are_hatched(frame):
    axes = scbetavae.pl.traversal(frame, 4)
    hatched = sorted(p.get_x() for p in axes.patches if isinstance(p, Rectangle) and p.get_hatch())
    assert hatched == [0, 4]
    assert "no cells there" in axes.figure.axes[-1].get_ylabel()
    everywhere = scbetavae.pl.traversal(frame.assign(in_range=True), 4)
    assert not everywhere.patches
    assert "no cells" not in everywhere.figure.axes[-1].get_ylabel()


def test_frame_is_chosen_where_cells_are(frame):
    frame.loc[(frame["gene"] == "gene_20") & ~frame["in_range"], "log_fold_change"] = 99.0
    drawn = _frame(frame, [7, 4], n_genes=2)
    assert drawn["dimension"].unique().tolist() == [7, 4]
    first = drawn[drawn["dimension"] == 7].drop_duplicates("gene")
    assert first["gene"].tolist() == ["gene_0", "gene_1", "gene_28", "gene_29"]
    assert first["direction"].tolist() == ["up", "up", "down", "down"]
    np.testing.assert_allclose(first["change"], [3.0, 2.8, -2.6, -2.8])


def test_same_choice_as_the_ranking(frame):
    drawn = _frame(frame, 4, n_genes=5).drop_duplicates("gene")
    ranked = scbetavae.tl.rank_dimension_genes(frame[frame["dimension"] == 4], n_genes=5)
    for direction in ("up", "down"):
        names = drawn.loc[drawn["direction"] == direction, "gene"].tolist()
        assert (names if direction == "up" else names[::-1]) == ranked.query("direction == @direction")["gene"].tolist()


def test_several_dimensions_make_a_figure(frame):
    figure = scbetavae.pl.traversal(AnnData(uns={"betavae": {"traversal": frame}}))
    assert isinstance(figure, Figure)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["dimension 4", "dimension 7"]
    assert figure.axes[0].collections[0].get_clim() == figure.axes[1].collections[0].get_clim()
    assert isinstance(scbetavae.pl.traversal(frame, [4]), Figure)


def test_axes_may_be_given(frame):
    ax = Figure().subplots()
    assert scbetavae.pl.traversal(frame, 7, ax=ax) is ax
    with pytest.raises(ValueError, match="one panel"):
        scbetavae.pl.traversal(frame, ax=ax)


def test_a_steps_where_no_cells_are(frame):
    axes = scbetavae.pl.traversal(frame.assign(in_range=False), 4)
    assert len(axes.patches) == 5


def test_nothing_overlaps_and_pyplot_is_left_alone(frame):
    from matplotlib import pyplot as plt

    frame["gene"] = frame["gene"].cat.rename_categories(lambda name: f"{name}_ENSG00000258227")
    figure = scbetavae.pl.traversal(frame)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    width, height = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"data": AnnData()}, KeyError, r"model\.traverse"),
        ({"dimension": 3}, ValueError, r"Dimensions \[3\] were not traversed; the table has \[4, 7\]"),
        ({"dimension": []}, ValueError, "were not traversed"),
        ({"n_genes": 0}, ValueError, "n_genes=0"),
        ({"min_expression": 100}, ValueError, "min_expression=100"),
    ],
)
def test_mistakes(frame, kwargs, error, message):
    with pytest.raises(error, match=message):
        scbetavae.pl.traversal(**{"data": frame, **kwargs})
