"""Factors that no method finds: many levels, weak, confounded. ``python benchmarks/unsolved.py DATA_FOLDER``.

PCA, ICA (one run, on as many principal components) and the default model with and without its anchor, ten dimensions each, on the
bundled PBMCs with a planted batch, the simulator, and ``kang_subset.h5ad``, ``onek1k_subset.h5ad`` and ``mixology_rnamix.h5ad``
(600 variable genes) of the folder. Factors are

- ``many``: three or more levels, such as cell types: MIG, LMS of single classes with DRVI's bins, k-NN accuracy;
- ``weak``: small effects, such as sex, age and donor in blood: MIG and k-NN accuracy;
- ``confounded``: the batch of a simulation in which cell type and batch have a Cramer's V of .6 and of .9: the same, and the
  batch accuracy and cell-type accuracy after the stepwise removal of batch dimensions.

One row per data set, factor, method, seed and measure in ``benchmarks/results/unsolved.csv``; finished runs are not repeated.
``python benchmarks/unsolved.py --table`` makes the table of the docs from them.
"""

import argparse
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before OpenMP loads

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from sklearn.decomposition import PCA, FastICA

from scbetavae import datasets, metrics, tl
from scbetavae.model import BetaVAE, Latent

RESULTS = Path(__file__).parent / "results" / "unsolved.csv"
TABLE = Path(__file__).parents[1] / "docs" / "user_guide" / "unsolved.inc"
N_LATENT = 10
METHODS = ("PCA", "ICA", "no anchor", "default")
FACTORS = {  # data set: {factor: kind}
    "PBMCs": {"bulk_labels": "many", "phase": "weak"},
    "simulator": {"cell_type": "many"},
    "Kang": {"cell_type": "many", "donor": "weak"},
    "RNA mixtures": {"mix_label": "many"},
    "OneK1K": {"cell_type": "many", "sex": "weak", "age": "weak", "donor": "weak"},
    "simulator, V .6": {"batch": "confounded"},
    "simulator, V .9": {"batch": "confounded"},
}
HEADINGS = {
    "many": "Factors of many levels",
    "weak": "Weak factors",
    "confounded": "Batch confounded with cell type",
}
NAMES = {
    "mig": "MIG",
    "lms": "LMS",
    "knn": "k-NN accuracy",
    "batch_after": "batch accuracy after removal",
    "expected": "expected from cell types",
    "kept": "cell type kept",
    "status": "status",
}


def read(name: str, folder: Path) -> anndata.AnnData:
    """Counts of a data set."""
    if name == "PBMCs":
        return datasets.pbmc68k(planted_batches=2)
    if name.startswith("simulator"):
        strength = float(name.rpartition("V ")[2]) if "V" in name else 0.0
        return datasets.simulate_counts(2000, 500, confounding={("cell_type", "batch"): strength}, seed=0)
    if name == "RNA mixtures":
        adata = anndata.read_h5ad(folder / "mixology_rnamix.h5ad")
        logs = log_normalized(adata)
        sc.pp.highly_variable_genes(logs, n_top_genes=600)
        return adata[:, logs.var["highly_variable"].to_numpy()].copy()
    return anndata.read_h5ad(folder / f"{name.lower()}_subset.h5ad")


def log_normalized(adata: anndata.AnnData) -> anndata.AnnData:
    """A copy with log(1 + counts per 10 000)."""
    logs = adata.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    return logs


