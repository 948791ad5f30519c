"""Names of dimensions by seed: ``python benchmarks/dimension_names.py DATA_FOLDER`` writes ``results/dimension_names.csv``.

Default models of the bundled PBMCs with a planted batch (ten seeds) and of ``kang_subset.h5ad`` in the folder (five seeds), named
once with the covariates and once from gene sets alone. One row per data set, seed, way and dimension: the name, and ``correct``,
whether the class in the name, or the class that the named gene set stands for, is at that end of the dimension (rank-biserial
correlation of at least 0.5 in absolute value). Prints, per data set and seed, the named classes.
"""

import argparse
import logging
import os
import warnings
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before OpenMP loads

import anndata
import pandas as pd
import scvi

from scbetavae import datasets, metrics
from scbetavae.model import BetaVAE

RESULTS = Path(__file__).parent / "results" / "dimension_names.csv"
SETS = {"pbmc": ("batch", "bulk_labels", 10), "kang": ("condition", "cell_type", 5)}
CLASSES = {  # classes of the labels that a gene set stands for
    "B cells": ["CD19+ B", "B cells"],
    "cytotoxic lymphocytes": ["CD56+ NK", "CD8+ Cytotoxic T", "CD8 T cells"],
    "NK cells": ["CD56+ NK"],
    "CD8+ T cells": ["CD8+ Cytotoxic T", "CD8+/CD45RA+ Naive Cytotoxic", "CD8 T cells"],
    "T cells": ["CD4+/CD25 T Reg", "CD4+/CD45RO+ Memory", "CD8+ Cytotoxic T", "CD4 T cells", "CD8 T cells"],
    "naive T cells": ["CD4+/CD45RA+/CD25- Naive T", "CD8+/CD45RA+ Naive Cytotoxic", "CD4 T cells"],
    "monocytes": ["CD14+ Monocyte", "CD14+ Monocytes", "FCGR3A+ Monocytes"],
    "classical monocytes": ["CD14+ Monocyte", "CD14+ Monocytes"],
    "CD16+ monocytes": ["CD14+ Monocyte", "FCGR3A+ Monocytes"],
    "conventional dendritic cells": ["Dendritic"],
    "hematopoietic stem and progenitor cells": ["CD34+"],
    "interferon response": ["stim"],
}


def read(name: str, folder: Path) -> anndata.AnnData:
    """Counts of one data set."""
    return datasets.pbmc68k(planted_batches=2) if name == "pbmc" else anndata.read_h5ad(folder / f"{name}_subset.h5ad")


def is_correct(name: str, dimension: int, table: pd.DataFrame, batch_key: str) -> bool:
    """Whether the name says which class is at that end of the dimension."""
    part = table[(table["dimension"] == dimension) & (table["class"] != "")].set_index("class")
    sign = -1 if "(low)" in name or ", low (" in name else 1
    stem = name.removesuffix(" (low)").split(" (")[0].removesuffix(", low")
    if stem == batch_key or stem.startswith(f"{batch_key}: "):
        return bool(part.loc[part["covariate"] == batch_key, "direction"].abs().max() >= 0.5)
    wanted = [stem] if stem in part.index else [c for c in CLASSES.get(stem, []) if c in part.index]
    return any(sign * part.loc[name, "direction"] >= 0.5 for name in wanted)


def main() -> None:
    """Train, name, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with kang_subset.h5ad")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    rows = []
    for name, (batch_key, labels_key, n_seeds) in SETS.items():
        for seed in range(n_seeds):
            adata = read(name, options.folder)
            BetaVAE.setup_anndata(adata, batch_key=batch_key, labels_key=labels_key)
            scvi.settings.seed = seed
            model = BetaVAE(adata).train(enable_progress_bar=False, accelerator="cpu")
            truth = metrics.dimension_covariate_table(
                model.get_latent_representation(), adata.obs[[batch_key, labels_key]]
            )
            for way, covariates in (("covariates", None), ("gene sets", [])):
                cards = model.describe_dimensions(covariates)
                found = [
                    (name, seed, way, int(d), text, is_correct(text, int(d), truth, batch_key))
                    for d, text in zip(cards["dimension"], cards["name"], strict=True)
                ]
                rows += found
                print(name, seed, way, [row[4] for row in found if row[5]], flush=True)
    frame = pd.DataFrame(rows, columns=["set", "seed", "named_from", "dimension", "name", "correct"])
    frame.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
