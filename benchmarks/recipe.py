"""The default recipe: one row per data set, arm, seed and measure in ``benchmarks/results/recipe.csv``.

``python benchmarks/recipe.py DATA --arms default,objectives`` trains on the bundled PBMCs with a planted batch, on the simulator,
and on ``kang_subset.h5ad``, ``onek1k_subset.h5ad`` and ``mixology_rnamix.h5ad`` of the folder DATA. Arms:

- ``default``: the default model, five seeds, and ``batch_removal``: ten seeds of its default removal;
- ``objectives``: plain KL and total correlation at beta 1, 4 and 10;
- ``unanchored``: the default without the anchor; ``wide``: 30 latent dimensions;
- ``same_cells``: three network seeds on the same training cells;
- ``baselines``: PCA and ICA of the same cells; ``scvi``: scvi-tools' SCVI with its defaults (slow).

Held-out cells are the same tenth for every arm but ``batch_removal``. Every seed runs all arms in turn, so that a slow moment of
the machine affects all of them. CPU seconds are those of ``train()`` alone, on one thread. Finished rows are not computed again.
"""

import argparse
import logging
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

# Before OpenMP loads: on a busy machine, CPU seconds would count threads that wait actively.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from scipy.optimize import linear_sum_assignment

import scbetavae
from scbetavae.model import BetaVAE

RESULTS = Path(__file__).parent / "results" / "recipe.csv"
N_LATENT = 10
SETS = {
    "pbmc": (["batch"], "bulk_labels"),
    "simulator": (["batch", "condition"], "cell_type"),
    "kang": (["condition"], "cell_type"),
    "rnamix600": (["protocol"], None),
    "rnamix2000": (["protocol"], None),
    "onek1k": ([], "cell_type"),
}
CONSERVED = {name: ["H2228_prop", "H1975_prop", "HCC827_prop"] for name in ("rnamix600", "rnamix2000")}
"""Columns that a removal conserves if there is no cell type: the RNA proportion of each cell line in a mixture."""

OBJECTIVES = {
    f"{objective}, beta {beta}": {"objective": objective, "beta": beta}
    for objective in ("beta_vae", "beta_tcvae")
    for beta in (1.0, 2.0, 4.0, 10.0)
}
ARMS = {
    "default": {"default": {}},
    "objectives": OBJECTIVES,
    "unanchored": {"unanchored": {"anchor": None}},
    "wide": {"wide": {"n_latent": 30}},
    "plain_beta_1": {"plain_beta_1": {"objective": "beta_vae", "beta": 1.0}},
}


def read(name: str, folder: Path | None) -> anndata.AnnData:
    """Counts of one data set."""
    if name == "pbmc":
        return scbetavae.datasets.pbmc68k(planted_batches=2)
    if name == "simulator":
        return scbetavae.datasets.simulate_counts(2000, 500, seed=0)
    if name.startswith("rnamix"):
        return variable_genes(anndata.read_h5ad(folder / "mixology_rnamix.h5ad"), int(name.removeprefix("rnamix")))
    return anndata.read_h5ad(folder / f"{name}_subset.h5ad")


def variable_genes(adata: anndata.AnnData, n_genes: int) -> anndata.AnnData:
    """The most variable genes of the log-normalized counts."""
    logs = adata.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    sc.pp.highly_variable_genes(logs, n_top_genes=n_genes)
    return adata[:, logs.var["highly_variable"].to_numpy()].copy()


def split(adata: anndata.AnnData) -> list[np.ndarray]:
    """Training, held-out and no test cells: the same for every arm and seed."""
    order = np.random.default_rng(0).permutation(adata.n_obs)
    n_train = round(0.9 * adata.n_obs)
    return [np.sort(order[:n_train]), np.sort(order[n_train:]), np.array([], dtype=int)]


def fit(adata: anndata.AnnData, model_cls: type, seed: int, arguments: dict, **training) -> tuple:
    """A trained model and the CPU seconds of its training."""
    scvi.settings.seed = seed
    torch.set_num_threads(1)  # libraries in between set the number of threads that torch shares with them
    model = model_cls(adata, **arguments)
    started = time.process_time()
    model.train(enable_progress_bar=False, accelerator="cpu", **training)
    return model, time.process_time() - started


def measure(model, adata: anndata.AnnData, factors: list[str], cell_type: str | None, held_out: np.ndarray) -> dict:
    """Scores of a model's latent representation, and its held-out negative ELBO."""
    means = model.get_latent_representation()
    found = describe(means, adata, factors, cell_type)
    found["neg_elbo"] = float(np.mean([-float(model.get_elbo(indices=held_out)) for _ in range(5)]))
    return found


def describe(means: np.ndarray, adata: anndata.AnnData, factors: list[str], cell_type: str | None) -> dict:
    """Mutual information gaps of the factors, and k-NN accuracy for cell type."""
    found = (
        {f"mig_{name}": value for name, value in scbetavae.metrics.mig(means, adata.obs[factors]).items()}
        if factors
        else {}
    )
    if cell_type is not None:
        found["knn_cell_type"] = scbetavae.metrics.knn_accuracy(means, adata.obs[cell_type])
    return found


