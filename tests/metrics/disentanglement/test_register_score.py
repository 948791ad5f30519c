"""A user's own score: in the frame with null, ceiling and interval, in tl, plots, the sweep and the command's choices."""

import anndata
import numpy as np
import pandas as pd
import pytest

import scbetavae
from scbetavae import metrics


def separation(codes, factor):
    """Largest difference of means between two classes, in units of the standard deviation, cut to [0, 1]."""
    levels = pd.factorize(factor)[0] == 0
    gaps = np.abs(codes[levels].mean(axis=0) - codes[~levels].mean(axis=0)) / codes.std(axis=0)
    return min(gaps.max() / 2, 1.0)


def n_covariates(codes, factors):
    return factors.shape[1] / 10


@pytest.fixture
def registered():
    own = [
        metrics.Score("separation", "Separation", per_covariate=True, function=separation),
        metrics.Score("spread", "Spread", higher_is_better=False, function=n_covariates),
    ]
    for score in own:
        metrics.register_score(score)
    yield own
    for score in own:
        metrics.SCORES.pop(score.name, None)


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    batch = np.arange(200) % 2
    codes = rng.normal(size=(200, 3))
    codes[:, 1] += 10 * batch
    factors = pd.DataFrame({"batch": batch.astype(str), "sex": rng.permutation(batch).astype(str)})
    factors.loc[3, "sex"] = None
    return codes, factors


def test_value_null_ceiling_and_interval(registered, cells):
    codes, factors = cells
    frame = metrics.score_frame(codes, factors, metrics=["separation", "mig"], n_permutations=19, n_bootstrap=20)
    row = frame[frame["metric"] == "separation"].set_index("covariate").loc["batch"]
    assert row["value"] == pytest.approx(separation(codes, factors["batch"]))
    assert row["p_value"] == 1 / 20
    assert row["null"] < 0.3
    assert row["ceiling"] > 0.9
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    sex = frame[frame["metric"] == "separation"].set_index("covariate").loc["sex"]
    assert sex["n_cells"] == 199
    assert sex["value"] == pytest.approx(separation(codes[factors["sex"].notna()], factors["sex"].dropna()))


def test_a_score_of_all_covariates_together(registered, cells):
    frame = metrics.score_frame(*cells, metrics="spread", n_permutations=5, n_bootstrap=5)
    assert frame["covariate"].tolist() == ["all"]
    assert frame["value"].item() == pytest.approx(0.2)
    assert frame["p_value"].item() == 1.0


def test_in_tl_and_in_the_plot(registered, cells):
    codes, factors = cells
    adata = anndata.AnnData(obs=factors.set_axis([f"c{i}" for i in range(200)]), obsm={"X_own": codes})
    scbetavae.tl.score_disentanglement(
        adata, ["batch", "sex"], obsm_key="X_own", metrics=["mig", "separation"], n_permutations=5, n_bootstrap=5
    )
    figure = scbetavae.pl.disentanglement(adata)
    labels = {text.get_text() for axes in figure.axes for text in axes.get_yticklabels()}
    assert {"Separation", "MIG"} <= labels


def test_in_the_sweep_and_in_help(registered):
    from scbetavae.cli import _arguments

    assert "separation" in _arguments.score_names()
    assert metrics.score_names(["separation", "dci"])[0] == "separation"
    with pytest.raises(ValueError, match="separations"):
        metrics.score_names(["separations"])
    assert not metrics.SCORES["spread"].higher_is_better
    assert metrics.SCORES["separation"].higher_is_better


def test_mistakes(registered, cells):
    with pytest.raises(TypeError, match="not a score"):
        metrics.register_score(separation)
    with pytest.raises(ValueError, match="taken by the score 'MIG'"):
        metrics.register_score(metrics.Score("mig", "Mine", function=separation))
    for wrong in ({"name": "my score"}, {"level": "cell"}, {"lowest": 1.0}):
        with pytest.raises(ValueError, match=r"Pass|pass"):
            metrics.register_score(metrics.Score(**({"name": "own", "title": "Own"} | wrong)))
    with pytest.raises(ValueError, match="Did you mean 'separation'"):
        metrics.score_frame(*cells, metrics="seperation")
