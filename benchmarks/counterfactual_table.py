"""Counterfactuals of held-out cells, compared with baselines without a model.

``python benchmarks/counterfactual_table.py kang_subset.h5ad --out results/counterfactual_kang.csv``
``python benchmarks/counterfactual_table.py --simulated --seeds 2 --epochs 100 --out results/counterfactual_simulated.csv``

The target cells of one group at a time are left out. Models train on the rest and predict the left-out cells from the source
cells of that group. On simulated cells the truth is the same source cells with the condition changed. Prints the relative error
(0 perfect, 1 no change), one line per model and method, averaged over seeds, one column per group; ``--out`` writes all rows.

``scale``: ``cells`` is the mean over cells of log(1 + counts per 10 000) and compares counts with counts; ``pseudobulk`` is the
logarithm of the mean and compares expected counts with counts.
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scvi
import torch
from scipy import sparse
from scipy.special import softmax
from sklearn.decomposition import PCA

import scbetavae
from scbetavae import metrics
from scbetavae.model import BetaVAE
from scbetavae.model._count_transport import draw_counts, to_shares, transport_counts
from scbetavae.train import LinearSchedule

# name: objective, beta, whether the decoder is conditioned on batch. The last is scVI with beta 1 and our warm-up.
MODELS = {
    "beta_vae, beta 1": ("beta_vae", 1.0, False),
    "beta_vae, beta 4": ("beta_vae", 4.0, False),
    "beta_tcvae, beta 10": ("beta_tcvae", 10.0, False),
    "conditioned on batch, beta 1": ("beta_vae", 1.0, True),
}
METHODS = ("group_shift", "dimension", "nearest")
N_COMPONENTS = 10
PLAIN = {"lr_schedule": "constant", "initialize": False, "beta_schedule": LinearSchedule(warmup=0.4)}
"""Training as in scVI, with a long warm-up, used for the published rows, on models without an anchor."""


def train(adata: anndata.AnnData, name: str, covariate: str, seed: int, epochs: int, folder: Path | None) -> BetaVAE:
    """Train a model, or load it from ``folder`` if it was trained before."""
    objective, beta, condition_on_batch = MODELS[name]
    if folder is not None and (folder / "model.pt").exists():
        return BetaVAE.load(str(folder), adata, accelerator="cpu")
    scvi.settings.seed = seed
    BetaVAE.setup_anndata(adata, batch_key=covariate if condition_on_batch else None)
    model = BetaVAE(adata, objective=objective, beta=beta, anchor=None, condition_on_batch=condition_on_batch)
    model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, **PLAIN)
    if folder is not None:
        model.save(str(folder), overwrite=True)
    return model


class Judge:
    """Compares predictions with the real target cells of one group, on both scales."""

    def __init__(self, source: sparse.csr_matrix, target: sparse.csr_matrix):
        self.profiles = {
            "cells": (metrics.log_profile(source), metrics.log_profile(target)),
            "pseudobulk": (log_of_mean(source), log_of_mean(target)),
        }

    def rows(self, predicted: np.ndarray, scale: str) -> list[dict]:
        """Errors of a profile over all and over the 50 most differential genes."""
        source, target = self.profiles[scale]
        top = metrics.differential_genes(source, target)
        return [
            {
                "scale": scale,
                "genes": label,
                "relative_error": metrics.relative_error(predicted[genes], source[genes], target[genes]),
                "r2": metrics.squared_correlation(predicted[genes], target[genes]),
            }
            for label, genes in (("all", slice(None)), ("top_50", top))
        ]

    def both(self, counts: sparse.csr_matrix, expected: np.ndarray) -> list[dict]:
        """Errors of drawn counts by cells, and of expected counts as pseudobulk."""
        return self.rows(metrics.log_profile(counts), "cells") + self.rows(log_of_mean(expected), "pseudobulk")


def log_of_mean(counts: sparse.csr_matrix | np.ndarray) -> np.ndarray:
    """Logarithm of 1 + mean counts per 10 000."""
    dense = counts.toarray() if sparse.issparse(counts) else counts
    return np.log1p(1e4 * to_shares(dense).mean(axis=0))


def log_cells(counts: sparse.csr_matrix) -> np.ndarray:
    """log(1 + counts per 10 000) of every cell."""
    return np.log1p(1e4 * to_shares(counts.toarray()))


def baselines(adata: anndata.AnnData, group: str, arguments: argparse.Namespace, judge: Judge, seed: int) -> list[dict]:
    """Shifts of mean log expression and of principal components; half of the target cells predicted from the rest."""
    condition, groups = (adata.obs[name].astype(str).to_numpy() for name in (arguments.covariate, arguments.groupby))
    others = [name for name in np.unique(groups) if name != group]
    logs = log_cells(adata.X)
    seen = ~((groups == group) & (condition == arguments.target))
    pca = PCA(N_COMPONENTS, random_state=seed).fit(logs[seen])

    def shift(values: np.ndarray) -> np.ndarray:
        pairs = [
            [values[(groups == name) & (condition == c)].mean(axis=0) for c in (arguments.source, arguments.target)]
            for name in others
        ]
        return np.mean([after - before for before, after in pairs], axis=0)

    here = logs[(groups == group) & (condition == arguments.source)]
    source = here.mean(axis=0)
    scores = pca.transform(logs)
    moved = shift(scores) @ pca.components_
    reconstructed = pca.inverse_transform(pca.transform(here)).mean(axis=0)
    rows = []
    for method, added, profile in (
        ("mean_shift of the profile", True, source + shift(logs)),
        ("PCA shift", True, source + moved),
        ("PCA shift", False, reconstructed + moved),
    ):
        rows += [{"method": method, "added": added} | row for row in judge.rows(np.maximum(profile, 0.0), "cells")]
    return rows


def conditioned(
    model: BetaVAE, adata: anndata.AnnData, arguments: argparse.Namespace, source: np.ndarray, judge: Judge
) -> list[dict]:
    """A batch-conditioned decoder with the other batch, with and without adding its change to the observed counts."""
    codes = model.get_latent_representation(adata)[source]
    before, after = (to_shares(model.decode(codes, batch=batch)) for batch in (arguments.source, arguments.target))
    counts = sparse.csr_matrix(adata.X[source])
    totals = np.asarray(counts.sum(axis=1))
    expected, drawn = transport_counts(counts, before, after, np.random.default_rng(0))
    rows = [{"added": True} | row for row in judge.both(drawn, expected)]
    plain = draw_counts(totals.ravel(), after, np.random.default_rng(0))
    rows += [{"added": False} | row for row in judge.both(plain, totals * after)]
    return [{"method": "told the other batch"} | row for row in rows]  # the label of the published rows


def predictions(
    model: BetaVAE, adata: anndata.AnnData, group: str, arguments: argparse.Namespace, judge: Judge
) -> list[dict]:
    """All methods of one model."""
    rows = []
    for method in METHODS:
        for added in (True, False):
            predicted = model.counterfactual(
                arguments.covariate,
                arguments.source,
                arguments.target,
                groupby=arguments.groupby,
                method=method,
                exclude=group,
                add_to_observed=added,
                adata=adata,
            )
            here = predicted[(predicted.obs[arguments.groupby] == group).to_numpy()]
            found = judge.both(here.X, here.layers["expected"])
            rows += [{"method": method, "added": added} | row for row in found]
    return rows


def frame_rows(
    model: BetaVAE, adata: anndata.AnnData, group: str, arguments: argparse.Namespace, judge: Judge
) -> list[dict]:
    """What ``counterfactual`` reports with every prediction: its baselines, and split halves if the target cells are real."""
    predicted = model.counterfactual(
        arguments.covariate, arguments.source, arguments.target, groupby=arguments.groupby, exclude=group, adata=adata
    )
    here = predicted[(predicted.obs[arguments.groupby] == group).to_numpy()]
    rows = []
    for method, layer in (("no_change", "observed"), ("mean_shift", "mean_shift")):
        found = judge.both(here.layers[layer], here.layers[layer])
        rows += [{"method": method, "added": True} | row for row in found]
    if arguments.simulated:
        return rows
    table = predicted.uns["betavae"]["counterfactual"]
    for row in table[(table["group"] == group) & (table["method"] == "split_half")].itertuples():
        rows.append(
            {"method": "split_half", "added": False, "scale": "cells", "genes": row.genes}
            | {"relative_error": row.relative_error, "r2": row.r2}
        )
    return rows


def simulated(seed: int) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Simulated cells, and the same cells with their condition changed."""
    adata = scbetavae.datasets.simulate_counts(1000, 500, seed=seed)
    parts = [
        pd.get_dummies(adata.obs[name]).to_numpy(float) @ adata.varm[f"program_{name}"].T
        for name in ("cell_type", "batch")
    ]
    angle, gradient = adata.obs["phase_angle"].to_numpy(), adata.obs["gradient"].to_numpy()
    parts.append(np.sqrt(2) * np.column_stack([np.cos(angle), np.sin(angle)]) @ adata.varm["program_phase"].T)
    parts.append(np.sqrt(12) * (gradient[:, None] - 0.5) @ adata.varm["program_gradient"].T)
    sign = np.where(adata.obs["condition"] == "treated", -1.0, 1.0)[:, None]  # the other condition
    logits = np.log(adata.var["abundance"].to_numpy()) + sum(parts) + sign @ adata.varm["program_condition"].T
    rng = np.random.default_rng(seed + 1000)
    dispersion = adata.var["dispersion"].to_numpy()
    rate = (
        rng.gamma(1 / dispersion, dispersion * softmax(logits, axis=1)) * adata.obs["library_size"].to_numpy()[:, None]
    )
    changed = adata.copy()
    changed.X = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    return adata, changed


