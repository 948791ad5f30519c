"""The command ``scbetavae sweep``: what it writes, says and refuses."""

import functools
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scbetavae.model import BetaVAE
from scbetavae.sweep import read_sweep

QUICK = ["--betas", "1,4", "--seeds", "2", "--n-latent", "3", "--max-epochs", "2", "--accelerator", "cpu"]
QUICK += ["--batch-key", "batch", "--labels-key", "labels", "--baselines", "pca"]
WRITTEN = ["beta_sweep.png", "recommendation.txt", "sweep.csv", "tradeoff.png"]


@pytest.fixture
def file(toy_cells, tmp_path, monkeypatch):
    cells = toy_cells
    del cells.uns["_scvi_uuid"], cells.uns["_scvi_manager_uuid"]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cells.h5ad"


def test_a_file(file, tmp_path, run):
    out = tmp_path / "out"
    code, report, progress = run("sweep", file, *QUICK, "--out", out)
    assert code == 0, progress
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == sorted(
        [*WRITTEN, "split.npz", "sweep.json"]
    )
    table = read_sweep(out)
    assert table["run"].nunique() == 5
    assert len(pd.read_csv(out / "sweep.csv")) == len(table)
    for name in ("beta_sweep.png", "tradeoff.png"):
        assert np.asarray(Image.open(out / name).convert("L")).std() > 5
    words = (out / "recommendation.txt").read_text().strip()
    assert words in report
    for text in ("60 cells x 15 genes", "beta 1, 4; 2 seeds", "against batch, labels", "5 done, 0 failed", str(out)):
        assert text in report
    lines = [line for line in progress.splitlines() if line]
    assert lines[0] == "0 of 5 runs done, 1 running, 0 failed"
    assert lines[-1] == "5 of 5 runs done, 0 running, 0 failed"

    (out / "tradeoff.png").unlink()
    code, report, progress = run("sweep", file, *QUICK, "--out", out)
    assert code == 0
    assert progress.splitlines() == ["5 of 5 runs done, 0 running, 0 failed"]
    assert (out / "tradeoff.png").exists()

    code, _, errors = run("sweep", file, *QUICK, "--out", out, "--n-latent", "4")
    assert code == 2
    assert "model_kwargs.n_latent is 4, there it was 3" in errors


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Folder for a sweep that several tests go on with."""
    return tmp_path_factory.mktemp("swept") / "out"


@pytest.mark.parametrize(
    ("what", "lost", "strict"),
    [
        ("scbetavae.sweep.recommend_beta", "recommendation.txt", ["--strict"]),
        ("scbetavae.pl.beta_sweep", "beta_sweep.png", []),
        ("scbetavae.pl.tradeoff", "tradeoff.png", []),
    ],
)
def test_an_output_that_fails_leaves_runs_table_and_the_others(
    file, run, monkeypatch, swept, what, lost, strict, raising
):
    # On the folder of the test before: what is lost this time does not stay from there.
    monkeypatch.setattr(what, raising(TypeError("no luck")))
    code, report, errors = run("sweep", file, *QUICK, "--out", swept, *strict)
    assert code == len(strict), errors
    there = {path.name for path in swept.iterdir()}
    assert there == {*WRITTEN, "not_made.csv", "runs", "split.npz", "sweep.json"} - {lost}
    assert pd.read_csv(swept / "not_made.csv").to_numpy().tolist() == [[lost, "TypeError: no luck"]]
    assert "TypeError: no luck" in report
    assert "5 done, 0 failed" in report
    assert errors.splitlines()[-1].startswith(f"scbetavae: warning: not made: {lost}; ")


def test_interrupt_after_the_runs_says_that_they_are_there(file, run, monkeypatch, swept, raising):
    monkeypatch.setattr("scbetavae.pl.tradeoff", raising(KeyboardInterrupt()))
    code, _, errors = run("sweep", file, *QUICK, "--out", swept)
    assert code == 130
    assert errors.splitlines()[-1].startswith(f"scbetavae: interrupted, finished runs are in {swept}")


def test_without_a_file_it_takes_the_bundled_cells(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seen = {}

    def instead(adata, betas, **kwargs):
        seen.update(kwargs, betas=betas, shape=adata.shape)
        raise KeyboardInterrupt

    monkeypatch.setattr("scbetavae.sweep.beta_sweep", instead)
    code, _, errors = run("sweep")
    assert code == 130
    assert errors == (
        "scbetavae: interrupted, finished runs are in scbetavae-sweep, and the same command resumes from there\n"
    )
    assert seen["shape"] == (700, 765)
    assert seen["betas"] == (1.0, 2.0, 4.0, 10.0)
    assert seen["objective"] == ["beta_tcvae"]
    assert seen["options"].model_kwargs["anchor"] == "ica"
    assert list(seen["seeds"]) == [0, 1, 2]
    assert seen["covariates"] == ["batch", "bulk_labels", "phase"]
    assert (
        seen["options"].train_kwargs["max_epochs"] is seen["options"].train_kwargs["max_steps"] is None
    )  # the length of train()
    assert (seen["options"].ray, seen["n_jobs"], seen["options"].baselines) == (None, 1, ["pca", "ica"])


def test_ray_gets_its_arguments(file, run, monkeypatch):
    seen = {}
    monkeypatch.setattr("scbetavae.sweep.beta_sweep", lambda *args, **kwargs: seen.update(kwargs) or sys.exit(0))
    ray = ["--engine", "ray", "--address", "auto", "--num-gpus", "0.5"]
    code, _, errors = run("sweep", file, *QUICK, *ray)
    assert code == 143
    assert "terminated, finished runs are in" in errors
    assert seen["options"].ray == {"num_gpus": 0.5, "address": "auto"}


@pytest.mark.filterwarnings("ignore")
def test_gene_names_that_are_not_unique(toy_cells, file, run, monkeypatch, tmp_path):
    cells = toy_cells
    cells.var_names = ["gene", "gene", *cells.var_names[2:]]
    cells.write_h5ad(tmp_path / "twice.h5ad")
    seen = []
    monkeypatch.setattr("scbetavae.sweep.beta_sweep", lambda adata, *_, **__: seen.append(adata) or sys.exit(0))
    _, _, errors = run("sweep", tmp_path / "twice.h5ad", *QUICK)
    assert "scbetavae: warning: 1 gene names occur more than once" in errors
    assert list(seen[0].var_names[:2]) == ["gene", "gene-1"]


def test_all_models_failed(file, run, monkeypatch, tmp_path):
    @functools.wraps(BetaVAE.train)  # its arguments are checked first
    def fail(self, *args, **kwargs):
        msg = "no luck"
        raise RuntimeError(msg)

    monkeypatch.setattr(BetaVAE, "train", fail)
    code, _, errors = run("sweep", file, *QUICK, "--out", tmp_path / "out")
    assert code == 3
    assert errors.splitlines()[-1] == "scbetavae: error: all models failed, the first with: RuntimeError: no luck"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--betas", "1,x"], "value='x' is not allowed: pass a number of at least 0"),
        (["--betas", ","], "at least one beta"),
        (["--seeds", "0"], "value=0 is not allowed: pass an integer of at least 1"),
        (["--objective", "beta_tc_vae"], "Did you mean 'beta_tcvae'"),
        (["--engine", "dask"], "invalid choice"),
        (["--covariates", "label"], "Did you mean 'labels'"),
        (["--max-steps", "5"], "not allowed with argument --max-epochs"),
        (["--anchor", "pca"], "invalid choice: 'pca'"),
        (["--baselines", "nmf"], "baselines='nmf' is not allowed"),
        (["--score", "migg"], "Did you mean 'mig'"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_trained(file, run, arguments, words, tmp_path):
    code, _, errors = run("sweep", file, *QUICK, "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert words in errors
    assert not (tmp_path / "out").exists()


def test_without_columns_it_says_which_to_name(file, run):
    code, _, errors = run("sweep", file, "--out", "out")
    assert code == 2
    assert "--covariates cell_type,donor" in errors
