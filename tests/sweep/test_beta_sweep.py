"""The sweep: what the table holds, what is kept, and what is refused."""

import json
import random
import runpy
from importlib.metadata import version
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from scipy import sparse

import scbetavae
from scbetavae.model import BetaVAE
from scbetavae.sweep import read_sweep

beta_sweep = runpy.run_path(str(Path(__file__).with_name("toy_sweep.py")))["sweep"]

RUNS = [
    "beta_vae-beta0.5-seed0",
    "beta_vae-beta0.5-seed1",
    "beta_vae-beta4-seed0",
    "beta_vae-beta4-seed1",
    "pca",
    "ica",
]


def value_of(table, run, metric, covariate=None, level=None):
    rows = table[(table["run"] == run) & (table["metric"] == metric)]
    rows = rows if covariate is None else rows[rows["covariate"] == covariate]
    return (rows if level is None else rows[rows["level"] == level])["value"].item()


def state_of(folder):
    """Every file of the finished runs, with the time at which it was written."""
    return {path: path.stat().st_mtime_ns for path in sorted((folder / "runs").rglob("*")) if path.is_file()}


def test_a_row_per_run_and_metric(whole):
    _, table = whole
    assert list(dict.fromkeys(table["run"])) == RUNS
    assert not table.duplicated(["run", "metric", "covariate", "level"]).any()
    assert set(table["status"]) == {"done"}
    models = table[table["kind"] == "model"]
    assert {"nll", "kl", "negative_elbo", "active_dimensions", "collapsed", "mig", "udr", "agreement", "ilisi"} <= set(
        models["metric"]
    )
    assert {"seconds", "scoring_seconds", "peak_memory", "epochs"} <= set(models["metric"])
    baselines = table[table["kind"] == "baseline"]
    assert set(baselines["method"]) == {"pca", "ica"}
    assert baselines["beta"].isna().all()
    assert "nll" not in set(baselines["metric"])
    assert set(table.loc[table["metric"] == "knn_accuracy", "covariate"]) == {"batch", "labels"}


def test_numbers_are_those_of_a_model_trained_by_hand(whole, quick, cells):
    folder, table = whole
    with np.load(folder / "split.npz") as split:
        train, held_out = split["train"], split["held_out"]
    assert sorted([*train, *held_out]) == list(range(60))
    assert len(held_out) == 6
    torch.set_num_threads(1)
    scvi.settings.seed = 1
    model = BetaVAE(cells, objective="beta_vae", beta=4.0, **quick["model_kwargs"])
    model.train(
        **quick["train_kwargs"],
        enable_progress_bar=False,
        datasplitter_kwargs={"external_indexing": [train, held_out, None]},
    )
    run = "beta_vae-beta4-seed1"
    with np.load(folder / "runs" / run / "latent.npz") as arrays:
        np.testing.assert_array_equal(arrays["latent"], model.get_latent_representation())
    means, variances = model.get_latent_representation(indices=held_out, return_dist=True)
    kl = (0.5 * (means**2 + variances - 1 - np.log(variances))).mean(axis=0)
    assert value_of(table, run, "kl") == pytest.approx(kl.sum(), rel=1e-5)
    assert value_of(table, run, "active_dimensions") == (kl > 0.01).sum()
    draws = [float(model.get_reconstruction_error(indices=held_out)["reconstruction_loss"]) for _ in range(40)]
    assert value_of(table, run, "nll") == pytest.approx(np.mean(draws), abs=6 * np.std(draws) / np.sqrt(10) + 1e-6)
    assert value_of(table, run, "negative_elbo") == pytest.approx(
        value_of(table, run, "nll") + value_of(table, run, "kl"), rel=1e-12
    )
    scores = model.score_disentanglement(["batch", "labels"], seed=1, **quick["score_kwargs"])
    expected = scores[(scores["metric"] == "mig") & (scores["covariate"] == "labels")]["value"].item()
    assert value_of(table, run, "mig", "labels") == expected


def test_the_objective_is_that_of_the_default_model(quick, cells, tmp_path):
    choice = {name: value for name, value in quick.items() if name != "objective"}
    table = beta_sweep(cells, out_dir=tmp_path / "s", **choice | {"betas": (2,), "seeds": (0,), "baselines": None})
    assert set(table["method"]) == {BetaVAE(cells).module.objective}


