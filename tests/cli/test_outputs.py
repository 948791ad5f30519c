"""The command after training: what it must write comes first, and no other output takes it away."""

import signal
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scbetavae.model import BetaVAE

ESSENTIAL = ["betavae.h5ad", "model"]
QUICK = ["--max-epochs", "2", "--n-latent", "3", "--accelerator", "cpu"]
PLAIN = [*QUICK, "--no-scores", "--no-actions"]


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    adata = AnnData(rng.poisson(2.0, size=(60, 20)).astype(np.float32) + 1)
    adata.obs_names = [f"cell {i}" for i in range(60)]
    adata.var_names = [f"gene {i}" for i in range(20)]
    adata.obs["donor"] = np.repeat(["d1", "d2", "d3"], 20)
    adata.obs["lonely"] = ["b1"] + ["b2"] * 59
    adata.obs["sick"] = np.tile([0, 1], 30)
    adata.obs["cell_type"] = np.tile(["B", "T"], 30)
    return adata


@pytest.fixture(scope="module")
def file(cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("extras") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names_in(folder="scbetavae-out"):
    """Files in the folder and in those of tables and figures, and the folder of the model; without temporary ones."""
    entries = [path.relative_to(folder) for path in Path(folder).rglob("*")]
    shown = [path for path in entries if path == Path("model") or (folder / path).is_file()]
    whole = [path for path in shown if path.parts[0] != "model" or len(path.parts) == 1]
    return sorted(path.as_posix() for path in whole if not path.parts[0].startswith("."))


def not_made(folder="scbetavae-out"):
    return pd.read_csv(Path(folder) / "not_made.csv").set_index("output")["reason"].to_dict()


def assert_essential(adata_has_layout=None):
    adata = anndata.read_h5ad("scbetavae-out/betavae.h5ad")
    assert adata.obsm["X_betavae"].shape == (60, 3)
    assert len(adata.uns["betavae"]["history"]) == 2
    if adata_has_layout is not None:
        assert ("X_tsne" in adata.obsm) == adata_has_layout
    model = BetaVAE.load("scbetavae-out/model", adata, accelerator="cpu")
    np.testing.assert_allclose(model.get_latent_representation(), adata.obsm["X_betavae"], atol=1e-5)


def test_model_and_cells_are_there_before_anything_else_is_made(file, run, monkeypatch):
    seen = []

    def look(*_args, **_kwargs):
        assert_essential(adata_has_layout=False)
        seen.extend(names_in())
        raise ValueError

    monkeypatch.setattr(BetaVAE, "score_disentanglement", look)
    code, _, errors = run(file, "--batch-key", "donor", *QUICK, "--no-actions")
    assert code == 0, errors
    assert seen == ESSENTIAL
    assert_essential(adata_has_layout=True)
    assert list(not_made().values()) == ["ValueError"] * 4


def both(*names):
    return [path for name in names for path in (f"tables/{name}.csv", f"figures/{name}.png")]


CURVES, LAYOUT = "figures/training.png", "figures/cells.png"
SCORED = both("scores", "dimension_covariate")


@pytest.mark.parametrize(
    ("what", "error", "lost", "reason"),
    [
        ("scbetavae.tl.score_disentanglement", TypeError("a number"), SCORED, "TypeError: a number"),
        ("scbetavae.model.BetaVAE.score_disentanglement", MemoryError(), SCORED, "MemoryError"),
        ("scbetavae.pl.disentanglement", RuntimeError("no font"), ["figures/scores.png"], "RuntimeError: no font"),
        ("sklearn.manifold.TSNE", IndexError("index 0"), [LAYOUT], "IndexError: index 0"),
        ("scbetavae.pl.history", KeyError("no 'nll'"), [CURVES], "no 'nll'"),
    ],
)
def test_what_an_output_raises_is_a_line_and_a_row(what, error, lost, reason, file, run, monkeypatch, raising):
    scored = SCORED if "score" in what or "disentanglement" in what else []
    arguments = [*QUICK, "--no-actions", "--batch-key", "donor"] if scored else PLAIN
    monkeypatch.setattr(what, raising(error))
    code, report, errors = run(file, *arguments)
    assert code == 0
    assert names_in() == sorted({*ESSENTIAL, *scored, CURVES, LAYOUT, "not_made.csv"} - set(lost))
    assert not_made() == dict.fromkeys(lost, reason)
    assert reason in report
    assert errors.splitlines()[-1].startswith(f"scbetavae: warning: not made: {', '.join(lost)}; ")
    assert [path.name for path in Path().iterdir()] == ["scbetavae-out"]


GENES = ["tables/dimension_genes.csv", "tables/gene_sets.csv", "figures/traversal.png"]
ACTED = {
    "get_latent_summary": both("latent_summary"),
    "zero_batch_dimensions": both("batch_dimensions", "batch_removal"),
    "describe_dimensions": [
        *both("dimensions"),
        *("tables/dimension_genes.csv", "tables/gene_sets.csv", "figures/traversal.png"),
    ],
    "predict_condition": both("condition_prediction"),
    "counterfactual": both("counterfactual"),
}


def test_every_action_may_fail_and_strict_says_so_in_the_exit_code(file, run, monkeypatch, raising):
    for number, name in enumerate(ACTED):
        monkeypatch.setattr(BetaVAE, name, raising(ZeroDivisionError(f"reason {number}")))
    arguments = [*QUICK, "--no-scores", "--batch-key", "donor", "--condition", "cell_type"]
    for strict, expected in ([], 0), (["--strict"], 1):
        code, report, errors = run(file, *arguments, *strict)
        assert code == expected, errors
        assert_essential(adata_has_layout=True)
        assert names_in() == sorted([*ESSENTIAL, CURVES, LAYOUT, "not_made.csv", "report.html"])
        reasons = not_made()
        for number, (name, lost) in enumerate(ACTED.items()):
            assert {reasons[output] for output in lost} == {f"ZeroDivisionError: reason {number}"}, name
        for title in ("stability", "batch", "encodes", "condition", "effect"):
            assert any(line.startswith(f"{title:<12}not possible: ZeroDivisionError") for line in report.splitlines())
    # Nothing failed: no table, although an earlier run left one.
    code, _, errors = run(file, *PLAIN, "--strict")
    assert code == 0
    assert names_in() == sorted([*ESSENTIAL, CURVES, LAYOUT])
    assert "warning" not in errors


@pytest.mark.filterwarnings("ignore:Category 0 in adata.obs:UserWarning")  # of one cell, by scvi-tools
@pytest.mark.parametrize(
    ("arguments", "genes", "may_lack"),
    [
        (["--condition", "sick"], slice(None), both("counterfactual")),
        (["--batch-key", "lonely"], slice(None), ACTED["zero_batch_dimensions"]),
        (["--batch-key", "donor", "--labels-key", "cell_type"], slice(1), sum(ACTED.values(), SCORED)),
    ],
    ids=["0/1 condition", "batch of one cell", "one gene"],
)
def test_data_that_an_output_does_not_expect(arguments, genes, may_lack, cells, run):
    cells[:, genes].copy().write_h5ad("odd.h5ad")
    code, _, errors = run("odd.h5ad", *QUICK, *arguments)
    assert code == 0, errors
    assert_essential(adata_has_layout=True)
    # Whether such data are mastered one day is not the point here: what is missing has a reason.
    missing = set(may_lack) - set(names_in())
    reasons = not_made() if Path("scbetavae-out/not_made.csv").exists() else {}
    assert set(reasons) <= set(may_lack), reasons
    if "--condition" in arguments or "lonely" in arguments:
        assert set(reasons) == missing


def test_results_that_cannot_be_added_leave_the_first_file(file, run, monkeypatch):
    write, paths = AnnData.write_h5ad, []

    def once(self, path, **kwargs):
        paths.append(path)
        if len(paths) == 1:
            return write(self, path, **kwargs)
        Path(path).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AnnData, "write_h5ad", once)
    code, report, _ = run(file, *PLAIN)
    assert code == 0
    assert_essential(adata_has_layout=False)
    assert not_made() == {"results in betavae.h5ad": "[Errno 28] No space left on device"}
    assert "2 plots in figures/" in report.splitlines()[-1]


