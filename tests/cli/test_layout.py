"""The picture of the cells: which layout, and its coordinates."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scbetavae.cli._layout import choose_layout
from scbetavae.cli._train_arguments import MOST_FOR_TSNE


def cells(latent):
    adata = AnnData(np.ones((len(latent), 1), dtype=np.float32))
    adata.obs_names = [str(i) for i in range(len(latent))]
    adata.obsm["X_betavae"] = np.asarray(latent, dtype=np.float32)
    return adata


def test_few_cells_get_tsne_and_many_umap():
    assert choose_layout("auto", MOST_FOR_TSNE, 0).key == "X_tsne"
    assert choose_layout("auto", MOST_FOR_TSNE + 1, 0).key == "X_umap"
    assert choose_layout("umap", 10, 0).zeroed_key == "X_umap_zeroed"
    assert choose_layout("tsne", 10**6, 0).name == "tsne"
    assert choose_layout("none", 10, 0) is None


def test_tsne_separates_what_is_apart_and_repeats():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 30)
    adata = cells(rng.normal(size=(60, 3)) + 30 * group[:, None])
    choose_layout("auto", 60, 0).add(adata)
    points = adata.obsm["X_tsne"]
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (group[distances.argmin(axis=1)] == group).all()
    again = cells(adata.obsm["X_betavae"])
    choose_layout("auto", 60, 0).add(again)
    np.testing.assert_array_equal(again.obsm["X_tsne"], points)


@pytest.mark.parametrize("latent", [np.zeros((12, 3)), np.arange(12.0)[:, None]], ids=["collapsed", "one dimension"])
def test_tsne_of_an_embedding_without_two_components(latent):
    adata = cells(latent)
    choose_layout("tsne", 12, 0).add(adata)
    assert adata.obsm["X_tsne"].shape == (12, 2)
    assert np.isfinite(adata.obsm["X_tsne"]).all()


@pytest.mark.parametrize("name", ["tsne", "umap"])
def test_where_nothing_was_removed_both_pictures_are_the_same(name, monkeypatch):
    monkeypatch.setattr("scanpy.pp.neighbors", lambda adata, **_: None)
    monkeypatch.setattr(
        "scanpy.tl.umap", lambda adata, **_: adata.obsm.update(X_umap=2 * next(iter(adata.obsm.values())))
    )
    adata = cells(np.random.default_rng(0).normal(size=(20, 2)))
    adata.obsm["X_betavae_zeroed"] = adata.obsm["X_betavae"].copy()
    layout = choose_layout(name, 20, 0)
    layout.add(adata)
    layout.add_zeroed(adata)
    np.testing.assert_array_equal(adata.obsm[layout.zeroed_key], adata.obsm[layout.key])
    adata.obsm["X_betavae_zeroed"][:, 0] = 0.0
    layout.add_zeroed(adata)
    assert not np.array_equal(adata.obsm[layout.zeroed_key], adata.obsm[layout.key])


def test_no_legend_reaches_into_another_panel():
    names = [f"a cell type with a long name {i % 10}" for i in range(60)]
    adata = AnnData(obs=pd.DataFrame({"type": names, "batch": ["a", "b"] * 30}, index=[str(i) for i in range(60)]))
    adata.obsm["X_tsne"] = np.random.default_rng(0).normal(size=(60, 2))
    figure = choose_layout("tsne", 60, 0).draw(adata, ["type", "batch"])
    assert not any(name.endswith("_colors") for name in adata.uns)
    assert figure.axes[0].get_xlabel() == "tSNE1"
    figure.canvas.draw()
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent()
        assert not any(legend.overlaps(other.get_window_extent()) for other in figure.axes if other is not axes)
