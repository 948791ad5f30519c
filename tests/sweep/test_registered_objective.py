"""An objective that the user registered is swept, drawn and named on the command line like those of the package."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import scbetavae
from scbetavae.sweep import recommend_beta

if not hasattr(scbetavae.module, "register_objective"):
    pytest.skip("there is no registry of objectives yet", allow_module_level=True)

from scbetavae.module import OBJECTIVES, Objective, Penalty, register_objective

beta_sweep = runpy.run_path(str(Path(__file__).with_name("toy_sweep.py")))["sweep"]


@pytest.fixture
def own():
    """An objective without beta, defined where no other process finds it."""

    class Squared(Objective):
        name, title = "squared", "Squared KL"

        def forward(self, posterior, beta, fraction):
            return Penalty.annealed(posterior.kl.sum(dim=1).square().mean(), fraction)

    register_objective(Squared)
    yield Squared
    del OBJECTIVES["squared"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_it_is_swept_with_others_and_drawn(own, cells, quick, tmp_path, n_jobs):
    choice = quick | {"objective": ["squared", "beta_vae"], "baselines": None, "n_jobs": n_jobs}
    table = beta_sweep(cells, out_dir=tmp_path / "s", **choice)
    assert set(table["status"]) == {"done"}, table["error"].unique()
    assert set(table["run"]) >= {"squared-seed0", "squared-seed1", "beta_vae-beta0.5-seed0"}
    assert table.loc[table["method"] == "squared", "beta"].isna().all()
    assert recommend_beta(table, "mig").settings["method"].nunique() == 2
    legend = scbetavae.pl.beta_sweep(table).legends[0]
    assert {"Squared KL", "beta-VAE"} <= {text.get_text() for text in legend.get_texts()}
    assert "Squared KL" in {text.get_text() for text in scbetavae.pl.tradeoff(table).get_legend().get_texts()}


def test_help_lists_every_registered_objective(own, capsys):
    from scbetavae.cli import main

    for command in ([], ["sweep"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert ", ".join(OBJECTIVES) in text
        assert "squared" in text


@pytest.mark.parametrize(("names", "registry"), [("objective_names", "module"), ("score_names", "metrics")])
def test_help_that_loads_nothing_lists_those_of_the_package(names, registry):
    say = f"print(*sorted(c.{names}()))"
    code = f"from scbetavae.cli import _arguments as c; {say}; import scbetavae.{registry}; {say}"
    first, second = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert first == second
