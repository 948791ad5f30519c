"""Tables in the docs are those that the benchmarks make from their results."""

import importlib.util
from pathlib import Path

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
