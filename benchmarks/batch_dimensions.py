"""Which batch dimensions are found, and what their removal costs, for several embeddings.

``python benchmarks/batch_dimensions.py`` simulates cells with known factors (5 seeds of 2000 cells, 500 genes and a batch as
strong as cell type). Embeddings: true factors, a plain beta-VAE and a beta-TCVAE. An intervention shows which dimensions truly
encode batch: the same cells are drawn in the other batch and encoded again.
``python benchmarks/batch_dimensions.py --real DIR`` reads ``kang_subset.h5ad`` (condition as batch, cell type conserved) and
``mixology_rnamix.h5ad`` (protocol, three RNA proportions) from a folder.

Every report is that of ``scbetavae.tl.zero_batch_dimensions``, on the half of the cells that took no part in the decision. Each
row is written to a CSV when it is ready. ``--embeddings DIR`` stores trained embeddings, so that a second run trains nothing.
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
from scipy.special import log_softmax
from sklearn.decomposition import FastICA

import scbetavae

RESULTS = Path(__file__).parent / "results"
METHODS = ("stepwise", "dominant")
MODELS = {
    "beta_tcvae, beta 10": {"objective": "beta_tcvae", "beta": 10.0},
    "beta_vae, beta 4": {"objective": "beta_vae", "beta": 4.0},
}
CONDITIONED = "told the batch, beta 1"  # a batch-conditioned decoder; the label is that of the published rows
REAL = {
    "kang_subset": ("condition", ["cell_type"]),
    "mixology_rnamix": ("protocol", ["H2228_prop", "H1975_prop", "HCC827_prop"]),
}
PLAIN = {"lr_schedule": "constant", "initialize": False}
"""Training as in scVI, used for the published rows, on models without an anchor."""
MOVED = 0.1
"""Share of its variance that batch must move for a dimension to encode batch."""


def train(adata: anndata.AnnData, arguments: dict, batch_key: str, seed: int, epochs: int) -> scbetavae.model.BetaVAE:
    """Train one model with ten latent dimensions."""
    scbetavae.model.BetaVAE.setup_anndata(adata, batch_key=batch_key)
    scvi.settings.seed = seed
    model = scbetavae.model.BetaVAE(adata, anchor=None, **arguments)
    schedule = scbetavae.train.LinearSchedule(warmup=0.1)
    model.train(max_epochs=epochs, beta_schedule=schedule, accelerator="cpu", enable_progress_bar=False, **PLAIN)
    return model


def divergences(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Mean KL divergence of every dimension from the prior (nats)."""
    return 0.5 * (means**2 + variances - 1 - np.log(variances)).mean(axis=0)


def write_embedding(adata: anndata.AnnData, codes: np.ndarray, kl: np.ndarray | None) -> None:
    """Write ``obsm["X_betavae"]`` and, for a model, the KL that decides which dimensions are active."""
    adata.obsm["X_betavae"] = codes
    if kl is not None:
        n_dims = codes.shape[1]
        active = scbetavae.metrics.active_dimensions(codes, kl=kl)
        names = tuple(f"dim_{d}" for d in range(n_dims))
        scbetavae.model.Latent(codes, None, kl, active, ("free",) * n_dims, names).write(adata)


def report(adata: anndata.AnnData, batch_key: str, conserve: list[str], method: str, seed: int) -> dict:
    """Find and remove batch dimensions of ``obsm["X_betavae"]``; one row of the table."""
    options = {"conserve": conserve, "method": method, "seed": seed}
    scbetavae.tl.find_batch_dimensions(adata, batch_key, **options)
    scbetavae.tl.zero_batch_dimensions(adata, None, batch_key, **options)  # reads the search
    stored = adata.uns["betavae"]
    table = stored["batch_removal"]
    batch = table[table["role"] == "batch"].set_index("classifier")
    kept = table[(table["role"] == "conserved") & (table["classifier"] == "knn")].set_index("covariate")
    least = kept["kept"].idxmin()
    return {
        "search_status": stored["batch_dimensions_params"]["status"],
        "status": stored["batch_removal_params"]["status"],
        "dimensions": stored["batch_removal_params"]["dimensions"],
        "batch_before": batch.loc["knn", "before"],
        "batch_after": batch.loc["knn", "after"],
        "batch_expected": batch.loc["knn", "expected"],
        "forest_before": batch.loc["random_forest", "before"],
        "forest_after": batch.loc["random_forest", "after"],
        "ilisi_before": batch.loc["ilisi", "before"],
        "ilisi_after": batch.loc["ilisi", "after"],
        "conserved_before": kept["before"].min(),
        "conserved_after": kept["after"].min(),
        "kept_least": kept.loc[least, "kept"],
        "kept_least_of": least,
    }


# -- simulated cells ---------------------------------------------------------------------------------------------------


