"""Cells per second of training: ours, scVI and DRVI, and the floor of matrix products and optimizer.

``python benchmarks/train_speed.py`` runs the main case, ``--all`` the whole grid, ``--device cuda`` either on a GPU.

All methods have one hidden layer of 128 nodes, the same latent dimensions, minibatches and threads, a negative binomial
likelihood, and train full epochs through ``train()``. They take turns, and the medians of the rounds are compared: a JSON line
per case. ``--table FILE.jsonl`` puts the rows of a case together, such as those of ``--memory``, and prints the table of
the docs. The floor is the five matrix products of a step (encoder forward and weights, decoder forward, weights and inputs)
and a fused Adam over those weights. ``--memory`` runs each method in a separate process and prints its peak.
"""

import argparse
import itertools
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import scvi
import torch
from scipy import sparse

from scbetavae.model import BetaVAE

MAIN_CASE = {"n_cells": 10_000, "n_genes": 2000, "density": 0.08, "batch_size": 128}
SIZES = [(10_000, 2000), (50_000, 2000), (10_000, 8000)]
DENSITIES = [0.03, 0.08, 0.2]
BATCH_SIZES = [128, 1024]
N_HIDDEN = 128


def make_counts(n_cells: int, n_genes: int, density: float, seed: int = 0) -> anndata.AnnData:
    """Negative binomial counts of log-normal gene means, scaled to a share of non-zero entries."""
    rng = np.random.default_rng(seed)
    log_mean = rng.normal(0.0, 1.5, n_genes)
    low, high = -20.0, 10.0
    for _ in range(60):  # bisection: the share rises with the shift
        shift = 0.5 * (low + high)
        share = 1 - np.mean((1 + np.exp(log_mean + shift) / 2.0) ** -2.0)
        low, high = (shift, high) if share < density else (low, shift)
    rate = np.exp(log_mean + shift)
    blocks = []
    for start in range(0, n_cells, 1000):
        n_block = min(1000, n_cells - start)
        depth = rng.gamma(2.0, 0.5, (n_block, n_genes))
        blocks.append(sparse.csr_matrix(rng.poisson(depth * rate).astype(np.float32)))
    counts = sparse.vstack(blocks, format="csr")
    counts = counts[np.asarray(counts.sum(axis=1)).ravel() > 0]
    return anndata.AnnData(counts)


def model_of(method: str, adata: anndata.AnnData, n_latent: int) -> object:
    """A fresh model of a method."""
    scvi.settings.seed = 0
    if method == "scvi":
        scvi.model.SCVI.setup_anndata(adata)
        return scvi.model.SCVI(adata, n_latent=n_latent, n_hidden=N_HIDDEN, gene_likelihood="nb")
    if method == "drvi":
        scvi.external.DRVI.setup_anndata(adata)
        return scvi.external.DRVI(adata, n_latent=n_latent, n_hidden=N_HIDDEN, gene_likelihood="nb")
    BetaVAE.setup_anndata(adata)
    return BetaVAE(adata, objective="beta_vae", anchor=None, n_latent=n_latent, n_hidden=N_HIDDEN)


def trainer_of(
    method: str, adata: anndata.AnnData, options: argparse.Namespace, batch_size: int
) -> Callable[[], float]:
    """Function that trains an epoch and returns its cells per second."""
    model = model_of(method, adata, options.n_latent)
    plain = {"lr_schedule": "constant", "initialize": False} if method == "ours" else {}  # only epochs are timed

    def run() -> float:
        started = time.perf_counter()
        model.train(
            max_epochs=options.epochs,
            batch_size=batch_size,
            train_size=1.0,
            accelerator="gpu" if options.device == "cuda" else "cpu",
            enable_progress_bar=False,
            **plain,
        )
        _wait(options.device)
        return options.epochs * adata.n_obs / (time.perf_counter() - started)

    return run


