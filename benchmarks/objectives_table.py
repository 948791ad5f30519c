"""Comparison of the objectives: ``python benchmarks/objectives_table.py simulated`` or ``... cells.h5ad --covariate condition``.

Trains every objective and seed, and the baselines PCA and ICA, on the simulator of independent factors or on a file of
counts, and writes one row per run: NLL, KL and active dimensions at the end of training, the Gaussian total correlation of means
and of samples, and the mutual information gap of the covariates named. Prints a JSON line per run and a table at the end.
"""

import argparse
import json
import logging
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from sklearn.decomposition import PCA, FastICA

from scbetavae import datasets, metrics
from scbetavae.model import BetaVAE
from scbetavae.train import LinearSchedule

OBJECTIVES = {
    "beta_vae, beta 1": {"objective": "beta_vae", "beta": 1.0},
    "beta_vae, beta 10": {"objective": "beta_vae", "beta": 10.0},
    "capacity, C 5": {"objective": "capacity", "objective_kwargs": {"capacity": 5.0}},
    "capacity, C 10": {"objective": "capacity", "objective_kwargs": {"capacity": 10.0}},
    "capacity, C 20": {"objective": "capacity", "objective_kwargs": {"capacity": 20.0}},
    "beta_tcvae, beta 10": {"objective": "beta_tcvae", "beta": 10.0},
    "factor_vae, beta 10": {"objective": "factor_vae", "beta": 10.0},
    "dip_vae_i, lambda 10": {"objective": "dip_vae_i", "objective_kwargs": {"lambda_od": 10.0}},
    "dip_vae_ii, lambda 10": {"objective": "dip_vae_ii", "objective_kwargs": {"lambda_od": 10.0}},
}
N_LATENT = 10


def describe(codes: np.ndarray, variances: np.ndarray | None, adata: anndata.AnnData, covariates: list[str]) -> dict:
    """Total correlation of the active dimensions and the MIG of every covariate."""
    active = metrics.active_dimensions(codes)
    codes = codes[:, active]
    row = {"tc_means": metrics.gaussian_total_correlation(codes)}
    if variances is not None:
        row["tc_samples"] = metrics.gaussian_total_correlation_from_covariance(
            np.cov(codes, rowvar=False) + np.diag(variances[:, active].mean(axis=0))
        )
    gaps = metrics.mig(codes, adata.obs[covariates])
    return row | {f"mig_{name}": value for name, value in gaps.items()}


def train(
    adata: anndata.AnnData, arguments: dict, seed: int, max_epochs: int, warmup: float
) -> tuple[dict, np.ndarray, np.ndarray]:
    """Train one model; the last row of its history, its posterior means and variances."""
    scvi.settings.seed = seed
    adata = adata.copy()
    BetaVAE.setup_anndata(adata)
    model = BetaVAE(adata, n_latent=N_LATENT, anchor=None, **arguments)
    schedule = LinearSchedule(warmup=warmup)
    plain = {"lr_schedule": "constant", "initialize": False}  # as in scVI
    model.train(max_epochs=max_epochs, beta_schedule=schedule, accelerator="cpu", enable_progress_bar=False, **plain)
    last = adata.uns["betavae"]["history"].iloc[-1]
    means, variances = model.get_latent_representation(return_dist=True)
    found = {"nll": last["nll_train"], "kl": last["kl_train"], "active_dimensions": int(last["active_dimensions"])}
    return found, means, variances


def baselines(adata: anndata.AnnData, seed: int) -> dict[str, np.ndarray]:
    """PCA of the log-normalized counts, and ICA of the components."""
    adata = adata.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    components = PCA(N_LATENT, random_state=seed).fit_transform(np.asarray(adata.X.todense()))
    independent = FastICA(N_LATENT, random_state=seed, whiten="unit-variance", max_iter=2000).fit_transform(components)
    return {"PCA": components, "ICA": independent}


def main() -> None:
    """Parse the command line, train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="'simulated', or a file of counts")
    parser.add_argument("--covariates", type=lambda s: s.split(","), default=None)
    names = list(OBJECTIVES)
    parser.add_argument("--objectives", type=lambda s: s.split(";"), default=names, help="names, parted by ;")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, default=100)
    parser.add_argument("--warmup", type=float, default=0.4, help="fraction of the run over which beta rises")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)

    simulated = options.data == "simulated"
    covariates = options.covariates or (["cell_type", "condition", "batch"] if simulated else [])
    rows = []
    for seed in range(options.seeds):
        adata = datasets.simulate_counts(2000, 500, seed=seed) if simulated else anndata.read_h5ad(options.data)
        codes = {name: ({}, means, None) for name, means in baselines(adata, seed).items()}
        for name in options.objectives:
            codes[name] = train(adata, OBJECTIVES[name], seed, options.max_epochs, options.warmup)
        for name, (found, means, variances) in codes.items():
            scores = describe(means, variances, adata, covariates)
            rows.append({"method": name, "seed": seed, "warmup": options.warmup} | found | scores)
            print(json.dumps(rows[-1]), flush=True)
    frame = pd.DataFrame(rows)
    if options.out is not None:
        frame.to_csv(options.out, index=False, float_format="%.4g")
    summary = frame.drop(columns=["seed", "warmup"]).groupby("method", sort=False).agg(["mean", "std"]).round(2)
    print(summary.to_string())


if __name__ == "__main__":
    main()