def run(
    adata: anndata.AnnData, changed: anndata.AnnData | None, seed: int, arguments: argparse.Namespace
) -> list[dict]:
    """All models and baselines, each group held out once."""
    rows = []
    condition, groups = (adata.obs[name].astype(str).to_numpy() for name in (arguments.covariate, arguments.groupby))
    for group in arguments.groups:
        source, target = ((groups == group) & (condition == name) for name in (arguments.source, arguments.target))
        counts = sparse.csr_matrix(adata.X)
        truth = counts[target] if changed is None else sparse.csr_matrix(changed.X)[source]
        judge = Judge(counts[source], truth)
        found = [{"model": "none"} | row for row in baselines(adata, group, arguments, judge, seed)]
        for name in MODELS:
            stem = f"{name}_{group}_{seed}".replace(" ", "_").replace(",", "")
            folder = None if arguments.models is None else arguments.models / stem
            started = time.perf_counter()
            model = train(adata[~target].copy(), name, arguments.covariate, seed, arguments.epochs, folder)
            print(f"seed {seed}, without {group}: {name}, {time.perf_counter() - started:.0f} s", flush=True)
            if MODELS[name][2]:
                new = conditioned(model, adata, arguments, source, judge)
            else:
                new = predictions(model, adata, group, arguments, judge)
                if name == next(iter(MODELS)):
                    found += [{"model": "none"} | row for row in frame_rows(model, adata, group, arguments, judge)]
            found += [{"model": name} | row for row in new]
        rows += [{"held_out": group, "seed": seed} | row for row in found]
    return rows