def floor_of(adata: anndata.AnnData, options: argparse.Namespace, batch_size: int) -> Callable[[], float]:
    """Function that runs the products and the optimizer of an epoch, and returns its cells per second."""
    n_genes, device = adata.n_vars, options.device
    x = torch.rand(batch_size, n_genes, device=device)
    hidden = torch.rand(batch_size, N_HIDDEN, device=device)
    weights = [torch.randn(N_HIDDEN, n_genes, device=device), torch.randn(n_genes, N_HIDDEN, device=device)]
    parameters = [torch.nn.Parameter(w) for w in weights]
    optimizer = torch.optim.Adam(parameters, lr=1e-9, fused=True)
    n_steps = options.epochs * -(-adata.n_obs // batch_size)

    def run() -> float:
        started = time.perf_counter()
        for _ in range(n_steps):
            with torch.no_grad():
                encoder, decoder = (p.detach() for p in parameters)
                _ = x @ encoder.T
                logits = hidden @ decoder.T
                _ = logits @ decoder
                parameters[0].grad = hidden.T @ x
                parameters[1].grad = logits.T @ hidden
            optimizer.step()
        _wait(device)
        return options.epochs * adata.n_obs / (time.perf_counter() - started)

    return run


def run_case(case: dict, options: argparse.Namespace) -> dict:
    """Cells per second of every method in one case, in turns."""
    adata = make_counts(case["n_cells"], case["n_genes"], case["density"])
    runs = {method: trainer_of(method, adata.copy(), options, case["batch_size"]) for method in options.methods}
    runs["floor"] = floor_of(adata, options, case["batch_size"])
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(options.rounds + 1):
        for name, run in runs.items():
            speed = run()
            if round_:  # the first is a warm-up
                speeds[name].append(speed)
    median = {name: float(np.median(values)) for name, values in speeds.items()}
    result = dict(case) | {f"{name}_cells_per_second": round(value) for name, value in median.items()}
    ours = median["ours"]
    result |= {f"ours_over_{name}": round(ours / median[name], 2) for name in ("scvi", "drvi") if name in median}
    result["times_the_floor"] = round(median["floor"] / ours, 2)
    return result | {"density_found": round(adata.X.nnz / np.prod(adata.shape), 3)}


def peak_memory(method: str, case: dict, options: argparse.Namespace) -> float:
    """Peak memory in MiB of a process that trains one method."""
    command = [
        sys.executable,
        __file__,
        "--peak-of",
        method,
        "--case",
        json.dumps(case),
        "--threads",
        str(options.threads),
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(printed.strip().splitlines()[-1])


def table_of(lines: list[str]) -> str:
    """Markdown table of the JSON lines that runs of this script printed.

    Parameters
    ----------
    lines
        Lines of a file of results; those that describe a machine set the number of latent dimensions of what follows.
    """
    cases: dict[tuple, dict] = {}
    n_latent = 10
    for line in lines:
        row = json.loads(line)
        if "threads" in row:
            n_latent = row["n_latent"]
            continue
        key = (row["n_cells"], row["n_genes"], row["density"], row["batch_size"], n_latent)
        cases.setdefault(key, {}).update(row)
    columns = {
        "ours (cells/s)": "ours_cells_per_second",
        "scVI": "scvi_cells_per_second",
        "DRVI": "drvi_cells_per_second",
        "ours / scVI": "ours_over_scvi",
        "ours / DRVI": "ours_over_drvi",
        "times the floor": "times_the_floor",
        "peak MiB": "ours_peak_mib",
        "of scVI": "scvi_peak_mib",
    }
    head = ["cells x genes", "density", "minibatch", "latent", *columns]
    rows = [
        [f"{n} x {g}", f"{100 * d:g}%", str(b), str(k), *(str(case.get(name, "")) for name in columns.values())]
        for (n, g, d, b, k), case in cases.items()
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="the whole grid")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n-latent", type=int, default=10)
    parser.add_argument("--methods", type=lambda s: s.split(","), default=["ours", "scvi"])
    parser.add_argument("--memory", action="store_true", help="peak memory of each method in place of speed")
    parser.add_argument("--case", type=json.loads, default=None, help="a case as JSON")
    parser.add_argument(
        "--table", metavar="FILE", default=None, help="print the table of a file of results, run nothing"
    )
    parser.add_argument("--peak-of", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the cases and print."""
    options = parse()
    if options.table:
        print(table_of(Path(options.table).read_text().splitlines()))
        return
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    cases = [options.case or MAIN_CASE]
    if options.all:
        cases = [
            {"n_cells": n, "n_genes": g, "density": d, "batch_size": b}
            for (n, g), d, b in itertools.product(SIZES, DENSITIES, BATCH_SIZES)
        ]
    if options.peak_of:
        from peak_memory import PeakMemory

        memory = PeakMemory()
        adata = make_counts(cases[0]["n_cells"], cases[0]["n_genes"], cases[0]["density"])
        trainer_of(options.peak_of, adata, options, cases[0]["batch_size"])()
        print(memory.mib())
        return
    machine = {
        "threads": options.threads,
        "device": options.device,
        "torch": torch.__version__,
        "scvi": scvi.__version__,
    }
    print(
        json.dumps(machine | {"cores": os.cpu_count(), "rounds": options.rounds, "n_latent": options.n_latent}),
        flush=True,
    )
    for case in cases:
        if options.memory:
            row = dict(case) | {f"{m}_peak_mib": round(peak_memory(m, case, options)) for m in options.methods}
        else:
            row = run_case(case, options)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