def baselines(adata: anndata.AnnData, seed: int) -> dict[str, np.ndarray]:
    """PCA of log-normalized counts, and one run of ICA on the principal components."""
    from sklearn.decomposition import PCA, FastICA

    logs = adata.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    components = PCA(N_LATENT, random_state=seed).fit_transform(logs.X.toarray())
    with warnings.catch_warnings(action="ignore"):
        independent = FastICA(N_LATENT, random_state=seed, whiten="unit-variance", max_iter=1000).fit_transform(
            components
        )
    return {"PCA": components, "ICA": independent}


def removal(name: str, folder: Path | None, seed: int) -> dict:
    """Result of the default batch removal for a default model with its own split of cells."""
    adata = read(name, folder)
    factors, cell_type = SETS[name]
    BetaVAE.setup_anndata(adata, batch_key=factors[0], labels_key=cell_type)
    model, _ = fit(adata, BetaVAE, seed, {})
    started = time.process_time()
    model.zero_batch_dimensions(conserve=CONSERVED.get(name), seed=seed)
    table, parameters = adata.uns["betavae"]["batch_removal"], adata.uns["betavae"]["batch_removal_params"]
    batch = table[table["role"] == "batch"].set_index("classifier")
    kept = table[table["role"] != "batch"]
    return {
        "status": parameters["status"],
        "knn_after": batch.loc["knn", "after"],
        "forest_after": batch.loc["random_forest", "after"],
        "kept_knn": kept.loc[kept["classifier"] == "knn", "kept"].min(),
        "kept_forest": kept.loc[kept["classifier"] == "random_forest", "kept"].min(),
        "cpu_seconds": time.process_time() - started,
    }


def agreement(embeddings: list[np.ndarray]) -> dict:
    """Best-match and same-index |correlation| of active dimensions, mean over pairs of seeds."""
    best, same = [], []
    for i, one in enumerate(embeddings):
        for other in embeddings[i + 1 :]:
            one_active, other_active = (scbetavae.metrics.active_dimensions(z) for z in (one, other))
            d = one.shape[1]
            table = np.abs(np.corrcoef(one, other, rowvar=False)[:d, d:])
            best.append(np.mean(_matched(table[np.ix_(one_active, other_active)])))
            both = one_active & other_active
            same.append(np.mean(np.diag(table)[both]))
    return {"best_match": float(np.mean(best)), "same_index": float(np.mean(same))}


def _matched(table: np.ndarray) -> np.ndarray:
    rows, columns = linear_sum_assignment(-table)
    return table[rows, columns]


def rows_of(name: str, folder: Path | None, arms: list[str], seeds: range, done: set) -> Iterator[tuple]:
    """Rows (set, arm, seed, measures) that are missing in the CSV, seed by seed."""
    adata = read(name, folder)
    factors, cell_type = SETS[name]
    batch_key = factors[0] if factors else None
    train, held_out, test = split(adata)
    same = {"datasplitter_kwargs": {"external_indexing": [train, held_out, test]}}

    def new(arm: str, seed: int) -> bool:
        return (name, arm, seed) not in done

    BetaVAE.setup_anndata(adata, batch_key=batch_key, labels_key=cell_type)
    for seed in seeds:
        for group in arms:
            for arm, arguments in ARMS.get(group, {}).items():
                if new(arm, seed):
                    model, seconds = fit(adata, BetaVAE, seed, arguments, **same)
                    yield (
                        name,
                        arm,
                        seed,
                        measure(model, adata, factors, cell_type, held_out) | {"cpu_seconds": seconds},
                    )
        if "scvi" in arms and new("scvi", seed):
            other = adata.copy()
            scvi.model.SCVI.setup_anndata(other, batch_key=batch_key, labels_key=cell_type)
            model, seconds = fit(other, scvi.model.SCVI, seed, {}, **same)
            yield name, "scvi", seed, measure(model, other, factors, cell_type, held_out) | {"cpu_seconds": seconds}
        if "baselines" in arms and (new("PCA", seed) or new("ICA", seed)):
            for arm, means in baselines(adata, seed).items():
                yield name, arm, seed, describe(means, adata, factors, cell_type)
        if "batch_removal" in arms and factors and new("batch_removal", seed):
            yield name, "batch_removal", seed, removal(name, folder, seed)
    if "same_cells" in arms and new("same_cells", 0):
        embeddings = [fit(adata, BetaVAE, s, {}, **same)[0].get_latent_representation() for s in range(3)]
        yield name, "same_cells", 0, agreement(embeddings)


def main() -> None:
    """Parse the command line, train, measure, write, print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="folder with the files; without it, the bundled sets alone")
    parser.add_argument("--sets", type=lambda s: s.split(","), default=None)
    parser.add_argument("--arms", type=lambda s: s.split(","), default=["default"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    names = options.sets or (list(SETS) if options.data else ["pbmc", "simulator"])
    frame = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=["set", "arm", "seed"])
    done = set(frame[["set", "arm", "seed"]].itertuples(index=False, name=None))
    for name in names:
        for set_, arm, seed, values in rows_of(
            name, options.data, options.arms, range(options.first_seed, options.first_seed + options.seeds), done
        ):
            new = pd.DataFrame(
                [{"set": set_, "arm": arm, "seed": seed, "measure": k, "value": v} for k, v in values.items()]
            )
            frame = pd.concat([frame, new], ignore_index=True)
            frame.to_csv(options.out, index=False)
            print(
                set_,
                arm,
                seed,
                {k: v if isinstance(v, str) else round(float(v), 3) for k, v in values.items()},
                flush=True,
            )


if __name__ == "__main__":
    main()
