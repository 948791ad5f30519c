"""A sweep of toy cells that takes seconds. As a script, ``python toy_sweep.py FOLDER``, the same in a process of its own."""

import sys
from dataclasses import fields

import numpy as np
import pandas as pd
from anndata import AnnData

QUICK = {
    "betas": (0.5, 4),
    "objective": "beta_vae",
    "seeds": (0, 1),
    "covariates": ["batch", "labels"],
    "model_kwargs": {"n_latent": 3, "n_hidden": 8},
    "train_kwargs": {"max_epochs": 2, "accelerator": "cpu"},
    "score_kwargs": {"metrics": ["mig", "gaussian_total_correlation"], "n_permutations": 2, "n_bootstrap": 0},
    "progress": False,
}


def make_cells() -> AnnData:
    """60 cells of two types and two batches; of 15 genes one differs between the types and one between the batches."""
    from scbetavae.model import BetaVAE

    rng = np.random.default_rng(0)
    labels, batch = np.tile(["B/plasma", "T"], 30), np.repeat(["b1", "b2"], 30)
    mean = np.full((60, 15), 3.0)
    mean[labels == "T", 0] = 30.0
    mean[batch == "b2", 1] = 30.0
    adata = AnnData(rng.poisson(mean).astype(np.float32))
    adata.obs_names = [f"cell {i}" for i in range(60)]
    adata.var_names = [f"gene {i}" for i in range(15)]
    adata.obs["batch"] = pd.Categorical(batch)
    adata.obs["labels"] = labels
    adata.obs["donor"] = np.repeat(["d1", "d2", "d3"], 20)
    adata.obs["age"] = rng.uniform(size=60)
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="labels")
    return adata


def sweep(adata, **arguments):
    """``beta_sweep``; arguments that are fields of ``SweepOptions`` become its options."""
    from scbetavae.sweep import SweepOptions, beta_sweep

    names = [field.name for field in fields(SweepOptions)]
    options = {name: arguments.pop(name) for name in names if name in arguments}
    return beta_sweep(adata, options=SweepOptions(**options), **arguments)


if __name__ == "__main__":
    sweep(make_cells(), out_dir=sys.argv[1], **QUICK)
