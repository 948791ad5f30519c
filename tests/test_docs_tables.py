"""Tables in the docs are those that the benchmarks make from their results."""

import importlib.util
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]


def load_benchmark(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_training_speed_is_made_from_its_results():
    lines = (ROOT / "benchmarks" / "results" / "train_speed_cpu.jsonl").read_text().splitlines()
    table = (ROOT / "docs" / "user_guide" / "train_speed.inc").read_text()
    assert table.strip() == load_benchmark("train_speed").table_of(lines)


def test_the_table_of_unsolved_factors_is_made_from_its_results():
    frame = pd.read_csv(ROOT / "benchmarks" / "results" / "unsolved.csv", dtype=str)
    table = (ROOT / "docs" / "user_guide" / "unsolved.inc").read_text()
    assert table.strip() == load_benchmark("unsolved").table_of(frame)
    for heading in ("Factors of many levels", "Weak factors", "Batch confounded with cell type"):
        assert f"| {heading} | | PCA | ICA | no anchor | default |" in table


def test_the_table_of_guided_covariates_is_made_from_its_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # it imports another benchmark
    frame = pd.read_csv(ROOT / "benchmarks" / "results" / "guided.csv")
    table = (ROOT / "docs" / "user_guide" / "guided.inc").read_text()
    assert table.strip() == load_benchmark("guided").table_of(frame)


def test_cells_of_that_table_show_the_lowest_seed_where_seeds_differ():
    of_run = {"data": "Kang", "factor": "donor", "kind": "weak", "measure": "mig"}
    values = {"PCA": (0.1, 0.1), "ICA": (0.1, 0.3), "no anchor": (0.2, 0.208), "default": (0.5, 0.0)}
    rows = [
        of_run | {"method": m, "seed": s, "value": str(v)} for m, pair in values.items() for s, v in enumerate(pair)
    ]
    rows += [row | {"data": "V .9", "kind": "confounded", "measure": "status", "value": "clean"} for row in rows[:-1]]
    rows.append(rows[-1] | {"seed": 1, "value": "biology lost"})
    lines = load_benchmark("unsolved").table_of(pd.DataFrame(rows)).splitlines()
    assert lines[2] == "| Kang, `donor` | MIG | 0.10 | 0.20 (0.10) | 0.20 | 0.25 (0.00) |"
    assert lines[-1] == "| V .9 | status | clean | clean | clean | clean (1), biology lost (1) |"


def test_the_table_of_behaviors_of_scvi_tools_is_made_from_its_results():
    module = load_benchmark("scvi_behaviors")
    frame = pd.read_csv(ROOT / "benchmarks" / "results" / "scvi_behaviors.csv", dtype=str)
    table = (ROOT / "docs" / "user_guide" / "scvi_behaviors.inc").read_text()
    assert table.strip() == module.table_of(frame)
    assert "fails" not in set(frame["status"])
    assert "not run" not in table
    expected = {(row["file"], row["test"], kind) for row in module.behaviors() for kind in module.KINDS}
    assert {file.name for file in module.TESTS.glob("test_*.py")} == set(module.GROUPS)
    assert frame["version"].nunique() == 2
    for _, statuses in frame.groupby("version"):
        assert set(zip(statuses["file"], statuses["test"], statuses["kind"], strict=True)) == expected


def test_a_behavior_that_fails_on_a_version_is_shown_so():
    module = load_benchmark("scvi_behaviors")
    row = next(row for row in module.behaviors() if row["test"] == "test_transform_batch")
    statuses = [("1.4.2", "conditioned", "works"), ("1.5.1", "conditioned", "fails"), ("1.4.2", "default", "works")]
    frame = pd.DataFrame(statuses, columns=["version", "kind", "status"]).assign(file=row["file"], test=row["test"])
    (line,) = [line for line in module.table_of(frame).splitlines() if "`test_transform_batch`" in line]
    assert [cell.strip() for cell in line.split("|")[2:4]] == [f"does not apply: {row['default']}", "fails on 1.5.1"]


def test_rows_of_a_case_are_put_together():
    machine = '{"threads": 2, "n_latent": 32}'
    case = '{"n_cells": 9, "n_genes": 5, "density": 0.08, "batch_size": 4, '
    lines = [machine, case + '"ours_over_scvi": 3.5}', case + '"ours_peak_mib": 7}']
    table = load_benchmark("train_speed").table_of(lines).splitlines()
    cells = dict(zip(*([c.strip() for c in row.strip("|").split("|")] for row in (table[0], table[2])), strict=True))
    assert len(table) == 3
    assert cells["cells x genes"] == "9 x 5"
    assert (cells["density"], cells["latent"], cells["ours / scVI"], cells["peak MiB"]) == ("8%", "32", "3.5", "7")
    assert cells["DRVI"] == ""
