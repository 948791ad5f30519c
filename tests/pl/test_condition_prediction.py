"""Condition prediction: what is drawn is the frame, the best dimension on top."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure

import scbetavae
from scbetavae.pl._condition_prediction import _frame


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    label = np.where(rng.random(300) < 0.5, "case", "control")
    codes = rng.normal(size=(300, 4)) - 3.0 * (label == "case")[:, None] * [0, 0, 1, 0]
    codes[:, 3] = 0.0
    return scbetavae.metrics.condition_prediction(
        codes, pd.Series(label, name="disease"), technical_covariates=rng.normal(size=(300, 1)), n_permutations=60
    )


def dots(axes):
    return {line.get_ydata()[0]: line for line in axes.get_lines() if line.get_marker() == "o"}


def test_dots_intervals_and_order_are_those_of_the_frame(table):
    axes = scbetavae.pl.condition_prediction(table)
    frame = _frame(table)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == frame["label"].tolist()[:3]
    assert labels[0] == "2 (control)"
    assert axes.yaxis_inverted()
    assert len(dots(axes)) == 3  # the inactive one has none
    for height, dot in dots(axes).items():
        row = frame.iloc[int(height)]
        assert dot.get_xdata()[0] == row["accuracy"]
        assert (dot.get_markerfacecolor() == "white") == (row["p_adjusted"] >= 0.05)
        drawn = [tuple(line.get_xdata()) for line in axes.get_lines() if list(line.get_ydata()) == [height, height]]
        assert (row["ci_low"], row["ci_high"]) in drawn
    assert frame["accuracy"][:3].is_monotonic_decreasing
    assert "disease" in axes.get_title()


def test_band_and_reference_lines(table):
    axes = scbetavae.pl.condition_prediction(table)
    frame = _frame(table)
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices[:, 0]
    assert corners.min() == pytest.approx(frame["null_low"][:3].min())
    assert corners.max() == pytest.approx(frame["null_high"][:3].max())
    vertical = [line.get_xdata()[0] for line in axes.get_lines() if list(line.get_ydata()) == [0, 1]]
    assert vertical == frame["accuracy"][3:].tolist()
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend[1:3] == ["corrected p ≥ 0.05", "95% of permuted labels"]
    assert legend[3].startswith("all dimensions: ")
    assert legend[4].startswith("technical covariates alone: ")


def test_without_technical_and_permutations(table):
    bare = table.assign(null_low=np.nan, null_high=np.nan, p_value=np.nan, p_adjusted=np.nan)
    bare.loc[bare["predictor"] == "technical", "accuracy"] = np.nan
    axes = scbetavae.pl.condition_prediction(bare)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(legend) == 2
    assert all(dot.get_markerfacecolor() != "white" for dot in dots(axes).values())


def test_numbers_and_long_labels(table):
    rising = table.assign(n_classes=0, direction=["+", "-", "+", "", "", ""])
    assert "rises" in scbetavae.pl.condition_prediction(rising).get_ylabel()
    long = table.assign(direction=["x" * 80] * 4 + ["", ""])
    axes = scbetavae.pl.condition_prediction(long)
    axes.figure.draw_without_rendering()
    boxes = [axes.get_tightbbox(), axes.get_legend().get_window_extent()]
    assert all(box.x0 >= 0 and box.x1 <= axes.figure.bbox.x1 + 1 for box in boxes)


def test_own_axes_and_pyplot_left_alone(table):
    from matplotlib import pyplot as plt

    ax = Figure().subplots()
    assert scbetavae.pl.condition_prediction(table, ax=ax) is ax
    before = table.copy()
    axes = scbetavae.pl.condition_prediction(table)
    assert axes.figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
    pd.testing.assert_frame_equal(table, before)


def test_from_an_anndata(table):
    adata = AnnData(uns={"betavae": {"condition_prediction": table, "mine": table}})
    drawn, expected = (
        dots(scbetavae.pl.condition_prediction(*a, **k)) for a, k in (((adata,), {"key": "mine"}), ((table,), {}))
    )
    assert [dot.get_xdata()[0] for dot in drawn.values()] == [dot.get_xdata()[0] for dot in expected.values()]


def test_mistakes(table):
    with pytest.raises(KeyError, match=r"tl\.predict_condition"):
        scbetavae.pl.condition_prediction(AnnData(uns={"betavae": {"params": {"beta": 1.0}}}))
    with pytest.raises(KeyError, match="no column 'null_low'"):
        scbetavae.pl.condition_prediction(table.drop(columns="null_low"))
    with pytest.raises(ValueError, match="No dimension is active"):
        scbetavae.pl.condition_prediction(table[table["predictor"] != "dimension"])


def test_the_status_not_the_words_of_the_flag_says_that_nothing_was_predicted(table):
    unknown = scbetavae.metrics.undefined_prediction("disease", np.array([True, True]), 9, 2, "too few cells")
    axes = scbetavae.pl.condition_prediction(unknown)
    assert [text.get_text() for text in axes.texts] == ["too few cells"]
    axes = scbetavae.pl.condition_prediction(table.assign(flag="not possible: in another study"))
    assert len(dots(axes)) == 3
