"""Which dimensions predict a covariate: two beta-VAEs, PCA and ICA on a file of counts.

``python benchmarks/condition_prediction.py cells.h5ad --covariates condition,cell_type --out results/condition.csv``

All embeddings have the same number of dimensions. With ``--donor-key`` whole donors are held out. ``logistic`` in the table is
the accuracy of a logistic regression with balanced class weights on all dimensions and the same folds; compare it with our
discriminant (``all``). Prints medians over seeds; ``--out`` writes every row, ``--picture`` plots the first covariate for the
last model.
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
import torch
from score_embeddings import MODELS, linear_embeddings, model_embedding
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scbetavae
from scbetavae.metrics import _held_out
from scbetavae.metrics._checks import check_column, check_groups


def logistic_accuracy(adata: anndata.AnnData, name: str, covariate: str, donor_key: str | None, seed: int) -> float:
    """Held-out accuracy of a balanced logistic regression on all dimensions; NaN for numbers."""
    target = _held_out.make_target(check_column(adata.obs[covariate], adata.n_obs, covariate))
    if not target.n_classes:
        return float("nan")
    groups = None if donor_key is None else check_groups(adata.obs[donor_key], adata.n_obs)
    codes, fold = np.asarray(adata.obsm[name])[target.keep], _held_out.split_folds(target, groups, seed)
    predicted = np.zeros(len(fold), dtype=np.int64)
    for held_out in (fold == i for i in range(fold.max() + 1)):
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=500))
        model.fit(codes[~held_out], target.values[~held_out])
        predicted[held_out] = model.predict(codes[held_out])
    return _held_out.accuracy(predicted, target)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Best dimension, all dimensions, technical covariates, and number of significant dimensions; medians over seeds."""
    keys = ["covariate", "embedding", "seed"]
    parts = {}
    for run, rows in frame.groupby(keys, sort=False):
        dimensions = rows[(rows["predictor"] == "dimension") & rows["active"]].sort_values("accuracy", ascending=False)
        best, last = dimensions.iloc[0], rows.set_index("predictor")
        parts[run] = {
            "active": len(dimensions),
            "significant": int((dimensions["p_adjusted"] < 0.05).sum()),
            "best": best["accuracy"],
            "best_p": best["p_adjusted"],
            "best_auroc": best["auroc"],
            "second": dimensions["accuracy"].iloc[1] if len(dimensions) > 1 else np.nan,
            "beyond": best["beyond_technical"],
            "all": last.loc["all", "accuracy"],
            "all_p": last.loc["all", "p_value"],
            "logistic": rows["logistic"].iloc[0],
            "technical": last.loc["technical", "accuracy"],
        }
    table = pd.DataFrame(parts).T.rename_axis(keys)
    return table.groupby(keys[:2], sort=False).median().round(3)


def main() -> None:
    """Parse the command line, embed, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--covariates", type=lambda text: text.split(","), required=True)
    parser.add_argument("--donor-key")
    parser.add_argument("--genes", type=int, default=2000, help="most variable genes, all if the file has fewer")
    parser.add_argument("--dims", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--permutations", type=int, default=200)
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
    scbetavae.model.BetaVAE.setup_anndata(adata)
    frames, seconds = [], 0.0
    for seed in range(arguments.seeds):
        linear_embeddings(adata, arguments.dims, seed)
        for name in MODELS:
            model_embedding(adata, name, arguments.dims, arguments.epochs, seed)
        for name in ("X_pca", "X_ica", *MODELS):
            for covariate in arguments.covariates:
                started = time.perf_counter()
                frame = scbetavae.tl.predict_condition(
                    adata,
                    covariate,
                    obsm_key=name,
                    donor_key=arguments.donor_key,
                    n_permutations=arguments.permutations,
                    seed=seed,
                    key_added=covariate,
                )
                seconds += time.perf_counter() - started
                logistic = logistic_accuracy(adata, name, covariate, arguments.donor_key, seed)
                frames.append(frame.assign(embedding=name, seed=seed, logistic=logistic))
        print(f"seed {seed}: done", flush=True)
    frame = pd.concat(frames, ignore_index=True)
    print(f"{adata.n_obs} cells x {adata.n_vars} genes, {seconds / len(frames):.1f} s per prediction")
    print(summary(frame).to_string())
    for flag in sorted(set(frame["flag"]) - {""}):
        print("flag:", flag)
    if arguments.out:
        frame.round(4).to_csv(arguments.out, index=False)
    if arguments.picture:
        axes = scbetavae.pl.condition_prediction(adata, key=arguments.covariates[0])
        axes.figure.savefig(arguments.picture, dpi=110)


if __name__ == "__main__":
    main()
