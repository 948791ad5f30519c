"""One dimension per cell type: PCA, both anchors and DRVI. ``python benchmarks/programs.py FOLDER --out results/programs.csv``.

``FOLDER`` has ``kang_subset.h5ad``, ``onek1k_subset.h5ad`` and ``mixology_rnamix.h5ad``; the fourth set is the bundled example
data with two planted batches. All methods have the same number of latent dimensions and the same held-out tenth of the cells. One
row per run: LMS and MSGS of cell types with DRVI's equal-width bins, all cells; the mutual information gap of the two-level
factor; nats per held-out cell, reconstruction plus KL divergence from the prior, in the same units as DRVI; CPU seconds of
training. ``--drvi`` adds DRVI's defaults, which need scvi-tools 1.5 or later. Rows of finished runs in the file are kept.
"""

import argparse
import json
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
from sklearn.decomposition import PCA

from scbetavae import datasets, metrics
from scbetavae.model import BetaVAE

# set: file, cell type, two-level factor
SETS = {
    "kang": ("kang_subset.h5ad", "cell_type", "condition"),
    "pbmc68k": (None, "bulk_labels", "batch"),
    "onek1k": ("onek1k_subset.h5ad", "cell_type", None),
    "rnamix": ("mixology_rnamix.h5ad", None, "protocol"),
}
OBJECTIVES = {"beta_tcvae, beta 4": ("beta_tcvae", 4.0), "beta_vae, beta 1": ("beta_vae", 1.0)}
N_VARIABLE = 600  # genes of the mixtures, whose file has all genes
DRVI_EPOCHS = {"onek1k": 50}


def read(name: str, folder: Path) -> anndata.AnnData:
    """Counts of a set."""
    file = SETS[name][0]
    if file is None:
        return datasets.pbmc68k(planted_batches=2)
    adata = anndata.read_h5ad(folder / file)
    if name == "rnamix":
        logs = adata.copy()
        sc.pp.normalize_total(logs, target_sum=1e4)
        sc.pp.log1p(logs)
        sc.pp.highly_variable_genes(logs, n_top_genes=N_VARIABLE)
        adata = adata[:, logs.var["highly_variable"]].copy()
    return adata


def split(n_cells: int) -> list[np.ndarray]:
    """Training and held-out cells, the same for all methods and seeds."""
    order = np.random.default_rng(0).permutation(n_cells)
    n_held_out = n_cells // 10
    return [np.sort(order[n_held_out:]), np.sort(order[:n_held_out]), np.array([], dtype=int)]


def pca(adata: anndata.AnnData, n_latent: int, seed: int) -> tuple[np.ndarray, dict]:
    """Principal components of all cells' log-normalized counts."""
    logs = adata.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    started = time.process_time()
    codes = PCA(n_latent, random_state=seed).fit_transform(logs.X.toarray())
    return codes, {"cpu_seconds": time.process_time() - started}


def fit(adata: anndata.AnnData, method: str, objective: str, n_latent: int, seed: int) -> tuple[np.ndarray, dict]:
    """Posterior means of a trained model, and its results on held-out cells."""
    scvi.settings.seed = seed
    cells = split(adata.n_obs)
    common = {"accelerator": "cpu", "enable_progress_bar": False, "datasplitter_kwargs": {"external_indexing": cells}}
    found = {}
    started = time.process_time()
    if method == "drvi":
        scvi.external.DRVI.setup_anndata(adata)
        model = scvi.external.DRVI(adata, n_latent=n_latent)
        model.train(max_epochs=DRVI_EPOCHS.get(adata.uns["set"]), **common)
    else:
        BetaVAE.setup_anndata(adata)
        name, beta = OBJECTIVES[objective]
        model = BetaVAE(adata, n_latent=n_latent, objective=name, beta=beta, anchor=method)
        model.train(**common)
    found["cpu_seconds"] = time.process_time() - started
    if method == "programs":
        kinds = model.module.anchor.target_names
        found |= {"n_factors": sum("two-level" in kind for kind in kinds), "n_programs": kinds.count("program")}
    scvi.settings.seed = seed
    found["negative_elbo"] = abs(float(model.get_elbo(indices=cells[1])))
    return model.get_latent_representation(), found


def score(codes: np.ndarray, adata: anndata.AnnData, name: str) -> dict:
    """LMS and MSGS of cell types, MIG of the two-level factor."""
    _, cell_type, factor = SETS[name]
    found = {}
    if cell_type is not None:
        labels = adata.obs[[cell_type]].astype(str)
        row = metrics.class_alignment(codes, labels, binning="width", n_bins=10, correction=None).loc[cell_type]
        found |= {"lms": row["lms"], "msgs": row["msgs"]}
    if factor is not None:
        found["mig"] = float(metrics.mig(codes, adata.obs[[factor]].astype(str))[factor])
    return found


def main() -> None:
    """Parse the command line, train, score, write after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", type=lambda text: text.split(","), default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-latent", type=int, default=32)
    parser.add_argument("--drvi", action="store_true", help="DRVI's defaults alone, one seed")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for logger in ("lightning.pytorch", "lightning.fabric", "scvi", "lightning.fabric.utilities.seed"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    torch.set_num_threads(1)

    runs = [("drvi", "", 0)]
    if not options.drvi:
        runs = [("pca", "", 0)]
        runs += [(m, o, s) for m in ("ica", "programs") for o in OBJECTIVES for s in range(options.seeds)]
    rows = pd.read_csv(options.out, keep_default_na=True).to_dict("records") if options.out.exists() else []
    done = {(row["set"], row["method"], str(row["objective"]).replace("nan", ""), row["seed"]) for row in rows}
    for name in options.sets:
        for method, objective, seed in runs:
            if (name, method, objective, seed) in done:
                continue
            adata = read(name, options.folder)
            adata.uns["set"] = name
            embed = (
                (adata, options.n_latent, seed)
                if method == "pca"
                else (adata, method, objective, options.n_latent, seed)
            )
            codes, found = (pca if method == "pca" else fit)(*embed)
            row = {"set": name, "method": method, "objective": objective, "seed": seed}
            rows.append(row | score(codes, adata, name) | found)
            print(json.dumps(rows[-1]), flush=True)
            pd.DataFrame(rows).to_csv(options.out, index=False, float_format="%.5g")
    frame = pd.DataFrame(rows).fillna({"objective": ""}).drop(columns="seed")
    print(frame.groupby(["set", "method", "objective"], sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    main()