def embed(adata: anndata.AnnData, method: str, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Embedding of a method, and for a model the KL divergence of each dimension from the prior."""
    if method in ("PCA", "ICA"):
        codes = PCA(N_LATENT, random_state=seed).fit_transform(log_normalized(adata).X.toarray())
        if method == "ICA":
            codes = FastICA(whiten="unit-variance", max_iter=1000, random_state=seed).fit_transform(codes)
        return codes, None
    scvi.settings.seed = seed
    torch.set_num_threads(1)
    model = BetaVAE(adata) if method == "default" else BetaVAE(adata, anchor=None)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return model.get_latent_representation(), model.get_latent_summary()["kl"].to_numpy()


def measure(adata: anndata.AnnData, factor: str, kind: str, codes: np.ndarray, kl: np.ndarray | None) -> dict:
    """How an embedding encodes one factor."""
    values = adata.obs[factor]
    values = values.astype(float) if factor == "age" else values.astype(str)
    found = {
        "mig": metrics.mig(codes, values.to_frame())[factor],
        "knn": metrics.knn_accuracy(codes, values),
    }
    if kind == "many":
        alignment = metrics.class_alignment(codes, values.to_frame(), binning="width", n_bins=10, correction=None)
        found["lms"] = alignment.loc[factor, "lms"]
    if kind == "confounded":
        found |= remove(adata, codes, kl)
    return found


def remove(adata: anndata.AnnData, codes: np.ndarray, kl: np.ndarray | None) -> dict:
    """k-NN accuracy of batch and of cell type after the default removal."""
    adata.obsm["codes"] = codes
    if kl is not None:  # it decides which dimensions are active
        names = tuple(f"dim_{d}" for d in range(len(kl)))
        active = metrics.active_dimensions(codes, kl=kl)
        Latent(codes, None, kl, active, ("free",) * len(kl), names).write(adata, "codes")
    tl.zero_batch_dimensions(adata, batch_key="batch", conserve="cell_type", obsm_key="codes")
    table, parameters = adata.uns["betavae"]["batch_removal"], adata.uns["betavae"]["batch_removal_params"]
    of_neighbors = table[table["classifier"] == "knn"].set_index("covariate")
    return {
        "batch_after": of_neighbors.loc["batch", "after"],
        "expected": of_neighbors.loc["batch", "expected"],
        "kept": of_neighbors.loc["cell_type", "kept"],
        "status": parameters["status"],
    }


def rows_of(name: str, folder: Path, seeds: int, done: set) -> Iterator[list[dict]]:
    """Rows of runs that are missing in the results, run by run."""
    adata = read(name, folder)
    BetaVAE.setup_anndata(adata)
    for seed in range(seeds):
        for method in METHODS:
            if (name, method, seed) in done:
                continue
            codes, kl = embed(adata, method, seed)
            yield [
                {"data": name, "factor": factor, "kind": kind, "method": method, "seed": seed, "measure": key}
                | {"value": value if isinstance(value, str) else f"{value:.4f}"}
                for factor, kind in FACTORS[name].items()
                for key, value in measure(adata, factor, kind, codes, kl).items()
            ]


def table_of(frame: pd.DataFrame) -> str:
    """The docs' table: mean over seeds, and the lowest where seeds differ by .02 or more."""
    lines = []
    for kind, heading in HEADINGS.items():
        of_kind = frame[frame["kind"] == kind]
        if of_kind.empty:
            continue
        lines += ["", f"| {heading} | | {' | '.join(METHODS)} |", "| --- | --- |" + " --- |" * len(METHODS)]
        for (data, factor), part in of_kind.groupby(["data", "factor"], sort=False):
            title = data if kind == "confounded" else f"{data}, `{factor}`"
            for key in (key for key in NAMES if key in set(part["measure"])):
                by_method = part[part["measure"] == key].groupby("method")["value"]
                cells = [_cell(by_method.get_group(method)) for method in METHODS]
                lines.append(f"| {title} | {NAMES[key]} | {' | '.join(cells)} |")
                title = ""
    return "\n".join(lines).strip()


def _cell(values: pd.Series) -> str:
    """Mean and lowest of numbers, or each word with its count."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        counts = values.value_counts()
        return ", ".join(word if len(counts) == 1 else f"{word} ({n})" for word, n in counts.items())
    mean, low = numbers.mean(), numbers.min()
    return f"{mean:.2f}" if numbers.max() - low < 0.02 else f"{mean:.2f} ({low:.2f})"


def main() -> None:
    """Parse the command line, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder with the three files")
    parser.add_argument(
        "--sets", type=lambda text: text.split(";"), default=list(FACTORS), help="names, separated by ;"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--table", action="store_true", help="write the table of the docs from the results, train nothing"
    )
    options = parser.parse_args()
    frame = (
        pd.read_csv(options.out, dtype=str)
        if options.out.exists()
        else pd.DataFrame(columns=["data", "method", "seed"])
    )
    if options.folder is not None and not options.table:
        warnings.filterwarnings("ignore")
        for name in ("lightning.pytorch", "lightning.fabric", "lightning.fabric.utilities.seed", "scvi"):
            logging.getLogger(name).setLevel(logging.ERROR)
        done = set(zip(frame["data"], frame["method"], frame["seed"].astype(int), strict=True))
        for name in options.sets:
            for rows in rows_of(name, options.folder, options.seeds, done):
                frame = pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)
                frame.to_csv(options.out, index=False)
                print(*[" ".join(map(str, row.values())) for row in rows], sep="\n", flush=True)
    TABLE.write_text(f"{table_of(frame)}\n")


if __name__ == "__main__":
    main()
