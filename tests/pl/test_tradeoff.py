"""Likelihood against a score: seeds, means and front are those of the frame."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import scbetavae
from scbetavae.pl._tradeoff import _frame
from scbetavae.sweep import recommend_beta

POINTS = [(1.0, 500.0, 0.1), (2.0, 505.0, 0.5), (4.0, 507.0, 0.4), (10.0, 520.0, 0.6)]


def make_sweep(metric="mig"):
    rows = []
    for beta, nll, score in POINTS:
        for seed, offset in enumerate((-0.01, 0.0, 0.01)):
            run = {"kind": "model", "method": "beta_vae", "beta": beta, "seed": seed, "level": "", "status": "done"}
            rows.append(run | {"metric": "nll", "covariate": "", "value": nll + offset, "normalized": np.nan})
            rows.append(run | {"metric": metric, "covariate": "all", "value": 9.0, "normalized": score + offset})
    baseline = {"kind": "baseline", "method": "ica", "beta": np.nan, "seed": 0, "level": "", "status": "done"}
    rows.append(baseline | {"metric": metric, "covariate": "all", "value": 9.0, "normalized": 0.3})
    return pd.DataFrame(rows)


def test_frame_holds_runs_means_and_front():
    frame = _frame(make_sweep())
    assert set(frame.columns) == {
        "kind",
        "method",
        "beta",
        "seed",
        "nll",
        "score",
        "mean_nll",
        "mean_score",
        "on_front",
    }
    models = frame[frame["kind"] == "model"]
    assert len(models) == 12
    np.testing.assert_allclose(models.drop_duplicates("beta")[["beta", "mean_nll", "mean_score"]], POINTS)
    assert set(models.loc[models["on_front"], "beta"]) == {1.0, 2.0, 10.0}
    (baseline,) = frame[frame["kind"] == "baseline"].to_dict("records")
    assert np.isnan(baseline["nll"])
    assert (baseline["score"], baseline["on_front"]) == (0.3, False)


def test_front_is_that_of_the_recommendation():
    settings = recommend_beta(make_sweep()).settings
    models = _frame(make_sweep()).query("kind == 'model'").drop_duplicates("beta")
    assert settings["on_front"].tolist() == models["on_front"].tolist()


def test_every_seed_is_joined_to_its_mean():
    axes = scbetavae.pl.tradeoff(make_sweep())
    lines = [line.get_xydata() for line in axes.get_lines()]
    (front,) = (line for line in lines if len(line) == 3)
    np.testing.assert_allclose(front, [point[1:] for point in POINTS if point[0] != 4.0])
    joins = [line for line in lines if len(line) == 2 and line[0, 0] > 1]
    assert len(joins) == 12
    means = {tuple(np.round(line[0], 6)) for line in joins}
    assert means == {(nll, score) for _, nll, score in POINTS}
    assert [text.get_text() for text in axes.texts] == ["1", "2", "4", "10"]
    assert axes.get_ylabel() == "MIG, normalized score"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["beta-VAE", "ICA", "Pareto front"]


def test_draws_where_it_is_told():
    figure = Figure()
    given = figure.add_subplot()
    assert scbetavae.pl.tradeoff(make_sweep(), ax=given) is given
    assert isinstance(scbetavae.pl.tradeoff(make_sweep()).figure, Figure)


def test_direction():
    sweep = make_sweep("gaussian_total_correlation")
    frame = _frame(sweep, "gaussian_total_correlation")
    assert set(frame.loc[frame["on_front"], "beta"]) == {1.0}  # the lowest in both
    frame = _frame(sweep, "gaussian_total_correlation", higher_is_better=True)
    assert set(frame.loc[frame["on_front"], "beta"]) == {1.0, 2.0, 10.0}


def test_what_cannot_be_drawn_is_refused():
    sweep = make_sweep()
    with pytest.raises(ValueError, match=r"score='sap' is not allowed\..* Choose from 'nll', 'mig'"):
        scbetavae.pl.tradeoff(sweep, "sap")
    with pytest.raises(ValueError, match=r"covariate='batch' is not allowed\. Choose from 'all'"):
        scbetavae.pl.tradeoff(sweep, covariate="batch")
    with pytest.raises(ValueError, match="nothing to draw"):
        scbetavae.pl.tradeoff(sweep[sweep["metric"] != "nll"])