def test_cells_that_cannot_be_written_leave_the_model(file, run, monkeypatch, raising):
    monkeypatch.setattr(AnnData, "write_h5ad", raising(OSError(28, "No space left on device")))
    code, _, errors = run(file, *PLAIN)
    assert code == 2
    assert "No space left on device" in errors
    assert "the trained model is in scbetavae-out/model/" in errors
    assert names_in() == ["model"]
    assert BetaVAE.load("scbetavae-out/model", anndata.read_h5ad(file), accelerator="cpu").is_trained
    assert [path.name for path in Path().iterdir()] == ["scbetavae-out"]


STOPS = pytest.mark.parametrize(
    ("number", "exit_code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)


@STOPS
def test_signal_after_training_leaves_model_and_cells(number, exit_code, word, file, run, monkeypatch):
    assert run(file, *PLAIN)[0] == 0
    (Path("scbetavae-out") / "notes.txt").touch()
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("sklearn.manifold.TSNE", lambda *_, **__: signal.raise_signal(number))
    code, _, errors = run(file, *PLAIN)
    assert code == exit_code
    assert errors.splitlines()[-1] == (
        f"scbetavae: {word}, the model and the cells with their latent representation are in scbetavae-out/, "
        "nothing else was written"
    )
    # What the earlier run left would describe another model.
    assert names_in() == [*ESSENTIAL, "notes.txt"]
    assert_essential(adata_has_layout=False)
    assert [path.name for path in Path().iterdir()] == ["scbetavae-out"]
    assert signal.getsignal(signal.SIGTERM) == handler


@STOPS
def test_signal_while_the_model_is_written_leaves_nothing(number, exit_code, word, file, run, monkeypatch):
    monkeypatch.setattr(AnnData, "write_h5ad", lambda *_, **__: signal.raise_signal(number))
    code, _, errors = run(file, *PLAIN)
    assert code == exit_code
    assert errors.splitlines()[-1] == f"scbetavae: {word}, nothing was written"
    assert names_in(".") == []
