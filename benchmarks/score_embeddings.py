"""Scores of PCA, ICA and two beta-VAEs on a file of counts.

``python benchmarks/score_embeddings.py cells.h5ad --covariates condition,cell_type --out results/scores_cells.csv``

All embeddings have the same number of dimensions. The models train on raw counts of the most variable genes, PCA on their
logarithm, and the ICA rotates that PCA. Prints a table of normalized scores with the 95% interval; ``--out`` writes every column,
``--picture`` plots them.
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from sklearn.decomposition import FastICA

import scbetavae

MODELS = {"X_betavae": ("beta_vae", 4.0), "X_betatcvae": ("beta_tcvae", 10.0)}
PLAIN = {"lr_schedule": "constant", "initialize": False, "beta_schedule": scbetavae.train.LinearSchedule(warmup=0.4)}
"""Training as in scVI, with a long warm-up, used for the published rows, on models without an anchor."""
SHOWN = ("mig", "sap", "lms", "dci_completeness", "dci_informativeness")


def linear_embeddings(adata: anndata.AnnData, n_dims: int, seed: int) -> None:
    """``X_pca`` and ``X_ica`` of the logarithm of normalized counts."""
    log = adata.copy()
    sc.pp.normalize_total(log)
    sc.pp.log1p(log)
    sc.pp.pca(log, n_comps=n_dims, random_state=seed)
    adata.obsm["X_pca"] = log.obsm["X_pca"]
    ica = FastICA(n_dims, whiten="unit-variance", max_iter=2000, random_state=seed)
    adata.obsm["X_ica"] = ica.fit_transform(log.obsm["X_pca"].astype(np.float64))


def model_embedding(adata: anndata.AnnData, name: str, n_dims: int, epochs: int, seed: int) -> None:
    """Train, and store the posterior means."""
    objective, beta = MODELS[name]
    scvi.settings.seed = seed
    model = scbetavae.model.BetaVAE(adata, objective=objective, beta=beta, anchor=None, n_latent=n_dims)
    model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, **PLAIN)
    adata.obsm[name] = model.get_latent_representation()


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Normalized scores with their interval on the same scale, one line per covariate and embedding."""
    frame = frame[frame["metric"].isin(SHOWN)]
    span = frame["ceiling"] - frame["null"]
    ends = [(frame[name] - frame["null"]) / span for name in ("ci_low", "ci_high")]
    texts = []
    for value, low, high in zip(frame["normalized"].round(2) + 0.0, *(end.round(2) + 0.0 for end in ends), strict=True):
        interval = "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
        texts.append("-" if np.isnan(value) else f"{value:.2f}{interval}")
    table = frame.assign(text=texts).pivot(index=["covariate", "embedding"], columns="metric", values="text")
    order = (
        frame[["covariate", "embedding"]]
        .drop_duplicates()
        .sort_values("covariate", key=lambda c: c == "all", kind="stable")
    )
    covariates = list(dict.fromkeys(order["covariate"]))
    index = [(covariate, embedding) for covariate in covariates for embedding in dict.fromkeys(order["embedding"])]
    return table.loc[index, [name for name in SHOWN if name in table]]


def main() -> None:
    """Parse the command line, embed, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--covariates", type=lambda text: text.split(","), required=True)
    parser.add_argument("--donor-key")
    parser.add_argument("--genes", type=int, default=2000, help="most variable genes, all if the file has fewer")
    parser.add_argument("--dims", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)

    adata = anndata.read_h5ad(arguments.file)
    if arguments.genes < adata.n_vars:
        log = sc.pp.log1p(sc.pp.normalize_total(adata, copy=True), copy=True)
        sc.pp.highly_variable_genes(log, n_top_genes=arguments.genes)
        adata = adata[:, log.var["highly_variable"].to_numpy()].copy()
    linear_embeddings(adata, arguments.dims, arguments.seed)
    scbetavae.model.BetaVAE.setup_anndata(adata)
    for name in MODELS:
        started = time.perf_counter()
        model_embedding(adata, name, arguments.dims, arguments.epochs, arguments.seed)
        seconds = time.perf_counter() - started
        n_active = scbetavae.metrics.active_dimensions(adata.obsm[name]).sum()
        print(f"{name}: {arguments.epochs} epochs in {seconds:.0f} s, {n_active} active dimensions", flush=True)
    started = time.perf_counter()
    frame = scbetavae.tl.compare_embeddings(
        adata,
        arguments.covariates,
        ["X_pca", "X_ica", *MODELS],
        donor_key=arguments.donor_key,
        seed=arguments.seed,
    )
    print(f"scored {adata.n_obs} cells x {adata.n_vars} genes in {time.perf_counter() - started:.0f} s")
    print(summary(frame).to_string())
    joint = frame[frame["metric"].isin(("dci_disentanglement", "dcimig", "mig_sup"))]
    print(joint.pivot(index="embedding", columns="metric", values="normalized").round(2).to_string())
    if arguments.out:
        frame.round(4).to_csv(arguments.out, index=False)
    if arguments.picture:
        scbetavae.pl.embedding_comparison(adata).savefig(arguments.picture, dpi=110)


if __name__ == "__main__":
    main()
