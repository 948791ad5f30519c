"""Predicted against observed means: what is drawn, in which order, and with which numbers."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scbetavae
from scbetavae.pl._counterfactual import _frame


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    parts = []
    for group, is_held_out in (("T cells", False), ("B cells/plasma", True), ("without target", True)):
        source = rng.uniform(0, 3, 30)
        target = source + rng.normal(size=30) * (np.arange(30) < 10)
        part = pd.DataFrame({"group": group, "gene": [f"gene_{i}" for i in range(30)], "source": source})
        part["target"] = np.nan if group == "without target" else target
        part["predicted"], part["mean_shift"] = source + 0.5 * (target - source), target
        part["rank"] = np.argsort(np.argsort(-np.abs(target - source))) + 1
        part["held_out"] = is_held_out
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def test_relative_errors_in_closed_form_held_out_groups_first(table):
    frame = _frame(table)
    assert list(dict.fromkeys(frame["group"])) == ["B cells/plasma", "T cells"]
    ratios = frame.groupby("method")["relative_error"].agg(["min", "max"])
    np.testing.assert_allclose(ratios.loc["prediction"], 0.25)
    np.testing.assert_allclose(ratios.loc["mean_shift"], 0.0, atol=1e-12)
    np.testing.assert_allclose(ratios.loc["no_change"], 1.0)
    assert len(frame) == 2 * 3 * 30


def test_from_an_anndata(table):
    adata = AnnData(uns={"betavae": {"counterfactual_genes": table}})
    pd.testing.assert_frame_equal(_frame(adata), _frame(table))


def test_picture(table):
    figure = scbetavae.pl.counterfactual(table, n_labels=3, n_differential=5)
    assert [axes.get_title() for axes in figure.axes] == ["B cells/plasma", "T cells\n(not held out)"]
    axes = figure.axes[0]
    named = table[(table["group"] == "B cells/plasma") & (table["rank"] <= 3)]["gene"]
    printed = [text.get_text() for text in axes.texts]
    assert printed[0] == "relative error\nprediction 0.25\nmean shift 0.00\nno change 1.00"
    assert sorted(printed[1:]) == sorted(named)
    points = {
        line.get_label(): len(line.get_xdata()) for line in axes.get_lines() if not line.get_label().startswith("_")
    }
    assert points == {"no change": 5, "mean shift": 5, "prediction": 30}
    prediction = next(line for line in axes.get_lines() if line.get_label() == "prediction")
    rows = table[table["group"] == "B cells/plasma"]
    np.testing.assert_allclose(prediction.get_xdata(), rows["target"])
    np.testing.assert_allclose(prediction.get_ydata(), rows["predicted"])


def test_many_groups_fill_rows_of_three(table):
    four = pd.concat([table[table["group"] == "T cells"].assign(group=f"type {i}") for i in range(4)])
    figure = scbetavae.pl.counterfactual(four, n_labels=0)
    assert len(figure.axes) == 4
    assert [axes.get_ylabel() != "" for axes in figure.axes] == [True, False, False, True]


def test_names_too_long_for_the_margin_are_cut(table):
    table["gene"] = "a_gene_with_a_very_long_name_" + table["gene"]
    figure = scbetavae.pl.counterfactual(table, n_labels=1)
    assert len(figure.axes[0].texts[1].get_text()) <= 14


def test_mistakes(table):
    with pytest.raises(KeyError, match=r"model\.counterfactual"):
        scbetavae.pl.counterfactual(AnnData())
    with pytest.raises(KeyError, match="no column 'predicted'"):
        scbetavae.pl.counterfactual(table.drop(columns="predicted"))
    with pytest.raises(ValueError, match="No group has real target cells"):
        scbetavae.pl.counterfactual(table[table["group"] == "without target"])
    for wrong in ({"n_labels": -1}, {"n_differential": 0}, {"n_labels": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            scbetavae.pl.counterfactual(table, **wrong)
