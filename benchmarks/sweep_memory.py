"""Peak memory of the process that drives a sweep, with 2 and with 20 runs: ``python benchmarks/sweep_memory.py``.

Every measurement is a separate process that runs a sweep on the bundled example data with one epoch per run: once with the runs
in that process (``jobs 1``), once with the runs in two others (``jobs 2``). It prints one JSON line for each, and the growth.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile

from peak_memory import PeakMemory


def measure(n_runs: int, n_jobs: int) -> None:
    """Sweep, and print the peak resident memory of this process in MiB."""
    from scbetavae.datasets import pbmc68k
    from scbetavae.model import BetaVAE
    from scbetavae.sweep import SweepOptions, beta_sweep

    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    memory = PeakMemory()
    adata = pbmc68k(planted_batches=2)
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
    with tempfile.TemporaryDirectory() as folder:
        table = beta_sweep(
            adata,
            betas=(1, 4),
            seeds=range(n_runs // 2),
            covariates=["batch", "phase"],
            out_dir=f"{folder}/sweep",
            n_jobs=n_jobs,
            options=SweepOptions(
                train_kwargs={"max_epochs": 1, "accelerator": "cpu"},
                score_kwargs={"metrics": ["mig", "sap"], "n_permutations": 5, "n_bootstrap": 0},
                baselines=None,
                progress=False,
            ),
        )
    done = table.loc[table["status"] == "done", "run"].nunique()
    print(
        json.dumps({"jobs": n_jobs, "runs": done, "rows": len(table), "driver_peak_mib": round(memory.mib(), 1)}),
        flush=True,
    )


def main() -> None:
    """Measure in separate processes, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs=2, default=(2, 20))
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(*arguments.one)
        return
    for n_jobs in (1, 2):
        peaks = []
        for n_runs in arguments.runs:
            command = [sys.executable, __file__, "--one", str(n_runs), str(n_jobs)]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
            print(line, flush=True)
            peaks.append(json.loads(line)["driver_peak_mib"])
        growth = peaks[1] - peaks[0]
        print(
            f"jobs {n_jobs}: peak with {arguments.runs[1]} runs less that with {arguments.runs[0]}: {growth:+.1f} MiB"
        )


if __name__ == "__main__":
    main()