def in_other_batch(adata: anndata.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of the same cells in each of two batches, drawn with the same seed."""
    obs = adata.obs
    coded = {
        "cell_type": np.eye(obs["cell_type"].nunique())[obs["cell_type"].cat.codes],
        "condition": 2.0 * (obs["condition"] == "treated").to_numpy()[:, None] - 1.0,
        "phase": np.sqrt(2) * np.column_stack([np.cos(obs["phase_angle"]), np.sin(obs["phase_angle"])]),
        "gradient": np.sqrt(12) * (obs["gradient"].to_numpy()[:, None] - 0.5),
    }
    logits = np.log(adata.var["abundance"].to_numpy()) + sum(
        code @ np.asarray(adata.varm[f"program_{name}"]).T for name, code in coded.items()
    )
    dispersion = adata.var["dispersion"].to_numpy()
    counts = []
    for batch in range(2):
        rng = np.random.default_rng(seed)
        share = np.exp(log_softmax(logits + np.asarray(adata.varm["program_batch"])[:, batch], axis=1))
        mean = share * obs["library_size"].to_numpy()[:, None]
        drawn = rng.poisson(rng.gamma(1 / dispersion, dispersion * mean)).astype(np.float32)
        drawn[drawn.sum(axis=1) == 0, 0] = 1
        counts.append(drawn)
    return counts[0], counts[1]


def moved_by_batch(model: scbetavae.model.BetaVAE, adata: anndata.AnnData, seed: int) -> np.ndarray:
    """Share of the variance of every dimension that a change of batch alone moves, mean over cell types."""
    means = []
    for counts in in_other_batch(adata, seed):
        other = adata.copy()
        other.X = counts
        means.append(model.get_latent_representation(other))
    # Within types, because batch may shift them differently; averaged over cells first, because counts are noisy.
    shift = pd.DataFrame(means[1] - means[0]).groupby(adata.obs["cell_type"].to_numpy()).transform("mean").to_numpy()
    return ((shift / 2) ** 2).mean(axis=0) / np.concatenate(means).var(axis=0)


def true_factors(adata: anndata.AnnData, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True factors and two columns of noise, in random order; and the share of variance that batch moves."""
    obs = adata.obs
    columns = np.column_stack(
        [
            np.eye(obs["cell_type"].nunique())[obs["cell_type"].cat.codes],
            obs["batch"].cat.codes,
            obs["condition"].cat.codes,
            obs["gradient"],
        ]
    )
    codes = np.column_stack([3.0 * columns + 0.2 * rng.normal(size=columns.shape), rng.normal(size=(len(obs), 2))])
    moved = np.zeros(codes.shape[1])
    moved[obs["cell_type"].nunique()] = 1.0
    order = rng.permutation(codes.shape[1])
    return codes[:, order], moved[order]


def simulated(seed: int, epochs: int, out: list[dict]) -> None:
    """True factors and two trained models on one draw of cells."""
    effects = scbetavae.datasets.FactorEffects(batch=1.0)  # as strong as cell type
    adata = scbetavae.datasets.simulate_counts(2000, 500, effects=effects, seed=seed)
    conserve = ["cell_type", "condition"]
    for name in ("true factors", *MODELS):
        started = time.perf_counter()
        kl = None
        if name == "true factors":
            codes, moved = true_factors(adata, np.random.default_rng(seed))
        else:
            model = train(adata, MODELS[name], "batch", seed, epochs)
            codes, variances = model.get_latent_representation(return_dist=True)
            kl, moved = divergences(codes, variances), moved_by_batch(model, adata, seed)
        write_embedding(adata, codes, kl)
        active = scbetavae.metrics.active_dimensions(codes, kl=kl)
        true = set(np.flatnonzero((moved >= MOVED) & active).tolist())
        for method in METHODS:
            row = {"embedding": name, "seed": seed, "method": method, **report(adata, "batch", conserve, method, seed)}
            chosen = set(adata.uns["betavae"]["batch_dimensions"].query("chosen")["dimension"])
            row["true_dimensions"] = ", ".join(map(str, sorted(true)))
            row["moved"] = ", ".join(f"{share:.2f}" for share in moved)
            row["found"], row["missed"], row["wrong"] = len(chosen & true), len(true - chosen), len(chosen - true)
            gradient = [
                scbetavae.metrics.knn_accuracy(array, adata.obs["gradient"], seed=seed)
                for array in (codes, adata.obsm["X_betavae_zeroed"])
            ]
            row["unconserved_kept"] = gradient[1] / gradient[0]  # the gradient, which is not conserved
            out.append(row)
            say(row, started)


# -- real cells --------------------------------------------------------------------------------------------------------


def load(file: Path, n_genes: int) -> anndata.AnnData:
    """Counts of the most variable genes."""
    adata = anndata.read_h5ad(file)
    if n_genes < adata.n_vars:
        log = sc.pp.log1p(sc.pp.normalize_total(adata, copy=True), copy=True)
        sc.pp.highly_variable_genes(log, n_top_genes=n_genes)
        adata = adata[:, log.var["highly_variable"].to_numpy()].copy()
    return adata


def embed(adata: anndata.AnnData, name: str, batch_key: str, seed: int, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    """Embedding, and KL divergences from the prior (an empty array for linear embeddings)."""
    if name in ("PCA", "ICA"):
        log = sc.pp.log1p(sc.pp.normalize_total(adata, copy=True), copy=True)
        sc.pp.pca(log, n_comps=10, random_state=seed)
        codes = log.obsm["X_pca"].astype(np.float64)
        if name == "ICA":
            codes = FastICA(10, whiten="unit-variance", max_iter=5000, random_state=seed).fit_transform(codes)
        return codes, np.zeros(0)
    arguments = {"condition_on_batch": True, "beta": 1.0} if name == CONDITIONED else MODELS[name]
    codes, variances = train(adata, arguments, batch_key, seed, epochs).get_latent_representation(return_dist=True)
    return codes, divergences(codes, variances)


def real(folder: Path, seed: int, epochs: int, keep: Path | None, picture: Path | None, out: list[dict]) -> None:
    """All embeddings of both data sets."""
    for dataset, (batch_key, conserve) in REAL.items():
        adata = load(folder / f"{dataset}.h5ad", 2000)
        for name in (*MODELS, CONDITIONED, "ICA", "PCA"):
            started = time.perf_counter()
            words = name.replace(",", "").replace(" ", "_")
            kept = None if keep is None else keep / f"{dataset}_{words}_{epochs}_{seed}.npz"
            if kept is not None and kept.exists():
                codes, kl = np.load(kept)["codes"], np.load(kept)["kl"]
            else:
                codes, kl = embed(adata, name, batch_key, seed, epochs)
                if kept is not None:
                    np.savez(kept, codes=codes, kl=kl)
            cells = anndata.AnnData(obs=adata.obs)
            write_embedding(cells, codes, kl if len(kl) else None)
            for method in ("none",) if name == CONDITIONED else METHODS:
                row = {"dataset": dataset, "embedding": name, "seed": seed, "method": method}
                row |= (
                    as_it_is(cells, batch_key, conserve, seed)
                    if method == "none"
                    else report(cells, batch_key, conserve, method, seed)
                )
                out.append(row)
                say(row, started)
                if picture is not None and not picture.exists() and method == "stepwise":
                    scbetavae.pl.batch_dimensions(cells).figure.savefig(picture, dpi=110)


def as_it_is(adata: anndata.AnnData, batch_key: str, conserve: list[str], seed: int) -> dict:
    """The same row for an embedding from which no dimension is removed."""
    codes = adata.obsm["X_betavae"]
    table = scbetavae.metrics.evaluate_batch_removal(
        codes, codes, batch=adata.obs[batch_key], conserved=adata.obs[conserve], n_bootstrap=0, seed=seed
    )
    batch = table[table["role"] == "batch"].set_index("classifier")
    kept = table[(table["role"] == "conserved") & (table["classifier"] == "knn")]["after"]
    return {
        "search_status": "",
        "status": "",
        "dimensions": "",
        "batch_after": batch.loc["knn", "after"],
        "batch_expected": batch.loc["knn", "expected"],
        "forest_after": batch.loc["random_forest", "after"],
        "ilisi_after": batch.loc["ilisi", "after"],
        "conserved_after": kept.min(),
    }


def say(row: dict, started: float) -> None:
    """Print a row when it is ready."""
    words = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values() if value != ""]
    print(f"{time.perf_counter() - started:5.0f} s", *words, flush=True)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Median and range over seeds, one line per embedding and method."""
    keys = [name for name in ("dataset", "embedding", "method") if name in frame]
    columns = ["batch_before", "batch_after", "forest_after", "ilisi_after", "conserved_after", "kept_least"]
    columns += [name for name in ("unconserved_kept", "found", "missed", "wrong") if name in frame]
    grouped = frame.groupby(keys, sort=False)
    texts = {}
    for name in columns:
        low, middle, high = (getattr(grouped[name], how)() for how in ("min", "median", "max"))
        texts[name] = [
            "-" if np.isnan(m) else f"{m + 0:.2f} [{a + 0:.2f}, {b + 0:.2f}]"
            for a, m, b in zip(low.round(2), middle.round(2), high.round(2), strict=True)
        ]
    table = pd.DataFrame(texts, index=grouped.size().index)
    table["zeroed in"] = grouped["dimensions"].apply(lambda text: f"{int((text != '').sum())} of {len(text)}")
    return table


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder with kang_subset.h5ad and mixology_rnamix.h5ad")
    parser.add_argument("--seeds", type=int, help="5 simulated, 3 real")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--embeddings", type=Path, help="folder for embeddings of real data")
    parser.add_argument("--picture", type=Path, help="file for a plot of the first real data set, unless it exists")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    scvi.settings.verbosity = logging.ERROR
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    kind = "simulator" if arguments.real is None else "real"
    out = arguments.out or RESULTS / f"batch_dimensions_{kind}.csv"
    if arguments.embeddings is not None:
        arguments.embeddings.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for seed in range(arguments.seeds or (5 if arguments.real is None else 3)):
        if arguments.real is None:
            simulated(seed, arguments.epochs, rows)
        else:
            real(arguments.real, seed, arguments.epochs, arguments.embeddings, arguments.picture, rows)
        pd.DataFrame(rows).round(4).to_csv(out, index=False)
    print(summary(pd.DataFrame(rows)).to_string())


if __name__ == "__main__":
    main()
