"""Tests of dimensions: dots, intervals and colors are those of the table, one panel or one column per group."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scbetavae


def make(n_groups):
    """Six donors with both conditions; dimension 2 changes in the first group, dimension 1 is not active."""
    rng = np.random.default_rng(0)
    donor, condition, group, _ = (
        axis.ravel() for axis in np.meshgrid(*map(np.arange, (6, 2, n_groups, 12)), indexing="ij")
    )
    obs = pd.DataFrame({"donor": donor, "sex": np.array(["f", "m"])[condition], "kind": [f"kind {g}" for g in group]})
    adata = AnnData(obs=obs.set_index(pd.Index([f"cell {i}" for i in range(len(obs))])))
    z = rng.normal(size=(len(donor), 4)) + rng.normal(size=(6, 4))[donor]
    z[:, 2] += 3.0 * condition * (group == 0)
    z[:, 1] = 0.0
    adata.obsm["X_betavae"] = z
    groupby = None if n_groups == 1 else "kind"
    return adata, scbetavae.tl.test_dimensions(adata, "sex", donor_key="donor", groupby=groupby)


def dots(axes):
    return {line.get_ydata()[0]: line for line in axes.get_lines() if line.get_marker() == "o"}


@pytest.mark.parametrize("n_groups", [1, 3])
def test_panels_draw_the_table(n_groups):
    adata, frame = make(n_groups)
    figure = scbetavae.pl.dimension_tests(adata)
    frame = frame[frame["active"]]
    assert len(figure.axes) == n_groups
    assert [axes.get_title() for axes in figure.axes] == list(dict.fromkeys(frame["group"]))
    for axes, (_, part) in zip(figure.axes, frame.groupby("group", sort=False), strict=True):
        assert len(dots(axes)) == len(part) == 3
        for height, row in enumerate(part.itertuples()):
            assert dots(axes)[height].get_xdata()[0] == row.effect_size
            assert (dots(axes)[height].get_markerfacecolor() == "white") == (row.p_adjusted >= 0.05)
            drawn = [tuple(line.get_xdata()) for line in axes.get_lines() if list(line.get_ydata()) == [height] * 2]
            assert (row.ci_low, row.ci_high) in drawn
        assert axes.yaxis_inverted()
        assert axes.get_xlim() == figure.axes[0].get_xlim()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0", "2", "3"]
    assert figure.get_supxlabel() == "sex: m vs f (Hedges' g)"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["adjusted p < 0.05, 95% interval", "adjusted p ≥ 0.05"]


def test_five_groups_are_a_heatmap():
    adata, frame = make(5)
    figure = scbetavae.pl.dimension_tests(adata)
    axes = figure.axes[0]
    mesh, marks = axes.collections
    effects = frame[frame["active"]].pivot(index="dimension", columns="group", values="effect_size")
    np.testing.assert_allclose(mesh.get_array().reshape(effects.shape), effects)
    assert mesh.norm.vmin == -mesh.norm.vmax == pytest.approx(-effects.abs().max(axis=None))
    significant = frame[frame["p_adjusted"] < 0.05]
    assert len(marks.get_offsets()) == len(significant) > 0
    assert [0.5, 1.5] in marks.get_offsets().tolist()  # of the first group, and the second active dimension
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"kind {i}" for i in range(5)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "2", "3"]


@pytest.mark.parametrize("n_groups", [3, 6])
def test_a_group_that_was_not_tested(n_groups):
    _, frame = make(n_groups)
    numbers = ["effect_size", "ci_low", "ci_high", "p_value", "p_adjusted"]
    frame.loc[frame["group"] == "kind 0", numbers] = np.nan
    frame.loc[frame["group"] == "kind 0", "flag"] = "fewer than 3 donors"
    figure = scbetavae.pl.dimension_tests(frame)
    if n_groups == 3:
        assert figure.axes[0].texts[0].get_text() == "fewer than 3 donors"
        assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["0", "2", "3"]
    else:
        assert figure.axes[0].collections[0].get_array().mask[:, 0].all()
    with pytest.raises(ValueError, match="nothing to draw"):
        scbetavae.pl.dimension_tests(frame.assign(effect_size=np.nan))


def test_very_long_intervals_are_cut():
    _, frame = make(1)
    frame["ci_high"] = 1e4
    low, high = scbetavae.pl.dimension_tests(frame).axes[0].get_xlim()
    assert frame["effect_size"].max() < high < 50
    assert low == -high


@pytest.mark.parametrize("n_groups", [2, 5])
def test_nothing_is_cut_off_and_pyplot_is_left_alone(n_groups):
    from matplotlib import pyplot as plt

    _, frame = make(n_groups)
    before = frame.copy()
    figure = scbetavae.pl.dimension_tests(frame)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for artist in (*figure.axes, *figure.legends):
        box = artist.get_tightbbox() if hasattr(artist, "get_tightbbox") else artist.get_window_extent()
        assert min(box.x0, box.y0) >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
    pd.testing.assert_frame_equal(frame, before)


def test_mistakes():
    with pytest.raises(KeyError, match="test_dimensions"):
        scbetavae.pl.dimension_tests(AnnData())
    _, frame = make(1)
    with pytest.raises(KeyError, match="ci_low"):
        scbetavae.pl.dimension_tests(frame.drop(columns="ci_low"))
    with pytest.raises(ValueError, match="no rows"):
        scbetavae.pl.dimension_tests(frame.iloc[:0])
