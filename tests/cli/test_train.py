"""The command, as a person uses it: what it writes, what it says, and how it refuses."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image

import scbetavae
from scbetavae.__main__ import main
from scbetavae.cli._results import keep_top_genes

TRAINED = ["betavae.h5ad", "figures/cells.png", "figures/training.png", "model"]


def both(*names):
    return [path for name in names for path in (f"figures/{name}.png", f"tables/{name}.csv")]


SCORED = both("dimension_covariate", "scores")
SUMMARIZED = both("latent_summary")
ZEROED = both("batch_dimensions", "batch_removal")
TRAVERSED = ["figures/traversal.png", "report.html", "tables/dimension_genes.csv", *both("dimensions")]
PREDICTED = both("condition_prediction", "counterfactual")
WRITTEN = sorted(TRAINED + SCORED + SUMMARIZED + ZEROED + TRAVERSED)
FIRST = ["--layer", "counts", "--batch-key", "donor", "--labels-key", "cell_type", "--beta", "2", "--max-epochs", "20"]
FIRST += ["--n-latent", "3", "--accelerator", "cpu"]
QUICK = ["--max-epochs", "2", "--n-latent", "3", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    adata = AnnData(rng.poisson(2.0, size=(60, 20)).astype(np.float32))
    adata.X[:, 0] += 1  # no cell without counts
    adata.obs_names = [f"cell {i}" for i in range(60)]
    adata.var_names = [f"gene {i}" for i in range(20)]
    adata.layers["counts"] = adata.X.copy()
    adata.obs["donor"] = np.repeat(["d1", "d2", "d3"], 20)
    adata.obs["plate"] = np.tile([0, 1], 30)
    adata.obs["cell_type"] = np.tile(["B/plasma", "T"], 30)
    adata.obs["age"] = rng.normal(50.0, 9.0, size=60)
    adata.obs["size"] = adata.X.sum(axis=1)
    adata.obsm["X_pca"] = rng.normal(size=(60, 4)).astype(np.float32)
    return adata


@pytest.fixture(scope="module")
def folder(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    cells.write_h5ad(folder / "cells.h5ad")
    return folder


@pytest.fixture(scope="module")
def first(folder):
    """Exit code, standard output, standard error and folder of one run that several tests look at."""
    report, progress = io.StringIO(), io.StringIO()
    out = folder / "results" / "first"
    with contextlib.redirect_stdout(report), contextlib.redirect_stderr(progress):
        code = main([str(folder / "cells.h5ad"), *FIRST, "--out", str(out)])
    return code, report.getvalue(), progress.getvalue(), out


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names_in(folder):
    return sorted(entry.name for entry in Path(folder).iterdir())


def outputs_in(folder="scbetavae-out"):
    """Files in the folder and in those of tables and figures, and the folder of the model."""
    entries = [path.relative_to(folder) for path in Path(folder).rglob("*")]
    shown = [path for path in entries if path == Path("model") or (folder / path).is_file()]
    return sorted(path.as_posix() for path in shown if path.parts[0] != "model" or len(path.parts) == 1)


def assert_refused(result, *words):
    """Exit code 2, one line on standard error that holds the words, nothing written."""
    code, _, errors = result
    assert code == 2
    lines = [line for line in errors.splitlines() if not line.startswith("step ")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("scbetavae: error: ")
    for word in words:
        assert word in lines[0]
    assert names_in(".") == []


def test_users_file(first):
    code, report, progress, out = first
    assert code == 0, progress
    assert outputs_in(out) == WRITTEN
    assert names_in(out.parent) == ["first"]

    adata = anndata.read_h5ad(out / "betavae.h5ad")
    assert adata.obsm["X_betavae"].shape == (60, 3)
    assert adata.obsm["X_tsne"].shape == adata.obsm["X_tsne_zeroed"].shape == (60, 2)
    assert not adata.obsp
    assert len(adata.uns["betavae"]["history"]) == 20
    assert adata.uns["betavae"]["history"]["beta"].iloc[-1] == 2.0

    model = scbetavae.model.BetaVAE.load(str(out / "model"), adata, accelerator="cpu")
    np.testing.assert_allclose(model.get_latent_representation(), adata.obsm["X_betavae"], atol=1e-5)

    for name in (name for name in WRITTEN if name.endswith(".png")):
        pixels = np.asarray(Image.open(out / name).convert("L"))
        assert pixels.shape[1] > 300
        assert pixels.std() > 5

    for text in (
        "60 cells x 20 genes",
        "3 batches (donor)",
        "2 labels (cell_type)",
        "20 steps in",
        "of 3 dimensions active",
    ):
        assert text in report
    history = adata.uns["betavae"]["history"].iloc[-1]
    assert (
        f"held-out negative log-likelihood {history['nll_validation']:.2f}, KL {history['kl_validation']:.2f}" in report
    )
    assert (
        report.splitlines()[-1]
        == f"written to  {out}/: betavae.h5ad, model/, report.html, 7 tables in tables/, 9 plots in figures/"
    )
    titles = [line[:12].strip() for line in report.splitlines()[1:]]
    assert titles == ["data", "model", "training", "stability", "encodes", "batch", "written to"]


def test_the_file_is_compressed_and_holds_the_top_genes_alone(first):
    with h5py.File(first[3] / "betavae.h5ad") as file:
        assert file["X"].compression == "gzip"
        assert file["obsm/X_betavae"].compression == "gzip"
    stored = anndata.read_h5ad(first[3] / "betavae.h5ad").uns["betavae"]
    assert stored["traversal_params"]["stored"] == "top 50 genes of each dimension and direction"


def test_top_genes_of_the_traversal():
    genes = pd.Categorical([f"g{i}" for i in range(200)])
    steps = [
        pd.DataFrame({"step": step, "gene": genes, "log_fold_change": step * np.arange(200.0)}) for step in (-1, 0, 1)
    ]
    frame = pd.concat(steps, ignore_index=True).assign(dimension=0, in_range=True, standard_error=0.1, expression=1.0)
    frame["value"] = frame["step"].astype(float)
    frame["log_fold_change"] -= 100.0 * frame["step"]  # half of the genes fall
    adata = AnnData(np.ones((2, 1), dtype=np.float32))
    adata.uns["betavae"] = {"traversal": frame, "traversal_params": {"stored": "all genes"}}
    keep_top_genes(adata)
    kept = adata.uns["betavae"]["traversal"]
    assert set(kept["gene"]) == {f"g{i}" for i in [*range(50), *range(150, 200)]}
    assert len(kept) == 300


def test_log_has_plain_lines_and_nothing_of_the_libraries(first):
    _, report, progress, _ = first
    lines = progress.splitlines()
    assert not [line for line in lines[10:] if not line.startswith("scbetavae: warning: ")]
    assert [line.split(",")[0] for line in lines[:10]] == [f"step {step} of 20" for step in range(2, 21, 2)]
    assert all(line.endswith(" s left") for line in lines[:9])
    assert "\r" not in progress
    assert "\x1b" not in report + progress
    assert not any(word in report + progress for word in ("TPU", "Trainer", "Warning:", "litmodels"))


def test_progress_is_one_line_on_a_terminal(folder, run, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, report, progress = run(folder / "cells.h5ad", *QUICK, "--batch-key", "donor")
    assert code == 0
    parts = progress.split("\r\x1b[K")
    assert "training [########################] step 2 of 2, 0 s left" in parts
    stages = [
        "scores",
        "stability and importance",
        "cards",
        "batch removal",
        "picture of the cells",
        "tables and plots",
    ]
    shown = [part for part in parts if part.endswith(" of 6)")]
    assert shown == [f"{stage} ({number} of 6)" for number, stage in enumerate(stages, 1)]
    assert parts[1] == "loading"
    # Every text replaces the one before, warnings stand on a line of their own, and nothing is left at the end.
    assert all("\n" not in part or part.startswith("scbetavae: warning: ") for part in parts)
    assert parts[-1] == ""
    assert "\r" not in report


def test_bundled_cells_without_an_argument(run):
    code, report, progress = run(*QUICK)
    assert code == 0, progress
    # Two epochs are too few for a dimension to be traversed.
    assert set(outputs_in()) >= set(WRITTEN) - set(TRAVERSED + ZEROED)
    # The planted batch is no condition: a mean shift predicts it as well as the model.
    assert not set(outputs_in()) & set(PREDICTED)
    for text in ("700 cells x 765 genes", "2 batches (batch)", "10 labels (bulk_labels)"):
        assert text in report


def test_the_defaults_are_those_of_the_model(cells, folder, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(scbetavae.model.BetaVAE, "train", lambda self, **kwargs: seen.append((self, kwargs)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([str(folder / "cells.h5ad")])
    (model, training) = seen[0]
    scbetavae.model.BetaVAE.setup_anndata(cells)
    default = scbetavae.model.BetaVAE(cells)
    assert (model.module.objective, model.module.beta) == (default.module.objective, default.module.beta)
    assert model.module.anchor.kind == default.module.anchor.kind == "ica"
    assert training["max_epochs"] is training["max_steps"] is None


@pytest.mark.parametrize(
    ("arguments", "anchored", "said"),
    [
        (["--max-steps", "7"], "ica", " dimensions at least 0.7 in resampled cells"),
        (["--max-steps", "7", "--anchor", "programs"], "programs", None),
        (
            ["--max-steps", "7", "--anchor", "none"],
            None,
            "not known: no dimension starts from an independent component",
        ),
    ],
)
def test_length_in_steps_and_anchor(arguments, anchored, said, folder, run):
    arguments += ["--n-latent", "3", "--accelerator", "cpu", "--no-scores", "--layout", "none", "--layer", "counts"]
    code, report, errors = run(folder / "cells.h5ad", *arguments)
    assert code == 0, errors
    parameters = anndata.read_h5ad("scbetavae-out/betavae.h5ad").uns["betavae"]["params"]
    assert parameters["steps"] == 7
    assert "7 steps in" in report
    assert parameters.get("anchor") == anchored
    assert (f"{anchored} anchor" in report) == (anchored is not None)
    (line,) = (line for line in report.splitlines() if line.startswith("stability "))
    assert said is None or said in line


def test_held_out_cells_are_looked_at_about_twenty_times(folder, run):
    for length, looks in ((["--max-epochs", "60"], 20), (["--max-steps", "3"], 3)):
        arguments = [*length, "--n-latent", "3", "--accelerator", "cpu", "--no-scores", "--no-actions"]
        code, report, errors = run(folder / "cells.h5ad", *arguments)
        assert code == 0, errors
        assert "held-out negative log-likelihood" in report
        history = anndata.read_h5ad("scbetavae-out/betavae.h5ad").uns["betavae"]["history"]
        assert history["nll_validation"].notna().sum() == looks


@pytest.mark.parametrize("layout", ["umap", "none"])
def test_other_layouts(layout, folder, run, monkeypatch):
    monkeypatch.setattr("scanpy.pp.neighbors", lambda adata, **_: None)  # UMAP takes long to compile
    monkeypatch.setattr(
        "scanpy.tl.umap", lambda adata, **_: adata.obsm.update(X_umap=next(iter(adata.obsm.values()))[:, :2])
    )
    arguments = [*QUICK, "--batch-key", "donor", "--no-scores", "--layout", layout]
    code, _, errors = run(folder / "cells.h5ad", *arguments)
    assert code == 0, errors
    adata = anndata.read_h5ad("scbetavae-out/betavae.h5ad")
    expected = {"X_pca", "X_betavae", "X_betavae_zeroed"} | ({"X_umap", "X_umap_zeroed"} if layout == "umap" else set())
    assert set(adata.obsm) == expected
    assert ("figures/cells.png" in outputs_in()) == (layout == "umap")
    assert "figures/batch_removal.png" in outputs_in()


def test_ensembl_ids_are_shown_as_symbols(cells, folder, run):
    adata = cells.copy()
    adata.var["feature_name"] = [f"SYMBOL{i}" for i in range(20)]
    adata.var_names = [f"ENSG{i:011d}" for i in range(20)]
    adata.write_h5ad(folder / "ensembl.h5ad")
    quick = ["--max-epochs", "20", "--n-latent", "3", "--accelerator", "cpu", "--layout", "none"]
    code, report, errors = run(folder / "ensembl.h5ad", *quick)
    assert code == 0, errors
    lines = {line[:12].strip(): line[12:] for line in report.splitlines()}
    assert lines["gene names"].startswith("Ensembl ids; symbols from .var['feature_name']")
    assert "SYMBOL" in lines["encodes"]
    assert "ENSG" not in lines["encodes"]
    code, _, errors = run(folder / "ensembl.h5ad", *quick, "--gene-symbols", "feature", "--out", "other")
    assert code == 2
    assert "Did you mean 'feature_name'" in errors


def test_every_option_reaches_the_model(folder, run):
    arguments = ["--size-factor-key", "size", "--continuous-covariate-keys", "age", "--encoder-obsm-key", "X_pca"]
    arguments += ["--categorical-covariate-keys", "donor,plate", "--batch-key", "plate", "--condition-on-batch"]
    arguments += ["--gene-likelihood", "poisson", "--schedule", "0.5", "--batch-size", "16", "--early-stopping"]
    code, report, errors = run(folder / "cells.h5ad", *arguments, *QUICK, "--seed", "3")
    assert code == 0, errors
    adata = anndata.read_h5ad("scbetavae-out/betavae.h5ad")
    parameters = adata.uns["betavae"]["params"]
    assert parameters["condition_on_batch"]
    assert parameters["gene_likelihood"] == "poisson"
    assert parameters["n_latent"] == 3
    assert (adata.uns["betavae"]["history"]["beta"] == 0.5).all()
    assert "beta 0.5" in report
    registry = scbetavae.model.BetaVAE.load_registry("scbetavae-out/model")
    assert registry["setup_args"]["categorical_covariate_keys"] == ["donor", "plate"]
    assert registry["setup_args"]["continuous_covariate_keys"] == ["age"]
    assert registry["setup_args"]["size_factor_key"] == "size"
    assert registry["setup_args"]["encoder_obsm_key"] == "X_pca"


def test_same_seed_gives_the_same_latent_space(first, folder, run):
    latents = [anndata.read_h5ad(first[-1] / "betavae.h5ad").obsm["X_betavae"]]
    for seed in ("0", "1"):
        # The command may be named.
        assert run("train", folder / "cells.h5ad", *FIRST, "--seed", seed, "--out", seed)[0] == 0
        latents.append(anndata.read_h5ad(f"{seed}/betavae.h5ad").obsm["X_betavae"])
    # To the rounding of kernels that add in the order in which memory happens to be aligned.
    np.testing.assert_allclose(latents[1], latents[0], atol=1e-5)
    assert np.abs(latents[2] - latents[0]).max() > 0.1


def test_second_run_replaces_its_own_results_and_leaves_other_files(first, folder, run):
    shutil.copytree(first[-1], "scbetavae-out")
    Path("scbetavae-out/notes.txt").write_text("mine")
    Path("scbetavae-out/model/stale").touch()
    Path("scbetavae-out/tables/mine.csv").touch()
    assert run(folder / "cells.h5ad", *QUICK, "--no-actions")[0] == 0
    # What this run does not make, and what of the first run describes another model, goes.
    assert outputs_in() == sorted([*TRAINED, "notes.txt", "tables/mine.csv"])
    assert not Path("scbetavae-out/model/stale").exists()
    assert Path("scbetavae-out/notes.txt").read_text() == "mine"
    assert len(anndata.read_h5ad("scbetavae-out/betavae.h5ad").uns["betavae"]["history"]) == 2
    assert names_in(".") == ["scbetavae-out"]


def test_ten_cells_are_enough_and_nine_are_not(cells, folder, run):
    cells[:9].copy().write_h5ad(folder / "few.h5ad")
    assert_refused(run(folder / "few.h5ad", *QUICK), "9 cells", "at least 10")
    cells[:10].copy().write_h5ad(folder / "few.h5ad")
    code, _, errors = run(folder / "few.h5ad", *QUICK)
    assert code == 0, errors


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore")
def test_names_that_are_not_unique(cells, tmp_path, run, ending):
    adata = cells.copy()
    adata.var_names = ["gene", "gene", *adata.var_names[2:]]
    adata.obs_names = ["cell", *adata.obs_names[1:-1], "cell"]
    getattr(adata, f"write_{ending}")(tmp_path / f"cells.{ending}")
    arguments = [tmp_path / f"cells.{ending}", *QUICK, "--no-actions", "--no-scores", "--out", tmp_path / "out"]
    code, _, errors = run(*arguments)
    assert code == 0, errors
    assert "scbetavae: warning: 1 gene names occur more than once in" in errors
    assert "('gene'). They were made unique by a number at the end, as in 'gene-1'." in errors
    written = anndata.read_h5ad(tmp_path / "out" / "betavae.h5ad")
    assert list(written.var_names[:2]) == ["gene", "gene-1"]
    assert written.obs_names[0] == written.obs_names[-1] == "cell"


def test_our_warnings_are_shown_and_others_are_not(folder, run, monkeypatch):
    train = scbetavae.model.BetaVAE.train

    def warning_train(self, **kwargs):
        warnings.warn("beta is too strong\nfor this panel", UserWarning, stacklevel=2)
        warnings.warn("something of a library", FutureWarning, stacklevel=2)
        warnings.warn_explicit("a library's own", UserWarning, "library.py", 1, module="library")
        return train(self, **kwargs)

    monkeypatch.setattr(scbetavae.model.BetaVAE, "train", warning_train)
    code, _, errors = run(folder / "cells.h5ad", *QUICK)
    assert code == 0
    assert "scbetavae: warning: beta is too strong for this panel\n" in errors
    assert "library" not in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--beta", "-1"], ["--beta", "=-1.0 is not allowed", "at least 0"]),
        (["--beta", "nan"], ["--beta", "=nan is not allowed"]),
        (["--schedule", "liner"], ["'liner'", "Did you mean 'linear'"]),
        (["--schedule", "sometimes"], ["'sometimes'", "cyclical", "a number"]),
        (["--schedule", "-2"], ["=-2.0 is not allowed"]),
        (["--max-epochs", "0"], ["--max-epochs", "an integer of at least 1"]),
        (["--max-steps", "9.5"], ["--max-steps", "'9.5'", "an integer"]),
        (["--max-steps", "9", "--max-epochs", "1"], ["not allowed with argument"]),
        (["--anchor", "pca"], ["'pca'", "programs"]),
        (["--n-latent", "2.5"], ["--n-latent", "an integer"]),
        (["--gene-likelihood", "gaussian"], ["'gaussian'", "poisson"]),
        (["--batch", "donor"], ["--batch"]),
        (["--no-scores", "--covariates", "donor"], ["--covariates", "--no-scores"]),
    ],
)
def test_mistyped_arguments(arguments, words, run):
    assert_refused(run(*arguments), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "count"], ["'count'", "'counts'"]),
        (["--batch-key", "doner"], ["'doner'", "'donor'"]),
        (["--labels-key", "celltype"], ["'celltype'", "'cell_type'"]),
        (["--encoder-obsm-key", "X_pac"], ["'X_pac'", "'X_pca'"]),
        (["--continuous-covariate-keys", "cell_type"], ["'cell_type'", "numeric"]),
        (["--covariates", "donor,celltype"], ["'celltype'", "'cell_type'"]),
        (["--covariates", "donor", "--donor-key", "doner"], ["'doner'", "'donor'"]),
    ],
)
def test_keys_that_do_not_fit_the_file(arguments, words, folder, run):
    assert_refused(run(folder / "cells.h5ad", *arguments), *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (np.log1p, ["raw counts"]),
        (lambda x: -x, ["negative"]),
        (lambda x: np.where(x > 4, np.nan, x), ["NaN"]),
        (lambda x: x * (np.arange(60) != 7)[:, None], ["no counts", "cell 7"]),
    ],
)
def test_values_that_are_no_counts(change, words, cells, folder, run):
    wrong = AnnData(change(cells.X).astype(np.float32), obs=cells.obs[["donor"]])
    wrong.write_h5ad(folder / "wrong.h5ad")
    assert_refused(run(folder / "wrong.h5ad"), *words)


@pytest.mark.parametrize(
    "strength",
    [
        ["--objective", "beta_vae", "--beta", "3e38"],
        ["--objective", "dip_vae_i", "--objective-arg", "lambda_od=3e38"],
        ["--objective", "capacity", "--objective-arg", "gamma=3e38"],
    ],
)
def test_a_training_that_diverges(strength, folder, run):
    result = run(folder / "cells.h5ad", *strength, *QUICK)
    assert_refused(result, "Training diverged in epoch", "learning rate", "does not count as trained")


def test_files_that_cannot_be_read(folder, run):
    assert_refused(run(folder / "cell.h5ad"), "no file", "Did you mean", "cells.h5ad")
    (folder / "cells.csv").touch()
    assert_refused(run(folder / "cells.csv"), ".h5ad", "does not end in")
    (folder / "broken.h5ad").write_bytes(b"nothing")
    assert_refused(run(folder / "broken.h5ad"), "could not be read as AnnData")
    (folder / "cells.loom").touch()
    assert run(folder / "cells.loom")[0] == 2


def test_accelerator_that_is_not_there(folder, run):
    code, _, errors = run(folder / "cells.h5ad", "--accelerator", "abacus")
    assert code == 2
    assert "abacus" in errors
    assert len(errors.splitlines()) == 1


def test_out_is_a_file(folder, run):
    out = folder / "taken"
    out.write_text("mine")
    for path in (out, out / "below"):
        assert_refused(run(folder / "cells.h5ad", "--out", path), "is a file", "--out")
    assert out.read_text() == "mine"


def test_a_file_where_the_folder_of_tables_should_be(folder, run):
    (folder / "flat").mkdir()
    (folder / "flat" / "tables").touch()
    assert_refused(run(folder / "cells.h5ad", "--out", folder / "flat"), "is a file", "--out")


def test_a_folder_with_figures_of_the_user_takes_the_results(folder, run):
    Path("figures").mkdir()
    Path("figures/mine.png").touch()
    assert run(folder / "cells.h5ad", *QUICK, "--no-scores", "--no-actions", "--out", ".")[0] == 0
    assert outputs_in(".") == sorted([*TRAINED, "figures/mine.png"])


def test_out_holds_things_of_the_same_name(folder, run):
    (folder / "project" / "model").mkdir(parents=True)
    (folder / "project" / "model" / "mine").touch()
    result = run(folder / "cells.h5ad", "--out", folder / "project")
    assert_refused(result, "already holds model", "--out")
    assert (folder / "project" / "model" / "mine").exists()


def test_results_do_not_overwrite_the_input(cells, folder, run):
    (folder / "run").mkdir()
    cells.write_h5ad(folder / "run" / "betavae.h5ad")
    result = run(folder / "run" / "betavae.h5ad", "--out", folder / "run")
    assert_refused(result, "overwrite the input")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_out_cannot_be_written_to(folder, run):
    (folder / "locked").mkdir(mode=0o500)
    assert_refused(run(folder / "cells.h5ad", "--out", folder / "locked" / "out"), "cannot be written")


@pytest.mark.parametrize(
    ("number", "exit_code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signal_in_training(number, exit_code, word, folder, run, monkeypatch):
    # Lightning catches both and turns them into exits with codes 1 and 0.
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(
        "scbetavae.cli._console.StepProgress.on_train_batch_end", lambda *_: signal.raise_signal(number)
    )
    try:
        code, report, errors = run(folder / "cells.h5ad", *QUICK)
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    assert code == exit_code
    assert errors == f"scbetavae: {word}, nothing was written\n"
    assert report.splitlines()[-1].startswith("model")
    assert names_in(".") == []


def test_interrupt_while_writing_leaves_the_earlier_results(first, folder, run, monkeypatch):
    shutil.copytree(first[-1], "scbetavae-out")
    before = {path: path.stat().st_mtime_ns for path in Path("scbetavae-out").rglob("*")}
    monkeypatch.setattr(AnnData, "write_h5ad", interrupt)
    assert run(folder / "cells.h5ad", *QUICK)[0] == 130
    assert {path: path.stat().st_mtime_ns for path in Path("scbetavae-out").rglob("*")} == before
    assert names_in(".") == ["scbetavae-out"]


def interrupt(*_args, **_kwargs):
    raise KeyboardInterrupt


def test_debug_shows_the_traceback(folder):
    with pytest.raises(Exception, match="'donor'") as error:
        main([str(folder / "cells.h5ad"), "--batch-key", "doner", "--debug"])
    assert isinstance(error.value.__cause__, KeyError)


def test_version(run):
    code, output, _ = run("--version")
    assert code == 0
    assert output == f"scbetavae {scbetavae.__version__}\n"


def test_help_says_all_there_is_without_loading_the_libraries():
    script = (
        "import sys\n"
        "from scbetavae.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "assert not {'torch', 'scvi', 'scanpy', 'matplotlib', 'anndata', 'numpy'} & set(sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    texts = [
        "[train] [FILE]",
        "scbetavae sweep",
        "scbetavae report FILE",
        "betavae.h5ad",
        "model/",
        "tables/",
        "figures/",
    ]
    texts += ["--layer", "--batch-key", "--beta", "--schedule", "--layout", "--gene-symbols", "exit codes", "X_betavae"]
    for text in texts:
        assert text in finished.stdout
    examples = finished.stdout.partition("examples\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) == 3
    assert all(line.startswith("  scbetavae") for line in examples)


ROOT = Path(scbetavae.__file__).parents[1]


def test_python_dash_m():
    finished = subprocess.run(
        [sys.executable, "-m", "scbetavae", "--beta", "-1"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert "at least 0" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "objective", "stored"),
    [
        (["--objective", "beta_tcvae", "--beta", "3"], "beta_tcvae", {"beta": 3.0}),
        (
            ["--objective", "capacity", "--objective-arg", "capacity=2", "--objective-arg", "gamma=7.5"],
            "capacity",
            {"beta": 1.0, "objective_kwargs_capacity": 2, "objective_kwargs_gamma": 7.5},
        ),
        (
            ["--objective", "beta_tcvae", "--objective-arg", "estimator=mws"],
            "beta_tcvae",
            {"objective_kwargs_estimator": "mws"},
        ),
    ],
)
def test_objectives_and_their_arguments(folder, tmp_path, arguments, objective, stored):
    assert main([str(folder / "cells.h5ad"), *QUICK, *arguments, "--out", str(tmp_path / "out")]) == 0
    params = anndata.read_h5ad(tmp_path / "out" / "betavae.h5ad").uns["betavae"]["params"]
    assert params["objective"] == objective
    assert {name: params[name] for name in stored} == stored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "beta_tcave"], "Did you mean 'beta_tcvae'"),
        (["--objective-arg", "capacity"], "'capacity' is not NAME=VALUE"),
        (["--objective", "capacity", "--objective-arg", "capcity=2"], "Did you mean 'capacity'"),
        (["--objective", "capacity", "--beta", "3"], "has no beta"),
    ],
)
def test_mistakes_in_objectives(folder, tmp_path, capsys, arguments, message):
    try:
        code = main([str(folder / "cells.h5ad"), *QUICK, *arguments, "--out", str(tmp_path / "out")])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr().err
    assert code == 2
    assert message in printed
    assert not (tmp_path / "out").exists()


def test_scores_are_written_and_stored(first):
    _, report, _, out = first
    scores = pd.read_csv(out / "tables" / "scores.csv", keep_default_na=False, na_values=[""])
    stored = anndata.read_h5ad(out / "betavae.h5ad").uns["betavae"]
    assert scores["metric"].tolist() == stored["disentanglement"]["metric"].tolist()
    np.testing.assert_allclose(scores["value"], stored["disentanglement"]["value"])
    assert scores["covariate"].drop_duplicates().tolist() == ["donor", "cell_type", "all"]
    dimensions = pd.read_csv(out / "tables" / "dimension_covariate.csv")
    assert len(dimensions) == len(stored["disentanglement_dimensions"])
    assert set(dimensions["class"].dropna()) == {"d1", "d2", "d3", "B/plasma", "T"}
    assert "MIG" not in report  # details are in tables


def test_covariates_and_groups_of_the_users_choice(folder, run):
    arguments = ["--batch-key", "plate", "--covariates", "age,cell_type", "--donor-key", "donor"]
    code, _, errors = run(folder / "cells.h5ad", *arguments, *QUICK)
    assert code == 0, errors
    scores = pd.read_csv("scbetavae-out/tables/scores.csv")
    assert scores["covariate"].drop_duplicates().tolist() == ["age", "cell_type", "all"]
    assert scores["flag"].str.contains("3 groups").any()
    parameters = anndata.read_h5ad("scbetavae-out/betavae.h5ad").uns["betavae"]["disentanglement_params"]
    assert parameters["donor_key"] == "donor"


@pytest.mark.parametrize("arguments", [["--batch-key", "donor", "--no-scores"], []])
def test_without_scores(arguments, folder, run):
    code, _, errors = run(folder / "cells.h5ad", *arguments, *QUICK, "--no-actions")
    assert code == 0, errors
    assert outputs_in() == TRAINED
    assert "disentanglement" not in anndata.read_h5ad("scbetavae-out/betavae.h5ad").uns["betavae"]


def test_actions_are_reported_written_and_stored(first):
    _, report, _, out = first
    stored = anndata.read_h5ad(out / "betavae.h5ad")
    for name, key in (
        ("latent_summary", "latent_summary"),
        ("batch_removal", "batch_removal"),
        ("dimension_genes", "dimension_genes"),
    ):
        assert len(pd.read_csv(out / "tables" / f"{name}.csv")) == len(stored.uns["betavae"][key]) > 0
    assert stored.obsm["X_betavae_zeroed"].shape == (60, 3)
    lines = {line[:12].strip(): line[12:] for line in report.splitlines()}
    parameters = stored.uns["betavae"]["batch_removal_params"]
    assert parameters["status"] == "nothing zeroed"
    assert lines["batch"] == parameters["summary"]
    stability = stored.uns["betavae"]["latent_summary"]["stability"]
    assert lines["stability"].startswith(f"{(stability >= 0.7).sum()} of {stability.notna().sum()} dimension")
    traversed = stored.uns["betavae"]["dimension_genes"]["dimension"].unique()
    assert sorted(int(part.split(" ")[0]) for part in lines["encodes"].split("; ")) == sorted(traversed)
    assert not any(line.startswith(("condition ", "effect ")) for line in report.splitlines())


@pytest.mark.parametrize("arguments", [[], ["--batch-key", "plate", "--condition-on-batch", "--condition", "donor"]])
def test_on_its_own_output_nothing_of_the_earlier_model_is_listed(first, folder, run, arguments):
    earlier = anndata.read_h5ad(first[3] / "betavae.h5ad")
    quick = {"n_permutations": 0, "n_bootstrap": 0}
    scbetavae.tl.predict_condition(earlier, "donor", obsm_key="X_pca", **quick)
    earlier.write_h5ad(folder / "earlier.h5ad")
    # Two epochs from the mean expression are too few for a dimension to be traversed.
    longer = ["--no-scores", "--max-epochs", "40"]
    code, report, errors = run(folder / "earlier.h5ad", *arguments, *QUICK, *longer)
    assert code == 0, errors
    predicted = [name for name in PREDICTED if arguments and "condition" in name]
    refused = ["not_made.csv"] if arguments else []  # no batch dimensions with a batch-conditioned decoder
    assert outputs_in() == sorted(TRAINED + SUMMARIZED + TRAVERSED + predicted + refused)
    assert not any(name in report for name in {*ZEROED, *SCORED, *PREDICTED} - set(predicted))
    now = anndata.read_h5ad("scbetavae-out/betavae.h5ad")
    assert not [
        name for name in now.uns["betavae"] if name.startswith(("batch_removal", "batch_dim", "disentanglement"))
    ]
    assert not {"X_betavae_zeroed", "X_umap_zeroed"} & set(now.obsm)
    # That of the PCA is none of a model, and stays in the file unless it was made anew.
    of = now.uns["betavae"]["condition_prediction_params"]["obsm_key"]
    assert of == ("X_betavae" if predicted else "X_pca")


def test_a_condition_is_predicted_and_asked_what_if(cells, folder, run):
    adata = cells.copy()
    treated = np.tile(["treated", "control", "control", "treated"], 15)
    adata.layers["counts"][treated == "treated", :5] += 20
    adata.obs["treatment"] = treated
    adata.write_h5ad(folder / "treated.h5ad")
    arguments = ["--layer", "counts", "--labels-key", "cell_type", "--condition", "treatment", "--max-epochs", "60"]
    arguments += ["--beta", "0.5", "--n-latent", "3", "--accelerator", "cpu", "--no-scores"]
    code, report, errors = run(folder / "treated.h5ad", *arguments)
    assert code == 0, errors
    assert set(outputs_in()) >= set(PREDICTED)
    assert not set(outputs_in()) & set(ZEROED)  # no batch was named
    accuracies = pd.read_csv("scbetavae-out/tables/condition_prediction.csv")
    assert accuracies.loc[accuracies["predictor"] == "all", "accuracy"].item() > 0.8
    assert "treatment control -> treated: error 0." in report
    # The other way round, by name.
    ends = ["--source", "treated", "--target", "control", "--out", "back"]
    code, report, errors = run(folder / "treated.h5ad", *arguments, *ends)
    assert code == 0, errors
    assert "treatment treated -> control: error" in report


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--condition", "tretment"], ["'tretment'"]),
        (["--condition", "donor", "--source", "d9", "--target", "d1"], ["--source='d9'", "'d1'", "'d2'"]),
        (["--condition", "donor", "--source", "d1"], ["--source and --target belong together"]),
    ],
)
def test_mistakes_about_the_condition(arguments, words, folder, run):
    assert_refused(run(folder / "cells.h5ad", *arguments, *QUICK), *words)


def test_what_the_data_do_not_allow_is_a_line_of_the_report(folder, run):
    arguments = ["--batch-key", "plate", "--condition-on-batch", "--condition", "donor", "--no-scores"]
    code, report, errors = run(folder / "cells.h5ad", *arguments, *QUICK)
    assert code == 0, errors
    lines = {line[:12].strip(): line[12:] for line in report.splitlines()}
    assert lines["batch"].startswith("not possible: ")
    assert "condition_on_batch" in lines["batch"]
    assert lines["effect"] == "not possible: 'donor' has 3 values. Name two of them: --source A --target B."