def summary(frame: pd.DataFrame, scale: str, genes: str) -> pd.DataFrame:
    """Relative error, one line per model and method, averaged over seeds; column ``mean`` averages over groups."""
    part = frame[(frame["scale"] == scale) & (frame["genes"] == genes)]
    table = part.pivot_table(index=["model", "method", "added"], columns="held_out", values="relative_error")
    table["mean"] = table.mean(axis=1)
    per_seed = part.groupby(["model", "method", "added", "seed"])["relative_error"].mean()
    table["sd over seeds"] = per_seed.groupby(["model", "method", "added"]).std()
    return table.sort_values("mean").round(2)


def main() -> None:
    """Parse the command line, train, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--covariate", default="condition")
    parser.add_argument("--source", default="ctrl")
    parser.add_argument("--target", default="stim")
    parser.add_argument("--groupby", default="cell_type")
    parser.add_argument(
        "--groups", type=lambda text: text.split(","), default=["CD14+ Monocytes", "CD4 T cells", "B cells"]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", type=Path, help="folder that keeps trained models for the next time")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if (arguments.file is None) is not arguments.simulated:
        parser.error("give a file, or --simulated")
    if arguments.simulated:
        arguments.source, arguments.target, arguments.groups = "control", "treated", ["type_0", "type_1", "type_2"]
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)

    rows = []
    for seed in range(arguments.seeds):
        adata, changed = simulated(seed) if arguments.simulated else (anndata.read_h5ad(arguments.file), None)
        rows += run(adata, changed, seed, arguments)
        if arguments.out:
            pd.DataFrame(rows).round(4).to_csv(arguments.out, index=False)
    frame = pd.DataFrame(rows)
    for scale in ("cells", "pseudobulk"):
        for genes in ("all", "top_50"):
            print(f"\nerror ratio, {scale}, genes: {genes}")
            print(summary(frame, scale, genes).to_string())


if __name__ == "__main__":
    main()
