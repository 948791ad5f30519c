"""Cells in two dimensions: positions, colors, legends, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

import scbetavae


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    adata = AnnData(np.ones((40, 2), dtype=np.float32))
    adata.obs_names = [f"cell {i}" for i in range(40)]
    adata.obsm["X_umap"] = rng.normal(size=(40, 2))
    adata.obsm["X_betavae"] = rng.normal(size=(40, 5))
    adata.obs["cell_type"] = pd.Categorical(np.tile(["B", "CD8+/CD45RA+ Naive Cytotoxic"], 20), categories=None)
    adata.obs["batch"] = np.repeat([0, 1], 20)
    adata.obs["age"] = rng.normal(size=40)
    return adata


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def colors(axes):
    return np.array([to_hex(color) for color in axes.collections[0].get_facecolors()])


def test_one_panel_a_covariate(adata):
    figure = scbetavae.pl.embedding(adata, ["cell_type", "batch"])
    assert [axes.get_title() for axes in figure.axes] == ["cell_type", "batch"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["UMAP1", "UMAP1"]
    assert legend(figure.axes[0]) == ["B", "CD8+/CD45RA+ Naive Cytotoxic"]


def test_points_are_where_the_cells_are(adata):
    axes = scbetavae.pl.embedding(adata, "cell_type").axes[0]
    drawn = np.asarray(axes.collections[0].get_offsets())
    assert {tuple(point) for point in drawn} == {tuple(point) for point in adata.obsm["X_umap"]}


def test_points_have_their_category_s_color(adata):
    axes = scbetavae.pl.embedding(adata, "batch").axes[0]
    drawn = dict(zip(map(tuple, np.asarray(axes.collections[0].get_offsets())), colors(axes), strict=True))
    by_cell = [drawn[tuple(point)] for point in adata.obsm["X_umap"]]
    assert len(set(by_cell[:20])) == len(set(by_cell[20:])) == 1
    assert by_cell[0] != by_cell[20]


def test_whole_numbers_are_categories_and_measurements_are_not(adata):
    figure = scbetavae.pl.embedding(adata, ["batch", "age"])
    assert legend(figure.axes[0]) == ["0", "1"]
    assert figure.axes[1].get_legend() is None
    assert len(figure.axes) == 3  # two panels and a color bar


def test_missing_labels_are_named(adata):
    adata.obs["label"] = ["x", None] * 20
    assert legend(scbetavae.pl.embedding(adata, "label").axes[0]) == ["x", "NA"]


def test_colors_of_scanpy_are_kept(adata):
    adata.uns["cell_type_colors"] = ["#ff0000", "#00ff00"]
    assert set(colors(scbetavae.pl.embedding(adata, "cell_type").axes[0])) == {"#ff0000", "#00ff00"}


@pytest.mark.parametrize("n_categories", [1, 7, 8, 10, 11, 25])
def test_every_category_has_its_own_color(adata, n_categories):
    adata.obs["many"] = [f"type {i % n_categories}" for i in range(40)]
    axes = scbetavae.pl.embedding(adata, "many").axes[0]
    assert len(set(colors(axes))) == n_categories
    assert len(legend(axes)) == n_categories


def test_categories_that_no_cell_has_are_left_out(adata):
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories("absent")
    assert "absent" not in legend(scbetavae.pl.embedding(adata, "cell_type").axes[0])


def test_nothing_of_adata_or_pyplot_changes(adata):
    from matplotlib import pyplot as plt

    obs, uns = adata.obs.copy(), dict(adata.uns)
    scbetavae.pl.embedding(adata, ["cell_type", "batch", "age"])
    assert plt.get_fignums() == []
    pd.testing.assert_frame_equal(adata.obs, obs)
    assert dict(adata.uns) == uns


def test_without_color_and_on_another_basis(adata):
    axes = scbetavae.pl.embedding(adata, basis="X_betavae").axes[0]
    drawn = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(adata.obsm["X_betavae"][:, :2], axis=0))
    assert axes.get_title() == ""


def test_legend_does_not_reach_the_next_panel(adata):
    figure = scbetavae.pl.embedding(adata, ["cell_type", "batch"])
    figure.draw_without_rendering()
    first, second = (axes.get_tightbbox() for axes in figure.axes)
    assert first.x1 <= second.x0
    assert second.x1 <= figure.bbox.x1


def test_panels_stay_wide_enough_beside_long_labels(adata):
    figure = scbetavae.pl.embedding(adata, ["cell_type", "batch"])
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.get_window_extent().width / figure.dpi > 2.5


def test_unknown_names(adata):
    with pytest.raises(KeyError, match="Did you mean 'cell_type'"):
        scbetavae.pl.embedding(adata, "celltype")
    with pytest.raises(KeyError, match=r"scanpy\.tl\.umap"):
        scbetavae.pl.embedding(adata, "batch", basis="X_tsne")


def test_one_column_is_not_a_plane(adata):
    adata.obsm["X_line"] = np.ones((40, 1))
    with pytest.raises(ValueError, match="needs two"):
        scbetavae.pl.embedding(adata, basis="X_line")
