"""CPU time of the command on the bundled cells, and the status of its batch removal: ``python benchmarks/command.py``.

Every seed is one run of ``python -m scbetavae`` in a temporary folder, imports included. CPU seconds are those of user and
system, of all threads; set ``OMP_NUM_THREADS`` to say how many there are. Compiled files of Python and numba of earlier runs are
used, as on any machine but the first time; a first run that does not count makes them.

Writes one row per seed: ``seed``, ``cpu_seconds``, ``wall_seconds``, ``threads``, ``status`` of the batch removal and the
``dimensions`` that were removed. Prints the median CPU seconds of the first five and how often each status occurred.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import anndata
import pandas as pd

TIMED = 5  # runs of which the median is printed


def run_command(seed: int, layout: str) -> dict[str, object]:
    """Row of one run."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--seed", str(seed), "--layout", layout, "--out", f"{folder}/out", "--strict"]
        before, started = _cpu_seconds(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "scbetavae", *arguments], check=True, capture_output=True)
        cpu, wall = _cpu_seconds() - before, time.perf_counter() - started
        removal = anndata.read_h5ad(f"{folder}/out/betavae.h5ad").uns["betavae"]["batch_removal_params"]
    row: dict[str, object] = {"seed": seed, "cpu_seconds": round(cpu, 2), "wall_seconds": round(wall, 2)}
    row["threads"] = os.environ.get("OMP_NUM_THREADS", "default")
    return row | {"status": removal["status"], "dimensions": removal["dimensions"]}


def _cpu_seconds() -> float:
    """User and system time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0, 1, ... (default 10)")
    parser.add_argument("--layout", default="auto", help="of the cells, as in the command (default auto)")
    default = Path(__file__).parent / "results" / "command.csv"
    parser.add_argument("--out", type=Path, default=default, help="table (default results/command.csv)")
    arguments = parser.parse_args()

    run_command(0, arguments.layout)
    rows = []
    for seed in range(arguments.seeds):
        rows.append(run_command(seed, arguments.layout))
        print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(arguments.out, index=False)
    timed = pd.DataFrame(rows[:TIMED])
    print(f"median of {len(timed)} runs: {timed['cpu_seconds'].median():.1f} CPU seconds")
    print(", ".join(f"{status}: {n}" for status, n in Counter(row["status"] for row in rows).most_common()))


if __name__ == "__main__":
    main()