def test_agreement_of_seeds_is_that_of_their_active_dimensions(whole):
    folder, table = whole
    runs = [f"beta_vae-beta4-seed{seed}" for seed in (0, 1)]
    latents, active = {}, {}
    for run in runs:
        with np.load(folder / "runs" / run / "latent.npz") as arrays:
            latents[run], active[run] = arrays["latent"], arrays["active"]
    first, second = (pd.DataFrame(latents[run][:, active[run]]).rank().to_numpy() for run in runs)
    similarity = np.abs(np.corrcoef(first, second, rowvar=False)[: first.shape[1], first.shape[1] :])
    best = max(
        similarity[list(rows), list(columns)].sum()
        for rows in permutations(range(first.shape[1]), min(similarity.shape))
        for columns in permutations(range(second.shape[1]), min(similarity.shape))
    )
    for run in runs:
        assert value_of(table, run, "agreement", "all", "seeds") == pytest.approx(best / active[run].sum())
    np.testing.assert_allclose(
        [value_of(table, run, "udr") for run in runs],
        scbetavae.metrics.udr([latents[run] for run in runs], active=[active[run] for run in runs], minimum_seeds=2),
    )
    assert set(table.loc[table["metric"] == "agreement", "flag"]) == {"over only 1 other seeds"}


def test_a_seed_without_active_dimensions_agrees_with_nothing(quick, cells, tmp_path):
    choice = quick | {"betas": (1e4,), "baselines": None}
    train = quick["train_kwargs"] | {"max_epochs": 100, "beta_schedule": "constant", "plan_kwargs": {"lr": 0.02}}
    table = beta_sweep(cells, out_dir=tmp_path / "s", **choice | {"train_kwargs": train})
    assert (table.loc[table["metric"] == "active_dimensions", "value"] == 0).all()
    rows = table[table["metric"].isin(["udr", "agreement"])]
    assert len(rows) == 4
    assert rows["value"].isna().all()
    assert set(rows["flag"]) == {"no active dimension"}


def test_collapse_is_flagged(cells, quick, tmp_path):
    train = quick["train_kwargs"] | {"max_epochs": 100, "beta_schedule": "constant", "plan_kwargs": {"lr": 0.02}}
    choice = quick | {"betas": (1e4,), "seeds": (0,), "train_kwargs": train, "baselines": None}
    table = beta_sweep(cells, out_dir=tmp_path / "s", **choice)
    run = table["run"].iloc[0]
    assert value_of(table, run, "active_dimensions") < 2
    assert value_of(table, run, "collapsed") == 1
    assert {"udr", "agreement"}.isdisjoint(table["metric"])  # one seed has none to agree with


def test_baselines_are_components_of_log_normalized_counts(whole, cells):
    folder, _ = whole
    with np.load(folder / "split.npz") as split:
        train = split["train"]
    counts = np.asarray(cells.X, dtype=float)
    logged = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    centered = logged - logged[train].mean(axis=0)
    directions = np.linalg.svd(centered[train], full_matrices=False)[2][:3]
    latents = {}
    for name in ("pca", "ica"):
        with np.load(folder / "runs" / name / "latent.npz") as arrays:
            latents[name] = arrays["latent"]
    np.testing.assert_allclose(np.abs(latents["pca"]), np.abs(centered @ directions.T), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.cov(latents["ica"][train], rowvar=False, ddof=0), np.eye(3), atol=1e-2)
    span = np.linalg.lstsq(np.c_[latents["pca"], np.ones(60)], latents["ica"], rcond=None)[0]
    np.testing.assert_allclose(np.c_[latents["pca"], np.ones(60)] @ span, latents["ica"], atol=1e-3)


def test_a_second_call_does_nothing_and_returns_the_same(whole, cells, quick):
    folder, table = whole
    before, states = state_of(folder), []
    again = beta_sweep(cells, out_dir=folder, **quick | {"progress": states.append})
    assert [(state.kept, state.done, state.failed) for state in states] == [(6, 0, 0)]
    assert state_of(folder) == before
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    pd.testing.assert_frame_equal(read_sweep(folder), table, check_exact=True)
    assert pd.read_csv(folder / "sweep.csv")["run"].tolist() == table["run"].tolist()


