"""A sweep over beta: what is drawn is the frame, and the frame is the sweep."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

import scbetavae
from scbetavae.pl._beta_sweep import _frame

BETAS = (0.1, 1.0, 10.0)


def make_sweep():
    """Three betas, three seeds, of which those at beta 10 collapsed; one baseline and one objective without beta."""
    rows = []

    def add(kind, method, beta, seed, metric, value, covariate="", normalized=np.nan, level=""):
        rows.append(
            {
                "kind": kind,
                "method": method,
                "beta": beta,
                "seed": seed,
                "metric": metric,
                "covariate": covariate,
                "level": level,
                "value": value,
                "normalized": normalized,
                "status": "done",
            }
        )

    for seed in range(3):
        for beta in BETAS:
            add("model", "beta_vae", beta, seed, "nll", 500 + beta + seed)
            add("model", "beta_vae", beta, seed, "active_dimensions", 10 - beta)
            add("model", "beta_vae", beta, seed, "collapsed", float(beta == 10))
            add("model", "beta_vae", beta, seed, "mig", 0.9, "all", 0.1 * seed + 0.01 * beta)
            add("model", "beta_vae", beta, seed, "mig", 0.9, "batch", 0.5)
            for covariate in ("labels", "batch"):
                add("model", "beta_vae", beta, seed, "knn_accuracy", 0.5, covariate)
        add("model", "dip_vae_i", np.nan, seed, "nll", 520 + seed)
    add("baseline", "pca", np.nan, 0, "mig", 0.9, "all", 0.33)
    failed = pd.DataFrame([{**rows[0], "status": "failed", "metric": "", "value": np.nan}])
    return pd.concat([pd.DataFrame(rows), failed], ignore_index=True)


@pytest.fixture
def sweep():
    return make_sweep()


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes}


def points_of(axes):
    drawn = [collection.get_offsets() for collection in axes.collections if len(collection.get_offsets()) > 1]
    points = np.concatenate([offsets for offsets in drawn if offsets.shape[1] == 2])
    return points[np.lexsort(points.T)]


def test_frame_is_the_sweep(sweep):
    frame = _frame(sweep)
    columns = [
        "panel",
        "unit",
        "metric",
        "covariate",
        "kind",
        "method",
        "beta",
        "seed",
        "value",
        "mean",
        "ci_low",
        "ci_high",
    ]
    assert set(frame.columns) == {*columns, "collapsed"}
    assert list(dict.fromkeys(frame["panel"])) == [
        "Held-out NLL",
        "Active dimensions",
        "MIG",
        "k-NN accuracy, labels",
        "k-NN accuracy, batch",
    ]
    mig = frame[(frame["panel"] == "MIG") & (frame["kind"] == "model")]
    assert mig["unit"].unique().tolist() == ["normalized score"]
    expected = sweep[(sweep["metric"] == "mig") & (sweep["covariate"] == "all") & (sweep["kind"] == "model")]
    assert mig["value"].tolist() == expected["normalized"].tolist()
    at_one = mig[mig["beta"] == 1.0]
    np.testing.assert_allclose(at_one["mean"], at_one["value"].mean())
    interval = ttest_1samp(at_one["value"], 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(at_one[["ci_low", "ci_high"]].to_numpy(), [list(interval)] * 3)
    assert frame.loc[frame["collapsed"], "beta"].unique().tolist() == [10.0]
    assert frame.loc[frame["kind"] == "baseline", ["ci_low", "ci_high"]].isna().to_numpy().all()


def test_dots_line_and_band_are_those_of_the_frame(sweep):
    frame = _frame(sweep, ["mig"])
    models = frame[frame["kind"] == "model"]
    figure = scbetavae.pl.beta_sweep(sweep, metrics="mig")
    (axes,) = figure.axes
    np.testing.assert_allclose(points_of(axes), models.sort_values(["value", "beta"])[["beta", "value"]])
    curves = [line for line in axes.get_lines() if len(line.get_xdata()) == 3]
    means = models.drop_duplicates("beta")
    np.testing.assert_allclose(curves[0].get_xydata(), means[["beta", "mean"]])
    band = axes.collections[0].get_paths()[0].vertices
    for column in ("ci_low", "ci_high"):
        for beta, end in means[["beta", column]].to_numpy():
            assert np.isclose(band, [beta, end]).all(axis=1).any()
    (baseline,) = (line for line in axes.get_lines() if len(line.get_xdata()) == 2)
    assert set(baseline.get_ydata()) == {0.33}
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "beta-VAE",
        "PCA",
        "95% interval over seeds",
        "collapsed",
    ]


def test_collapse_is_shaded_and_hollow(sweep):
    axes = panels(scbetavae.pl.beta_sweep(sweep))["MIG"]
    (span,) = axes.patches
    left, right = span.get_x(), span.get_x() + span.get_width()
    assert left == pytest.approx(np.sqrt(10))
    assert right > 10
    hollow = [c for c in axes.collections if len(c.get_offsets()) > 1 and (c.get_facecolor() == 1).all()]
    assert {beta for c in hollow for beta in c.get_offsets()[:, 0]} == {10.0}
    healthy = sweep[sweep["metric"] != "collapsed"]
    assert not panels(scbetavae.pl.beta_sweep(healthy))["MIG"].patches


def test_an_objective_without_beta_is_a_horizontal_line(sweep):
    axes = panels(scbetavae.pl.beta_sweep(sweep))["Held-out NLL"]
    (line,) = (line for line in axes.get_lines() if len(line.get_xdata()) == 2)
    assert set(line.get_ydata()) == {521.0}


def test_one_covariate_and_a_beta_of_zero(sweep):
    sweep.loc[sweep["beta"] == 0.1, "beta"] = 0.0
    frame = _frame(sweep, ["mig", "knn_accuracy", "nll"], "batch")
    assert list(dict.fromkeys(frame["panel"])) == ["MIG, batch", "k-NN accuracy, batch", "Held-out NLL"]
    figure = scbetavae.pl.beta_sweep(sweep, metrics=["mig"])
    low, high = figure.axes[0].get_xlim()
    assert low < 0 < 10 < high
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["0", "1", "10"]


def test_what_cannot_be_drawn_is_refused(sweep):
    with pytest.raises(KeyError, match="no column 'status'"):
        scbetavae.pl.beta_sweep(sweep.drop(columns="status"))
    with pytest.raises(ValueError, match="no finished run"):
        scbetavae.pl.beta_sweep(sweep.assign(status="failed"))
    with pytest.raises(ValueError, match=r"score='migg' is not allowed\. Did you mean 'mig'\? Choose from 'nll'"):
        scbetavae.pl.beta_sweep(sweep, metrics=["migg"])


def test_any_number_of_objectives_has_colors_of_its_own(sweep):
    many = pd.concat([sweep[sweep["kind"] == "model"].assign(method=f"m{i}") for i in range(9)])
    figure = scbetavae.pl.beta_sweep(many, metrics=["mig"])
    curves = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3]
    assert len({line.get_color() for line in curves}) == len(curves) == 9
