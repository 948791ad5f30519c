"""CPU seconds and peak memory of the default ``train()`` on many simulated cells, and SCVI's peak next to it.

``python benchmarks/scale.py`` simulates 100 000 cells x 2000 genes (8% non-zero) and trains each model in a separate process, on
one thread: the default model for its default length, with its targets, and ``scvi.model.SCVI`` for one epoch, because its peak
does not depend on the length. The peak is that of the process minus that of a process that only imports and simulates. Writes
``benchmarks/results/scale.csv``.
"""

import argparse
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1")

import pandas as pd
import scvi
import torch
from peak_memory import PeakMemory
from train_speed import make_counts

from scbetavae.model import BetaVAE

RESULTS = Path(__file__).parent / "results" / "scale.csv"


def run(method: str, n_cells: int) -> None:
    """Simulate, train, and print seconds, steps and peak memory in MiB."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    memory = PeakMemory()
    adata = make_counts(n_cells, 2000, 0.08)
    seconds, steps = 0.0, 0
    if method != "nothing":
        model_cls = {"default": BetaVAE, "scvi": scvi.model.SCVI}[method]
        model_cls.setup_anndata(adata)
        model = model_cls(adata)
        started = time.process_time()
        model.train(max_epochs=1 if method == "scvi" else None, accelerator="cpu", enable_progress_bar=False)
        seconds = time.process_time() - started
        steps = adata.uns["betavae"]["params"]["steps"] if method == "default" else 0
    print(seconds, steps, memory.mib())


def main() -> None:
    """Run each method in a separate process, write and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=lambda s: [int(n) for n in s.split(",")], default=[10_000, 100_000])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=2, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run(options.one[0], int(options.one[1]))
        return
    rows = []
    for n_cells in options.cells:
        for method in ("nothing", "default", "scvi"):
            command = [sys.executable, __file__, "--one", method, str(n_cells)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-3:]
            seconds, steps, peak = map(float, printed)
            rows.append(
                {
                    "cells": n_cells,
                    "method": method,
                    "cpu_seconds": seconds,
                    "steps": int(steps),
                    "peak_mib": round(peak),
                }
            )
            print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
