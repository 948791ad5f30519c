"""Reconstruction and KL against beta, on a file of counts: ``python benchmarks/beta_curve.py cells.h5ad``.

Trains one model per beta and seed and prints the final means over the training cells, one JSON line per model, and a table of
means and standard deviations over seeds. With ``--out`` the rows go to a CSV file.
"""

import argparse
import itertools
import json
import logging
import warnings

import anndata
import pandas as pd
import scvi
import torch

from scbetavae.model import BetaVAE
from scbetavae.train import LinearSchedule

PLAIN = {"lr_schedule": "constant", "initialize": False, "beta_schedule": LinearSchedule(warmup=0.4)}
"""Training as in scVI, with a long warm-up, used for the published rows, on models without an anchor."""


def run(adata: anndata.AnnData, beta: float, seed: int, max_epochs: int) -> dict[str, float]:
    """Train one model and return the last row of its history."""
    scvi.settings.seed = seed
    adata = adata.copy()
    BetaVAE.setup_anndata(adata)
    model = BetaVAE(adata, objective="beta_vae", beta=beta, anchor=None)
    model.train(max_epochs=max_epochs, accelerator="cpu", enable_progress_bar=False, **PLAIN)
    last = adata.uns["betavae"]["history"].iloc[-1]
    return {
        "beta": beta,
        "seed": seed,
        "last_beta": last["beta"],
        "nll": last["nll_train"],
        "kl": last["kl_train"],
        "active_dimensions": int(last["active_dimensions"]),
    }


def main() -> None:
    """Parse the command line, train, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--betas", type=lambda s: [float(b) for b in s.split(",")], default=[0.1, 1.0, 4.0, 16.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)

    adata = anndata.read_h5ad(arguments.file)
    rows = []
    for seed, beta in itertools.product(range(arguments.seeds), arguments.betas):
        rows.append(run(adata, beta, seed, arguments.max_epochs))
        print(json.dumps(rows[-1]), flush=True)
    frame = pd.DataFrame(rows)
    if arguments.out:
        frame.to_csv(arguments.out, index=False)
    print(frame.groupby("beta")[["nll", "kl", "active_dimensions"]].agg(["mean", "std"]).round(2).to_string())
    for seed, of_seed in frame.sort_values("beta").groupby("seed"):
        rising, falling = of_seed["nll"].is_monotonic_increasing, of_seed["kl"].is_monotonic_decreasing
        print(f"seed {seed}: NLL rises with beta: {rising}; KL falls with beta: {falling}")


if __name__ == "__main__":
    main()
