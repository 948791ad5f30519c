"""The report as paired dots, and cells before and after."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

import scbetavae
from scbetavae._core.results import retire
from scbetavae.pl._batch_removal import _frame


@pytest.fixture
def report():
    rows = [
        ("batch", "plate", "knn", 0.9, 0.1, np.nan, 0.05, ""),
        ("batch", "plate", "ilisi", 0.0, 0.95, np.nan, 1.0, ""),
        ("conserved", "cell/type", "knn", 0.8, 0.75, 0.94, np.nan, ""),
        ("conserved", "once", "knn", np.nan, np.nan, np.nan, np.nan, "one class"),
    ]
    frame = pd.DataFrame(
        rows, columns=["role", "covariate", "classifier", "before", "after", "kept", "expected", "flag"]
    )
    for name in ("before", "after"):
        frame[f"{name}_ci_low"], frame[f"{name}_ci_high"] = frame[name] - 0.05, frame[name] + 0.05
    return frame


@pytest.fixture
def cells(report):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"plate": ["1", "2"] * 20, "age": rng.normal(size=40)}, index=[f"cell_{i}" for i in range(40)])
    obsm = {name: rng.normal(size=(40, 2)) for name in ("X_umap", "X_umap_zeroed")}
    return AnnData(obs=obs, obsm=obsm, uns={"betavae": {"batch_removal": report}})


def markers(axes, color):
    drawn = [line for line in axes.lines if line.get_color() == color and line.get_marker() == "o"]
    return [float(line.get_xdata()[0]) for line in drawn]


def test_draws_the_report_alone(report):
    figure = scbetavae.pl.batch_removal(report)
    (axes,) = figure.axes
    assert markers(axes, "#7F7F7F") == [0.9, 0.0, 0.8]
    assert markers(axes, "#0072B2") == [0.1, 0.95, 0.75]
    floors = [line.get_xdata()[0] for line in axes.lines if line.get_color() == "#D55E00"]
    assert floors == [0.05, 1.0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["plate, k-NN", "plate, iLISI (1: mixed)", "cell/type, k-NN"]
    assert labels == _frame(report)["label"].tolist()
    intervals = [tuple(line.get_xdata()) for line in axes.lines if line.get_color() == "#0072B2"]
    assert (0.1 - 0.05, 0.1 + 0.05) in intervals


def test_draws_cells_before_and_after(cells):
    figure = scbetavae.pl.batch_removal(cells)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["plate, before", "plate, after"]
    offsets = [np.asarray(axes.collections[0].get_offsets()) for axes in figure.axes[:2]]
    np.testing.assert_allclose(offsets[0], cells.obsm["X_umap"])
    np.testing.assert_allclose(offsets[1], cells.obsm["X_umap_zeroed"])
    figure = scbetavae.pl.batch_removal(cells, ["plate", "age"])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["plate, before", "plate, after", "age, before", "age, after"]
    figure.savefig("/dev/null", format="png")


def test_draws_the_report_alone_where_there_are_no_coordinates(cells):
    del cells.obsm["X_umap_zeroed"]
    assert len(scbetavae.pl.batch_removal(cells).axes) == 1
    with pytest.raises(KeyError, match="X_umap_zeroed"):
        scbetavae.pl.batch_removal(cells, "plate")


def test_bad_input(cells, report):
    with pytest.raises(KeyError, match="zero_batch_dimensions"):
        scbetavae.pl.batch_removal(cells, key="other")
    with pytest.raises(KeyError, match="plate"):
        scbetavae.pl.batch_removal(cells, "plat")
    with pytest.raises(ValueError, match="AnnData"):
        scbetavae.pl.batch_removal(report, "plate")
    cells.obsm["X_line"] = np.ones((40, 1))
    with pytest.raises(ValueError, match="needs two"):
        scbetavae.pl.batch_removal(cells, "plate", basis="X_line")
    with pytest.raises(KeyError, match=r"scanpy\.tl\.umap"):
        scbetavae.pl.batch_removal(cells, "plate", basis="X_tsne")


def test_the_reason_is_drawn_where_nothing_was_measured(report):
    (axes,) = scbetavae.pl.batch_removal(report.iloc[[3]]).axes
    assert axes.texts[0].get_text() == "one class"


def test_an_embedding_of_an_earlier_model_is_refused(cells, report):
    cells.obsm["X_betavae"] = np.random.default_rng(0).normal(size=(40, 3))
    retire(cells)
    cells.uns["betavae"]["batch_removal"] = report
    with pytest.raises(ValueError, match="computed before the last training"):
        scbetavae.pl.batch_removal(cells, "plate", basis="X_betavae")


# Cells before and after: positions, colors and legends.


@pytest.fixture
def adata(cells):
    cells.obs["cell_type"] = pd.Categorical(np.tile(["B", "CD8+/CD45RA+ Naive Cytotoxic"], 20))
    cells.obs["batch"] = np.repeat([0, 1], 20)
    return cells


def draw(adata, names):
    """Panels before and after and the legend, for every name."""
    figure = scbetavae.pl.batch_removal(adata, names)
    panels = [axes for axes in figure.axes if axes.get_title() or axes.get_legend()]
    return figure, {axes.get_title(): axes for axes in panels if axes.get_title()}, figure.axes


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def colors(axes):
    return np.array([to_hex(color) for color in axes.collections[0].get_facecolors()])


def test_cells_have_their_category_s_color(adata):
    _, panels, _ = draw(adata, "batch")
    for axes in panels.values():
        drawn = colors(axes)
        assert len(set(drawn[:20])) == len(set(drawn[20:])) == 1
        assert drawn[0] != drawn[20]


def test_whole_numbers_are_categories_and_measurements_are_not(adata):
    figure, panels, axes = draw(adata, ["batch", "age"])
    assert legend(axes[2]) == ["0", "1"]
    assert axes[5].get_legend() is None
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert len(bars) == 2  # of age before and after
    np.testing.assert_allclose(panels["age, before"].collections[0].get_array(), adata.obs["age"])


def test_missing_labels_are_named(adata):
    adata.obs["label"] = ["x", None] * 20
    _, panels, axes = draw(adata, "label")
    assert legend(axes[2]) == ["x", "NA"]
    assert len(set(colors(panels["label, after"]))) == 2


def test_colors_of_scanpy_are_kept(adata):
    adata.uns["cell_type_colors"] = ["#ff0000", "#00ff00"]
    _, panels, _ = draw(adata, "cell_type")
    assert list(colors(panels["cell_type, before"])[:2]) == ["#ff0000", "#00ff00"]


@pytest.mark.parametrize("n_categories", [1, 7, 8, 10, 11, 25])
def test_every_category_has_its_own_color(adata, n_categories):
    adata.obs["many"] = [f"type {i % n_categories}" for i in range(40)]
    _, panels, axes = draw(adata, "many")
    assert len(set(colors(panels["many, before"]))) == n_categories
    assert len(legend(axes[2])) == n_categories


def test_categories_that_no_cell_has_are_left_out(adata):
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories("absent")
    assert "absent" not in legend(draw(adata, "cell_type")[2][2])


def test_nothing_of_adata_or_pyplot_changes(adata):
    from matplotlib import pyplot as plt

    obs, uns = adata.obs.copy(), dict(adata.uns)
    scbetavae.pl.batch_removal(adata, ["cell_type", "batch", "age"])
    assert plt.get_fignums() == []
    pd.testing.assert_frame_equal(adata.obs, obs)
    assert dict(adata.uns) == uns


def test_the_first_two_columns_of_any_basis_are_drawn(adata):
    adata.obsm["X_betavae"] = np.random.default_rng(0).normal(size=(40, 5))
    figure = scbetavae.pl.batch_removal(adata, "batch", basis="X_betavae")
    np.testing.assert_allclose(figure.axes[0].collections[0].get_offsets(), adata.obsm["X_betavae"][:, :2])


def test_long_labels_reach_no_other_panel_and_leave_room(adata):
    figure, _, _ = draw(adata, ["cell_type", "batch"])
    figure.draw_without_rendering()
    for row in (figure.axes[:3], figure.axes[3:6]):
        boxes = [axes.get_tightbbox() for axes in row]
        assert boxes[0].x1 <= boxes[1].x0
        assert row[2].get_legend().get_window_extent().x1 <= figure.axes[6].get_tightbbox().x0
        for axes in row[:2]:
            assert axes.get_window_extent().width / figure.dpi > 2.5


def test_unknown_names(adata):
    with pytest.raises(KeyError, match="Did you mean 'cell_type'"):
        scbetavae.pl.batch_removal(adata, "celltype")
