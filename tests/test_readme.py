"""The README: short, its cell runs without a line on stderr, and its numbers are those of the benchmarks."""

import re
from pathlib import Path

import nbclient
import nbformat
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results"


def test_short():
    assert len(README.splitlines()) <= 80
    assert len(re.findall(r"[A-Za-z0-9][\w'.,/%+-]*", README)) <= 450


def test_the_cell_is_quiet_and_ends_with_the_cards(tmp_path):
    [cell] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = notebook.cells[0].outputs
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    last = outputs[-1]
    assert last.output_type == "execute_result"
    assert "batch" in last.data["text/html"]
    assert (tmp_path / "report.html").stat().st_size > 1e5


@pytest.fixture(scope="module")
def recipe():
    frame = pd.read_csv(RESULTS / "recipe.csv")
    return frame.assign(number=pd.to_numeric(frame["value"], errors="coerce"))


def mean(recipe, data, arm, measure):
    """Mean over seeds."""
    chosen = (recipe["set"] == data) & (recipe["arm"] == arm) & (recipe["measure"] == measure)
    return recipe.loc[chosen, "number"].mean()


def test_reproducible(recipe):
    same = [mean(recipe, data, "same_cells", "same_index") for data in ("kang", "pbmc", "rnamix600")]
    assert f"{min(same):.2f}".lstrip("0") == ".97"
    assert "same dimension, mean correlation .97 (3 data sets)" in README


def test_fitted_in_seconds(recipe):
    kang = recipe[recipe["set"] == "kang"]
    kang = kang[kang["seed"].isin(kang.loc[kang["arm"] == "scvi", "seed"])]  # side by side in one run
    ours, scvi = (kang[kang["arm"] == arm].groupby("measure")["number"].mean() for arm in ("default", "scvi"))
    share = round(scvi["cpu_seconds"] / ours["cpu_seconds"])
    text = (
        f"Kang: {ours['neg_elbo']:.0f} nats per held-out cell in 1/{share} of scVI's CPU time ({scvi['neg_elbo']:.0f})"
    )
    assert text in README
    mig = [f"{values['mig_condition']:.2f}".lstrip("0") for values in (scvi, ours)]
    assert f"scVI {mig[0]}, here {mig[1]}" in README


def test_named():
    names = pd.read_csv(RESULTS / "dimension_names.csv")
    kang = names[(names["set"] == "kang") & (names["named_from"] == "covariates")]
    found = kang[kang["name"].str.contains("interferon response")].groupby("seed").size()
    assert f'"interferon response" in {len(found)} of {kang["seed"].nunique()} seeds' in README


def test_batch_is_removed(recipe):
    status = recipe[(recipe["arm"] == "batch_removal") & (recipe["measure"] == "status")]
    for data in ("pbmc", "kang"):
        of_set = status[status["set"] == data]["value"]
        assert f'"clean" in {(of_set == "clean").sum()} of {len(of_set)} seeds' in README


def test_scale():
    frame = pd.read_csv(RESULTS / "scale.csv").query("cells == 100000 and method == 'default'")
    assert f"100,000 cells take {frame['cpu_seconds'].item():.0f} CPU seconds" in README