def test_more_betas_and_seeds_train_only_what_is_missing(whole, cells, quick, tmp_path, assert_same):
    _, table = whole
    folder = tmp_path / "grows"
    beta_sweep(cells, out_dir=folder, **quick | {"betas": (4,), "seeds": (1,), "baselines": "pca"})
    before = state_of(folder)
    states = []
    grown = beta_sweep(cells, out_dir=folder, **quick | {"progress": states.append})
    assert {path: time for path, time in state_of(folder).items() if path in before} == before
    assert_same(grown, table)
    assert [(state.total, state.kept, state.done) for state in states] == [(6, 2, done) for done in range(5)]
    assert states[0].latest == ""
    assert states[-1].running == 0


def test_the_caller_notices_nothing(cells, quick, tmp_path):
    x, obs, uns = cells.X.copy(), cells.obs.copy(), dict(cells.uns)
    scvi.settings.seed = 7
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - this state is what is looked at
    torch.manual_seed(5)
    torch.set_num_threads(2)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    try:
        beta_sweep(cells, out_dir=tmp_path / "s", **quick | {"betas": (1,), "seeds": (0,), "baselines": None})
        assert random.getstate() == states[0]
        np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), states[2])
        assert torch.get_num_threads() == 2
        assert scvi.settings.seed == 7
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(cells.X, x)
    pd.testing.assert_frame_equal(cells.obs, obs)
    assert dict(cells.uns) == uns
    assert not cells.obsm
    BetaVAE(cells)  # still set up


def test_a_failed_run_is_a_row_and_is_tried_again(cells, quick, tmp_path, monkeypatch):
    choice = quick | {"betas": (0.5, 4), "seeds": (0,), "baselines": "pca"}
    original = BetaVAE.train

    def fails_at_4(self, *args, **kwargs):
        if self.module.beta == 4:
            msg = "no\nluck"
            raise RuntimeError(msg)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(BetaVAE, "train", fails_at_4)
    table = beta_sweep(cells, out_dir=tmp_path, **choice)
    (row,) = table[table["status"] == "failed"].to_dict("records")
    assert (row["run"], row["error"], row["metric"]) == ("beta_vae-beta4-seed0", "RuntimeError: no luck", "")
    assert np.isnan(row["value"])
    assert set(table.loc[table["status"] == "done", "run"]) == {"beta_vae-beta0.5-seed0", "pca"}
    assert "RuntimeError" in (tmp_path / "runs" / "beta_vae-beta4-seed0" / "traceback.txt").read_text()
    monkeypatch.undo()
    kept = {path: time for path, time in state_of(tmp_path).items() if "beta4" not in str(path)}
    table = beta_sweep(cells, out_dir=tmp_path, **choice)
    assert set(table["status"]) == {"done"}
    assert kept.items() <= state_of(tmp_path).items()
    assert not (tmp_path / "runs" / "beta_vae-beta4-seed0" / "traceback.txt").exists()


def test_interrupting_keeps_what_is_finished(cells, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(BetaVAE, "train", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        beta_sweep(cells, out_dir=tmp_path / "s", **quick)
    assert set(read_sweep(tmp_path / "s")["run"]) == {"pca", "ica"}


def test_dense_sparse_layer_and_dtype_are_the_same_data(cells, quick, tmp_path):
    choice = quick | {"betas": (1,), "seeds": (0,), "baselines": None}
    beta_sweep(cells, out_dir=tmp_path, **choice)
    other = cells.copy()
    other.layers["counts"] = sparse.csr_matrix(cells.X.astype(np.int64))
    other.X = np.zeros_like(cells.X)
    other.obs["labels"] = other.obs["labels"].astype(object)
    BetaVAE.setup_anndata(other, layer="counts", batch_key="batch", labels_key="labels")
    before = state_of(tmp_path)
    beta_sweep(other, out_dir=tmp_path, **choice)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda adata: adata.X.__setitem__((3, 2), 99.0), "counts"),
        (lambda adata: setattr(adata, "var_names", adata.var_names[::-1]), "genes"),
        (lambda adata: setattr(adata, "obs_names", [f"other {i}" for i in range(60)]), "cells"),
        (
            lambda adata: setattr(adata, "obs", adata.obs.assign(labels=adata.obs["labels"].to_numpy()[::-1])),
            r"obs\['labels'\]",
        ),
    ],
)
def test_other_cells_are_refused(whole, cells, quick, change, named):
    folder, _ = whole
    change(cells)
    BetaVAE.setup_anndata(cells, batch_key="batch", labels_key="labels")
    before = state_of(folder)
    with pytest.raises(ValueError, match=f"other cells or settings.*{named} is "):
        beta_sweep(cells, out_dir=folder, **quick)
    assert state_of(folder) == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"covariates": "labels"}, r"covariates is \['labels'\], there it was \['batch', 'labels'\]"),
        ({"train_kwargs": {"train_size": 0.8}}, "train_kwargs.train_size is 0.8, there it was 0.9"),
        ({"model_kwargs": {"n_latent": 4, "n_hidden": 8}}, "model_kwargs.n_latent is 4, there it was 3"),
        ({"train_kwargs": {"max_epochs": 3, "accelerator": "cpu"}}, "train_kwargs.max_epochs is 3, there it was 2"),
        ({"num_threads": 2}, "num_threads is 2, there it was 1"),
        ({"score_kwargs": {"donor_key": "donor"}}, "score_kwargs.donor_key is 'donor', there it was None"),
    ],
)
def test_other_settings_are_refused(whole, cells, quick, changed, named):
    folder, _ = whole
    with pytest.raises(ValueError, match=named):
        beta_sweep(cells, out_dir=folder, **quick | changed)


