"""The report as paired dots, and cells before and after."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scbetavae


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
    assert labels == scbetavae.pl.batch_removal_frame(report)["label"].tolist()
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
    with pytest.raises(ValueError, match="nothing to draw"):
        scbetavae.pl.batch_removal_frame(report.iloc[[3]])
