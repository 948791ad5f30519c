"""Whether stability predicts which dimensions other seeds find again: ``python benchmarks/stability.py DATA_FOLDER``.

Stability is computed once at the start of training, from ten bootstrap samples of the cells. Agreement is the mean absolute
Spearman correlation of matched dimensions over models that differ in their seed: with their own training cells
(``"different"``, what ``scvi.settings.seed`` does) or with the same training cells (``"same"``). Default models of the bundled
PBMCs with a planted batch, of the simulator, and of ``kang_subset.h5ad`` and ``mixology_rnamix.h5ad`` in the folder (600
variable genes).

Writes one row per data set, design and consensus dimension. Prints the Spearman correlation of stability with agreement and the
area under the ROC curve for an agreement of .9 or more, over dimensions with a component.
"""

import argparse
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scvi
import torch
from recipe import variable_genes
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from scbetavae import datasets, tl
from scbetavae.model import BetaVAE

REPRODUCIBLE = 0.9
DESIGNS = ("different", "same")


def data_sets(folder: Path) -> dict[str, Callable[[], anndata.AnnData]]:
    """How each data set is read."""
    return {
        "pbmc": lambda: datasets.pbmc68k(planted_batches=2),
        "simulator": lambda: datasets.simulate_counts(2000, 500, seed=0),
        "kang": lambda: anndata.read_h5ad(folder / "kang_subset.h5ad"),
        "rnamix": lambda: variable_genes(anndata.read_h5ad(folder / "mixology_rnamix.h5ad"), 600),
    }


def train(adata: anndata.AnnData, seed: int, design: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Posterior means of a default model and the summary of its dimensions."""
    scvi.settings.seed = seed
    adata = anndata.AnnData(adata.X.copy(), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    BetaVAE.setup_anndata(adata)
    model = BetaVAE(adata)
    split = {}
    if design == "same":
        order = np.random.default_rng(0).permutation(adata.n_obs)
        n_held_out = adata.n_obs // 10
        cells = [np.sort(order[n_held_out:]), np.sort(order[:n_held_out]), np.zeros(0, dtype=np.int64)]
        split = {"datasplitter_kwargs": {"external_indexing": cells}}
    model.train(accelerator="cpu", enable_progress_bar=False, **split)
    return model.get_latent_representation(), model.get_latent_summary()


def compare(adata: anndata.AnnData, design: str, seeds: int) -> pd.DataFrame:
    """Agreement and stability of each consensus dimension."""
    cells = anndata.AnnData(obs=adata.obs[[]].copy())
    summaries = {}
    for seed in range(seeds):
        key = f"seed {seed}"
        cells.obsm[key], summaries[key] = train(adata, seed, design)
    frame = tl.consensus_dimensions(cells, list(summaries))
    matches = cells.uns["betavae"]["consensus_matches"]
    for name in ("stability", "anchor_correlation", "kl"):
        of_match = zip(matches["embedding"], matches["matched_dimension"], strict=True)
        matches[name] = [summaries[key].loc[dimension, name] for key, dimension in of_match]
    means = matches.groupby("dimension")[["stability", "anchor_correlation", "kl"]].mean()
    same_index = matches.groupby("dimension")["matched_dimension"].agg(lambda found: (found == found.mode()[0]).mean())
    return frame.join(means, on="dimension").join(same_index.rename("same_index"), on="dimension")


def describe(frame: pd.DataFrame) -> dict[str, float]:
    """How well stability predicts agreement."""
    frame = frame.dropna(subset=["stability", "agreement"])
    reproducible = frame["agreement"] >= REPRODUCIBLE
    row = {
        "dimensions": len(frame),
        "reproducible": int(reproducible.sum()),
        "stable": int((frame["stability"] >= 0.7).sum()),
    }
    row["spearman"] = spearmanr(frame["stability"], frame["agreement"]).statistic
    row["auc"] = roc_auc_score(reproducible, frame["stability"]) if reproducible.nunique() == 2 else np.nan
    return row


def main() -> None:
    """Parse the command line, train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with kang_subset.h5ad and mixology_rnamix.h5ad")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/stability.csv"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    parts = []
    for name, read in data_sets(options.folder).items():
        adata = read()
        for design in DESIGNS:
            parts.append(compare(adata, design, options.seeds).assign(data=name, training_cells=design))
            print(name, design, {key: round(float(value), 2) for key, value in describe(parts[-1]).items()}, flush=True)
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[["data", "training_cells", *frame.columns.drop(["data", "training_cells"])]]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(options.out, index=False, float_format="%.4g")
    rows = {design: describe(rows) for design, rows in frame.groupby("training_cells")} | {"both": describe(frame)}
    print(pd.DataFrame(rows).T.round(2).to_string())


if __name__ == "__main__":
    main()