def test_a_folder_that_is_no_sweep_is_refused(cells, quick, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'thesis\.txt', but no sweep"):
        beta_sweep(cells, out_dir=tmp_path, **quick)
    with pytest.raises(FileExistsError, match="is a file"):
        beta_sweep(cells, out_dir=tmp_path / "thesis.txt", **quick)
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        read_sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"betas": ()}, ValueError, "betas is empty"),
        ({"betas": 4}, TypeError, "betas=4 is not a sequence"),
        ({"betas": (1, -1)}, ValueError, "betas=-1 is not allowed"),
        ({"betas": (1, np.nan)}, ValueError, "betas=nan is not allowed"),
        ({"seeds": (0.5,)}, ValueError, "seeds=0.5 is not allowed"),
        ({"seeds": 3}, TypeError, "seeds=3 is not a sequence"),
        ({"objective": "beta_tc_vae"}, ValueError, "Did you mean 'beta_tcvae'"),
        ({"objective": ()}, ValueError, "objective is empty"),
        ({"objective": ("factor_vae",)}, ValueError, "gamma"),
        ({"baselines": "nmf"}, ValueError, "baselines='nmf' is not allowed"),
        ({"covariates": "label"}, KeyError, "Did you mean 'labels'"),
        ({"score_kwargs": {"labels_key": "label"}}, KeyError, "Did you mean 'labels'"),
        ({"score_kwargs": {"donor_key": "donors"}}, KeyError, "Did you mean 'donor'"),
        ({"train_kwargs": {"train_size": 1}}, ValueError, r"train_size=1 is not allowed: pass a number in \(0, 1\)"),
        ({"train_kwargs": {"train_size": 0.999}}, ValueError, "0 held out"),
        ({"ray": {"num_cpu": 1}}, TypeError, "Did you mean 'num_cpus'"),
        ({"n_jobs": 0}, ValueError, "n_jobs=0"),
        ({"num_threads": 1.5}, ValueError, "num_threads=1.5"),
        ({"model_kwargs": {"beta": 4}}, ValueError, "Use betas"),
        ({"model_kwargs": {"n_latents": 4}}, TypeError, "n_latent"),
        ({"model_kwargs": ["n_latent"]}, TypeError, "model_kwargs is a list"),
        ({"train_kwargs": {"max_epoch": 4}}, TypeError, "Did you mean 'max_epochs'"),
        ({"train_kwargs": {"validation_size": 0.5}}, ValueError, "Use train_size"),
        ({"train_kwargs": {"beta_schedule": lambda epoch: 1.0}}, TypeError, "function"),
        ({"score_kwargs": {"metrics": "migg"}}, ValueError, "'mig'"),
        ({"score_kwargs": {"n_permutation": 1}}, TypeError, "n_permutations"),
    ],
)
def test_mistakes_are_refused_before_any_work(cells, quick, tmp_path, changed, error, words):
    with pytest.raises(error, match=words):
        beta_sweep(cells, out_dir=tmp_path / "s", **quick | changed)
    assert not (tmp_path / "s").exists()


