"""Scores: what is drawn are the value, the interval, the null and the ceiling of the frame."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scbetavae
from scbetavae.pl._disentanglement import _frame


def make_table():
    columns = ["metric", "covariate", "level", "value", "null", "p_value", "ceiling", "ci_low", "ci_high", "flag"]
    rows = [
        ("mig", "cell type", "covariate", 0.5, 0.01, 0.01, 0.9, 0.4, 0.6, ""),
        ("mig", "age", "covariate", 0.02, 0.03, 0.8, 0.8, 0.0, 0.05, ""),
        ("mig", "all", "covariate", 0.26, 0.02, 0.01, 0.85, 0.2, 0.3, ""),
        ("modularity", "all", "covariate", 0.97, 0.95, 0.01, 0.99, 0.96, 0.98, ""),
        ("lms", "cell type", "class", 0.3, 0.05, 0.01, 0.7, 0.2, 0.4, ""),
        ("lms", "age", "class", np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, "a numeric covariate has no classes"),
        ("lms", "all", "class", 0.3, 0.05, 0.01, 0.7, 0.2, 0.4, "without age"),
        ("my_score", "all", "covariate", 0.5, 0.0, 0.01, 1.0, np.nan, np.nan, ""),
        ("gaussian_total_correlation", "all", "means", 3.0, *[np.nan] * 5, "in nats"),
    ]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def table():
    return make_table()


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes}


def height_of(axes_with_labels, title):
    labels = [label.get_text() for label in axes_with_labels.get_yticklabels()]
    return labels.index(title)


def lines_at(axes, height):
    return [line for line in axes.get_lines() if len(line.get_ydata()) and np.allclose(line.get_ydata(), height)]


def test_panels_and_rows_in_order(table):
    figure = scbetavae.pl.disentanglement(table)
    assert [axes.get_title() for axes in figure.axes] == ["all covariates", "cell type", "age"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["MIG", "LMS (classes)", "Modularity", "My score"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"score"}


def test_dot_interval_null_and_ceiling_are_those_of_the_row(table):
    figure = scbetavae.pl.disentanglement(table)
    height = height_of(figure.axes[0], "MIG")
    lines = lines_at(panels(figure)["cell type"], height)
    drawn = {tuple(np.round(line.get_xdata(), 6)) for line in lines if line.get_linestyle() != "None"}
    assert (0.01, 0.9) in drawn  # the range
    assert (0.4, 0.6) in drawn  # the interval
    (dot,) = (line for line in lines if line.get_marker() == "o")
    assert dot.get_xdata() == [0.5]


def test_a_dot_that_is_not_told_from_the_null_is_hollow(table):
    figure = scbetavae.pl.disentanglement(table)
    (told,) = (line for line in lines_at(panels(figure)["cell type"], 0) if line.get_marker() == "o")
    (not_told,) = (line for line in lines_at(panels(figure)["age"], 0) if line.get_marker() == "o")
    assert told.get_markerfacecolor() == told.get_color()
    assert not_told.get_markerfacecolor() == "white"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["value, 95% interval", "p ≥ 0.05 under permutation", "from null to ceiling"]


def test_undefined_scores_say_so(table):
    axes = panels(scbetavae.pl.disentanglement(table))["age"]
    assert [text.get_text() for text in axes.texts] == ["not defined"]
    assert axes.texts[0].get_position()[1] == 1


def test_scores_below_zero_are_in_sight(table):
    table.loc[0, ["value", "ci_low"]] = [-0.2, -0.3]
    assert scbetavae.pl.disentanglement(table).axes[0].get_xlim()[0] < -0.3


def test_every_bounded_row_is_drawn_once(table):
    frame = _frame(table)
    assert len(frame) == len(table) - 1
    assert "gaussian_total_correlation" not in set(frame["metric"])
    dots = [
        line
        for axes in scbetavae.pl.disentanglement(table).axes
        for line in axes.get_lines()
        if line.get_marker() == "o"
    ]
    assert len(dots) == frame["value"].notna().sum()


def test_from_an_anndata(table):
    adata = AnnData(uns={"betavae": {"disentanglement": table, "second": table[table["covariate"] != "age"]}})
    drawn = [
        [line.get_xydata().tolist() for axes in scbetavae.pl.disentanglement(data).axes for line in axes.get_lines()]
        for data in (adata, table)
    ]
    np.testing.assert_equal(*drawn)
    assert len(scbetavae.pl.disentanglement(adata, key="second").axes) == 2


def test_many_covariates_take_several_lines(table):
    more = [table.assign(covariate=f"c{i}").query("metric == 'mig'").head(1) for i in range(5)]
    figure = scbetavae.pl.disentanglement(pd.concat([table, *more]))
    assert len(figure.axes) == 8
    # A line of panels without scores of all covariates together has no rows for them.
    labels = [label.get_text() for label in figure.axes[4].get_yticklabels()]
    assert labels == ["MIG"]


def test_no_text_overlaps_and_pyplot_is_left_alone(table):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    figure = scbetavae.pl.disentanglement(table)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes.append(figure.legends[0].get_window_extent())
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_the_input_is_left_alone(table):
    before = table.copy()
    scbetavae.pl.disentanglement(table)
    pd.testing.assert_frame_equal(table, before)


def test_without_null_and_interval(table):
    table[["null", "p_value", "ceiling", "ci_low", "ci_high"]] = np.nan
    figure = scbetavae.pl.disentanglement(table)
    (dot,) = (line for line in lines_at(panels(figure)["cell type"], 0) if line.get_marker() == "o")
    assert dot.get_markerfacecolor() == dot.get_color()


def test_mistakes(table):
    with pytest.raises(KeyError, match=r"tl\.score_disentanglement"):
        scbetavae.pl.disentanglement(AnnData(uns={"betavae": {"params": {"beta": 1.0}}}))
    with pytest.raises(KeyError, match="no column 'ceiling'"):
        scbetavae.pl.disentanglement(table.drop(columns="ceiling"))
    with pytest.raises(ValueError, match="no rows"):
        scbetavae.pl.disentanglement(table.iloc[:0])
    with pytest.raises(ValueError, match="nothing to draw"):
        scbetavae.pl.disentanglement(table.tail(1))
    both = pd.concat([table.assign(embedding="a"), table.assign(embedding="b")])
    with pytest.raises(ValueError, match=r"pl\.embedding_comparison"):
        scbetavae.pl.disentanglement(both)
