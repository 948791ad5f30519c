"""Which behaviors of scvi.model.SCVI work with BetaVAE, by version of scvi-tools: runs tests/scvi_behaviors and makes the table.

``python benchmarks/scvi_behaviors.py`` records what works with the installed version in ``results/scvi_behaviors.csv``, keeps the
rows of other versions, and writes ``docs/user_guide/scvi_behaviors.inc``. Run it in an environment of each supported version.
"""

import ast
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "scvi_behaviors"
RESULTS = ROOT / "benchmarks" / "results" / "scvi_behaviors.csv"
TABLE = ROOT / "docs" / "user_guide" / "scvi_behaviors.inc"
KINDS = ("default", "conditioned")
GROUPS = {
    "test_training.py": "Training",
    "test_inference.py": "Inference",
    "test_files.py": "Files and checkpoints",
    "test_queries.py": "Query cells",
    "test_minified.py": "Minified data",
    "test_other_tools.py": "Other models and tools",
}
NOT_TESTED = {
    "MuData": "does not apply: `scvi.model.SCVI` has no `setup_mudata` either",
    "`convert_legacy_save`, files of scvi-tools before 0.15": "does not apply: there are no such files of `BetaVAE`",
    "`HubModelCardHelper`": "does not apply: it knows the classes of scvi-tools alone; pass a model card of your own",
    "JAX and MLX": "does not apply: they are other networks",
    "Hugging Face Hub and S3": "not tested: needs a network",
    "Data modules of LaminDB, TileDB and annbatch": "not tested",
    "`scvi.autotune`, MLflow, several devices": "not tested",
}


def behaviors() -> list[dict[str, str]]:
    """One row per test: file, test, words of its behavior, and why it does not apply to a kind of model, if it does not."""
    rows = []
    for file in GROUPS:
        tree = ast.parse((TESTS / file).read_text())
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        }
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            (marker,) = [d for d in node.decorator_list if "mark.behavior" in ast.unparse(d)]
            reasons = {k.arg: constants[k.value.id] for k in marker.keywords}
            words = marker.args[0].value
            rows.append({"file": file, "test": node.name, "behavior": words} | {k: reasons.get(k, "") for k in KINDS})
    return rows


def run() -> pd.DataFrame:
    """Status of every test by kind of model: works, fails (if one of its cases does) or skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", str(TESTS), f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, check=False)
        cases = ET.parse(report).iter("testcase")
        rows = []
        for case in cases:
            name, _, parameters = case.get("name").partition("[")
            kinds = [kind for kind in KINDS if kind in parameters.rstrip("]").split("-")] or KINDS
            found = [tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None]
            status = {"failure": "fails", "error": "fails", "skipped": "skipped"}[found[0]] if found else "works"
            file = case.get("classname").split(".")[-1] + ".py"
            rows += [{"file": file, "test": name, "kind": kind, "status": status} for kind in kinds]
    worst = ["fails", "works", "skipped"]
    frame = pd.DataFrame(rows).sort_values("status", key=lambda column: column.map(worst.index), kind="stable")
    frame = frame.drop_duplicates(["file", "test", "kind"]).sort_values(["file", "test", "kind"])
    return frame.assign(version=version("scvi-tools"))


def table_of(frame: pd.DataFrame) -> str:
    """Markdown table of all behaviors from recorded statuses, with the versions on which each works."""
    lines = ["| Behavior | default | conditioned on batch | test |", "| --- | --- | --- | --- |"]
    rows = behaviors()
    for file, group in GROUPS.items():
        lines.append(f"| **{group}** | | | `{file}` |")
        for row in (row for row in rows if row["file"] == file):
            of_test = frame[(frame["file"] == file) & (frame["test"] == row["test"])]
            cells = [_cell(of_test[of_test["kind"] == kind], row[kind]) for kind in KINDS]
            lines.append(f"| {row['behavior']} | {cells[0]} | {cells[1]} | `{row['test']}` |")
    lines.append("| **Without a test** | | | |")
    lines += [f"| {behavior} | {reason} | {reason} | |" for behavior, reason in NOT_TESTED.items()]
    return "\n".join(lines)


def _cell(statuses: pd.DataFrame, reason: str) -> str:
    """Versions on which a behavior works, or why it does not apply."""
    if (statuses["status"] == "fails").any():
        return f"fails on {', '.join(statuses.loc[statuses['status'] == 'fails', 'version'])}"
    works = ", ".join(sorted(statuses.loc[statuses["status"] == "works", "version"]))
    return f"does not apply: {reason}" if reason else works or "not run"


if __name__ == "__main__":
    found = run()
    if RESULTS.exists():
        earlier = pd.read_csv(RESULTS, dtype=str)
        found = pd.concat([earlier[earlier["version"] != version("scvi-tools")], found])
    known = {(row["file"], row["test"]) for row in behaviors()}
    found = found[[pair in known for pair in zip(found["file"], found["test"], strict=True)]]
    found = found.sort_values(["version", "file", "test", "kind"])
    found[["version", "file", "test", "kind", "status"]].to_csv(RESULTS, index=False)
    TABLE.write_text(table_of(found) + "\n")