def test_cells_that_were_not_set_up_are_refused(cells, quick, tmp_path):
    with pytest.raises(ValueError, match="was not set up, or is a copy"):
        beta_sweep(cells.copy(), out_dir=tmp_path / "s", **quick)
    with pytest.raises(ValueError, match="view"):
        beta_sweep(cells[:30], out_dir=tmp_path / "s", **quick)
    with pytest.raises(TypeError, match="not an AnnData"):
        beta_sweep(cells.X, out_dir=tmp_path / "s", **quick)
    cells.X[0, 0] = 0.5
    with pytest.raises(ValueError, match="not integers"):
        beta_sweep(cells, out_dir=tmp_path / "s", **quick)
    assert not (tmp_path / "s").exists()


def test_objectives_without_beta_run_once_a_seed_and_models_can_be_kept(cells, quick, tmp_path):
    choice = quick | {"objective": ("dip_vae_i", "beta_vae"), "betas": (0, 1), "seeds": (3,), "baselines": None}
    train = quick["train_kwargs"] | {"beta_schedule": scbetavae.train.LinearSchedule(warmup=0.5)}
    table = beta_sweep(cells, out_dir=tmp_path, save_models=True, **choice | {"train_kwargs": train})
    assert set(table["run"]) == {"dip_vae_i-seed3", "beta_vae-beta0-seed3", "beta_vae-beta1-seed3"}
    assert table.loc[table["method"] == "dip_vae_i", "beta"].isna().all()
    folder = tmp_path / "runs" / "beta_vae-beta1-seed3"
    model = BetaVAE.load(str(folder / "model"), cells, accelerator="cpu")
    with np.load(folder / "latent.npz") as arrays:
        np.testing.assert_allclose(arrays["latent"], model.get_latent_representation(), atol=1e-6)
    record = json.loads((folder / "run.json").read_text())
    assert record["run"] == {"method": "beta_vae", "beta": 1.0, "seed": 3}
    assert record["versions"]["torch"] == version("torch")
    manifest = json.loads((tmp_path / "sweep.json").read_text())
    assert manifest["settings"]["train_kwargs"]["beta_schedule"]["warmup"] == 0.5
    assert len(pd.read_csv(folder / "history.csv")) == 2


def test_donors_encoder_input_and_backed_counts(cells, quick, tmp_path):
    cells.obsm["X_pca"] = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    cells.X = sparse.csr_matrix(cells.X)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    import anndata

    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    choice = quick | {
        "betas": (1,),
        "seeds": (0,),
        "baselines": "pca",
        "covariates": ["labels", "age"],
        "score_kwargs": quick["score_kwargs"] | {"donor_key": "donor"},
    }
    before = None
    for adata in (cells, backed):
        BetaVAE.setup_anndata(adata, batch_key="batch", encoder_obsm_key="X_pca")
        table = beta_sweep(adata, out_dir=tmp_path / "s", **choice)
        assert set(table["status"]) == {"done"}, table["error"].unique()
        times = state_of(tmp_path / "s")
        assert before in (None, times)  # the second is known by its content
        before = times
    backed.file.close()


def test_guided_covariates_are_guided_in_every_run(tmp_path):
    adata = scbetavae.datasets.simulate_counts(200, 40, n_cell_types=2, seed=0)
    BetaVAE.setup_anndata(adata, labels_key="cell_type", guided_keys="batch")
    options = scbetavae.sweep.SweepOptions(
        {"n_latent": 3, "n_hidden": 8}, {"max_steps": 6}, baselines=[], score_kwargs={"metrics": "mig"}, progress=False
    )
    table = scbetavae.sweep.beta_sweep(
        adata,
        [1.0],
        covariates="cell_type",
        out_dir=tmp_path / "sweep",
        objective="beta_vae",
        seeds=[0],
        options=options,
    )
    assert not table["value"].isna().all()
    assert np.isfinite(value_of(table, "beta_vae-beta1-seed0", "kl"))
    assert table.loc[table["metric"] == "mig", "flag"].str.contains("guided ones do not take part").all()
    history = pd.read_csv(next((tmp_path / "sweep").rglob("history.csv")))
    assert "guided_information_batch_train" in history
