"""Simulated counts look real, carry the factors that they say, and nothing when told so."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from scbetavae.datasets import FactorEffects, pbmc68k, simulate_counts

NO_EFFECT = FactorEffects(cell_type=0, condition=0, phase=0, gradient=0, batch=0)


def _dispersion(counts, labels):
    """Moment estimate within labels, and mean, gene by gene."""
    excess, squared = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for label in np.unique(labels):
        x = counts[labels == label]
        mean = np.outer(x.sum(1), x.sum(0) / x.sum())
        excess += ((x - mean) ** 2 - mean).sum(0)
        squared += (mean**2).sum(0)
    return excess / np.maximum(squared, 1e-12), counts.mean(0)


@pytest.mark.parametrize("seed", [0, 1])
def test_counts_look_like_real_ones(seed):
    real = pbmc68k()
    simulated = simulate_counts(real.n_obs, real.n_vars, seed=seed)
    x, y = real.X.toarray().astype(float), simulated.X.toarray().astype(float)
    assert abs((x == 0).mean() - (y == 0).mean()) < 0.03
    assert abs(np.log(np.median(x.sum(1)) / np.median(y.sum(1)))) < 0.05
    assert abs(np.log(x.sum(1)).std() - np.log(y.sum(1)).std()) < 0.03
    assert abs(np.log(np.median((x > 0).sum(1)) / np.median((y > 0).sum(1)))) < 0.1
    log_means = [np.log(np.maximum(values.sum(0), 1)) for values in (x, y)]
    assert abs(log_means[0].std() - log_means[1].std()) < 0.15
    # Dispersion over all cells, biology included, of genes that are not too rare to measure it.
    for low, high in ((0.3, 1.0), (1.0, 50.0)):
        medians = []
        for values in (x, y):
            dispersion, mean = _dispersion(values, np.zeros(len(values)))
            medians.append(np.median(dispersion[(mean > low) & (mean < high)]))
        assert 0.6 < medians[1] / medians[0] < 1.6


def test_noise_matches_the_noise_within_cell_types():
    real = pbmc68k()
    simulated = simulate_counts(real.n_obs, real.n_vars, effects=NO_EFFECT)
    within = _dispersion(real.X.toarray().astype(float), real.obs["bulk_labels"].astype(str).to_numpy())
    noise = _dispersion(simulated.X.toarray().astype(float), np.zeros(real.n_obs))
    medians = []
    for dispersion, mean in (within, noise):
        medians.append([np.median(dispersion[(mean > a) & (mean < b)]) for a, b in ((0.2, 0.6), (0.6, 1.5), (1.5, 50))])
    np.testing.assert_allclose(np.log(medians[0]), np.log(medians[1]), atol=0.4)
    assert medians[1][0] > 1.5 * medians[1][2]


def test_constants_are_those_that_the_script_measures():
    path = Path(__file__).parents[2] / "benchmarks" / "fit_simulator.py"
    spec = importlib.util.spec_from_file_location("fit_simulator", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main() == 0


def _accuracy(adata):
    """Cross-validated accuracy of linear models on 20 principal components; 0 is chance, 1 perfect."""
    counts = adata.X.toarray()
    logged = np.log1p(1e3 * counts / counts.sum(1, keepdims=True))
    scaled = StandardScaler().fit_transform(logged)
    codes = StandardScaler().fit_transform(PCA(20, random_state=0).fit_transform(scaled))
    accuracy = {}
    for name in ("cell_type", "condition", "batch", "phase"):
        labels = adata.obs[name].cat.codes.to_numpy()
        chance = 1 / adata.obs[name].nunique()
        model = LogisticRegression(max_iter=500)
        score = cross_val_score(model, codes, labels, cv=3, scoring="balanced_accuracy").mean()
        accuracy[name] = (score - chance) / (1 - chance)
    accuracy["gradient"] = cross_val_score(
        RidgeCV(), codes, adata.obs["gradient"].to_numpy(), cv=3, scoring="r2"
    ).mean()
    for function in (np.cos, np.sin):
        target = function(adata.obs["phase_angle"].to_numpy())
        accuracy[function.__name__] = cross_val_score(RidgeCV(), codes, target, cv=3, scoring="r2").mean()
    return accuracy


def test_default_factors_can_be_learnt():
    accuracy = _accuracy(simulate_counts(seed=5))
    assert accuracy["cell_type"] > 0.95
    assert min(accuracy["condition"], accuracy["batch"]) > 0.85
    assert min(accuracy["gradient"], accuracy["phase"], accuracy["cos"], accuracy["sin"]) > 0.6


def test_without_effects_there_is_nothing_to_learn():
    assert max(_accuracy(simulate_counts(effects=NO_EFFECT, seed=5)).values()) < 0.15


def test_one_effect_moves_its_factor_only():
    accuracy = _accuracy(simulate_counts(600, 300, effects=FactorEffects(0, 1, 0, 0, 0), seed=1))
    assert accuracy.pop("condition") > 0.95
    assert max(accuracy.values()) < 0.15


def test_loadings_are_the_log_fold_changes():
    effects = FactorEffects(cell_type=0, condition=0.7, phase=0, gradient=0, batch=0, library_size=0)
    adata = simulate_counts(20_000, 50, effects=effects, seed=2)
    treated = (adata.obs["condition"] == "treated").to_numpy()
    totals = [np.asarray(adata.X[rows].sum(axis=0)).ravel() for rows in (treated, ~treated)]
    loading = adata.varm["program_condition"][:, 0]
    baseline = np.log(adata.var["abundance"].to_numpy())
    expected = log_softmax(baseline + loading) - log_softmax(baseline - loading)
    observed = np.log(totals[0] / totals[0].sum()) - np.log(totals[1] / totals[1].sum())
    seen = totals[0] + totals[1] > 2000
    np.testing.assert_allclose(observed[seen], expected[seen], atol=0.12)
    assert np.abs(expected[seen]).max() > 0.5


def test_counts_have_the_mean_and_variance_of_the_negative_binomial():
    effects = FactorEffects(0, 0, 0, 0, 0, library_size=0)
    adata = simulate_counts(20_000, 30, effects=effects, seed=3)
    counts = adata.X.toarray().astype(float)
    mean = adata.obs["library_size"].iloc[0] * adata.var["abundance"].to_numpy()
    variance = mean + adata.var["dispersion"].to_numpy() * mean**2
    standard_error = np.sqrt(variance / 20_000)
    assert np.abs((counts.mean(0) - mean) / standard_error).max() < 4.5
    common = mean > 0.1
    np.testing.assert_allclose(counts.var(0)[common], variance[common], rtol=0.15)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 1.0])
def test_programs_overlap_as_asked(overlap):
    adata = simulate_counts(50, 500, effects=FactorEffects(program_size=0.2, program_overlap=overlap))
    members = [set(np.flatnonzero(np.abs(program).sum(axis=1))) for program in adata.varm.values()]
    assert [len(genes) for genes in members] == [100] * 5
    for i, first in enumerate(members):
        for second in members[i + 1 :]:
            assert len(first & second) == round(100 * overlap)


def test_effects_are_standard_deviations():
    adata = simulate_counts(50, 20_000, effects=FactorEffects(1, 0.5, 0.4, 0.3, 0.2), n_cell_types=3)
    for name, effect in (("cell_type", 1), ("condition", 0.5), ("gradient", 0.3), ("batch", 0.2)):
        program = adata.varm[f"program_{name}"]
        assert abs(program[program != 0].std() - effect) < 0.05 * effect
    phase = adata.varm["program_phase"]
    assert abs(np.sqrt((phase**2).sum(1)[phase[:, 0] != 0].mean()) - 0.4) < 0.02


def test_the_same_seed_gives_the_same_counts():
    first, again, other = (simulate_counts(200, 50, seed=seed) for seed in (7, 7, 8))
    assert (first.X != again.X).nnz == 0
    assert first.obs.equals(again.obs)
    assert (first.X != other.X).nnz > 0


def test_effects_leave_the_cells_as_they_are():
    weak, strong = (simulate_counts(100, 50, effects=FactorEffects(batch=effect)) for effect in (0.1, 2.0))
    assert weak.obs.equals(strong.obs)


def test_few_genes_leave_no_cell_empty():
    adata = simulate_counts(500, 5)
    assert np.asarray(adata.X.sum(axis=1)).min() >= 1


def test_cells_beyond_one_block_are_drawn(monkeypatch):
    monkeypatch.setattr("scbetavae.datasets._simulation._VALUES_AT_A_TIME", 1000)
    adata = simulate_counts(95, 100)
    assert adata.shape == (95, 100)
    assert np.asarray(adata.X.sum(axis=1)).min() > 10


def test_files_keep_everything(round_trip):
    adata = simulate_counts(60, 50, confounding={("cell_type", "batch"): 0.5}, proportions={"condition": [0.8, 0.2]})
    read = round_trip(adata)
    assert (read.X != adata.X).nnz == 0
    assert adata.X.dtype == np.float32
    written, stored = adata.uns["betavae"]["simulation"], read.uns["betavae"]["simulation"]
    assert set(stored) == set(written)
    for key, value in written.items():
        np.testing.assert_array_equal(stored[key], value)
    assert stored["confounding_cell_type_batch"] == 0.5
    for key in adata.varm:
        np.testing.assert_array_equal(read.varm[key], adata.varm[key])
    for name in adata.obs:
        assert list(read.obs[name]) == list(adata.obs[name])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"n_cells": 0}, ValueError, "n_cells=0 is not allowed: pass an integer of at least 1"),
        ({"n_cells": 10.5}, ValueError, "n_cells=10.5 is not allowed: pass an integer"),
        ({"n_genes": 4}, ValueError, "n_genes=4 leaves programs.*at least 5 genes"),
        ({"n_cell_types": 0}, ValueError, "n_cell_types=0 is not allowed: pass an integer of at least 1"),
        ({"n_batches": -2}, ValueError, "n_batches=-2 is not allowed: pass an integer of at least 1"),
        ({"effects": {"batch": 1.0}}, TypeError, "is not a FactorEffects"),
        ({"seed": None}, ValueError, "seed=None is not allowed: pass an integer"),
    ],
)
def test_bad_arguments_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        simulate_counts(**arguments)
