"""Sub-commands: which one runs, with which options, and what a mistyped one is told."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

import scbetavae
from scbetavae.cli import _main


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """Options that each command ran with, by its name; nothing is done."""
    monkeypatch.chdir(tmp_path)
    ran = {}
    for name in ("train", "sweep", "report"):
        monkeypatch.setattr(f"scbetavae.cli._{name}.run", lambda options, name=name: ran.update({name: options}) or 0)
    return ran


@pytest.mark.parametrize(
    ("arguments", "command", "file"),
    [
        ([], "train", None),
        (["cells.h5ad"], "train", "cells.h5ad"),
        (["train"], "train", None),
        (["train", "cells.h5ad"], "train", "cells.h5ad"),
        (["--out", "sweep"], "train", None),  # only the first word is a command
        (["sweep"], "sweep", None),
        (["sweep", "cells.h5ad"], "sweep", "cells.h5ad"),
        (["report", "scbetavae-out"], "report", "scbetavae-out"),
        (["folder.zarr", "--layout", "none"], "train", "folder.zarr"),
    ],
)
def test_which_command_runs(arguments, command, file, seen, run):
    assert run(*arguments) == (0, "", "")
    (name,) = seen
    assert name == command
    assert seen[name].file == (None if file is None else Path(file))


def test_options_of_training(seen, run):
    assert run("cells.h5ad", "--layout", "umap", "--gene-symbols", "symbol")[0] == 0
    assert (seen["train"].layout, seen["train"].gene_symbols) == ("umap", "symbol")
    assert run()[0] == 0
    assert (seen["train"].layout, seen["train"].gene_symbols) == ("auto", None)
    assert (seen["train"].out, seen["train"].objective) == (Path("scbetavae-out"), "beta_tcvae")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["swep"], "no command and no file 'swep'. Did you mean 'sweep'?"),
        (["reports", "--out", "x"], "no command and no file 'reports'. Did you mean 'report'?"),
        (["report"], "required: FILE"),
        (["--layout", "tsnee"], "Did you mean 'tsne'"),
    ],
)
def test_mistyped(arguments, words, seen, run):
    code, _, errors = run(*arguments)
    assert (code, seen) == (2, {})
    assert errors.count("\n") == 1
    assert words in errors


def test_a_file_with_a_name_like_a_command_is_a_file(seen, run):
    Path("swep").mkdir()
    assert run("swep")[0] == 0
    assert seen["train"].file == Path("swep")


@pytest.mark.parametrize("command", ["train", "sweep", "report"])
def test_every_command_has_help(command, run):
    code, text, _ = run(command, "--help")
    assert code == 0
    assert "examples" in text
    assert f"scbetavae {command}".removesuffix(" train") in text
    assert "--out" in text


def test_the_commands_of_the_help_are_those_that_run():
    assert set(_main._PARSERS) == set(_main.USAGE)


@pytest.fixture
def page(monkeypatch):
    """A stand-in for ``scbetavae.report``, which writes the number of cells."""
    module = ModuleType("scbetavae.report")
    module.write_report = lambda adata, path: Path(path).write_text(f"{adata.n_obs} cells")
    monkeypatch.setitem(sys.modules, "scbetavae.report", module)
    return module


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A folder with the file of a finished run."""
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    adata = scbetavae.datasets.simulate_counts(20, 5, seed=0)
    adata.uns["betavae"] = {"params": {"beta": 1.0}}
    adata.write_h5ad("out/betavae.h5ad")
    return Path("out")


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("name", ["out", "out/betavae.h5ad"])
def test_report_of_a_folder_or_a_file(name, finished, run):
    code, text, errors = run("report", name)
    assert code == 0, errors
    assert (finished / "report.html").read_text() == "20 cells"
    assert text == "written to  out/report.html\n"
    assert run("report", name, "--out", "new/page.html")[0] == 0
    assert Path("new/page.html").read_text() == "20 cells"


@pytest.mark.usefixtures("page")
def test_report_of_a_file_without_results(finished, run):
    adata = scbetavae.datasets.simulate_counts(20, 5, seed=0)
    adata.uns.clear()
    adata.write_h5ad("plain.h5ad")
    for name, words in (("plain.h5ad", "holds no results of scbetavae"), ("missing", "There is no file 'missing'")):
        code, _, errors = run("report", name)
        assert code == 2
        assert words in errors
    assert not Path("report.html").exists()
