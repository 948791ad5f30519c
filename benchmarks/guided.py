"""Guided dimensions: one row per data set, task, arm, seed and measure in ``benchmarks/results/guided.csv``.

``python benchmarks/guided.py DATA --tasks clean,counterfactual`` reads ``kang_subset.h5ad``, ``onek1k_subset.h5ad`` and
``mixology_rnamix.h5ad`` of the folder DATA; the simulator needs none. Tasks:

- ``clean``: k-NN accuracy (15 neighbors) or r2 of a covariate left in the free dimensions of a model guided by it, next to the
  default model and to one whose decoder is conditioned on it; accuracy of conserved covariates; held-out negative log-likelihood;
- ``counterfactual``: condition of one held-out cell type at a time, guided, conditioned and baselines; log fold changes on
  simulated cells;
- ``missing``: 30% of the labels are missing: accuracy of the inferred ones next to logistic regression on 50 PCs, and what the
  held-out likelihood loses;
- ``anchor``: MIG of the condition of the simulator with guided batch, and agreement of seeds on the same cells;
- ``confounding``: what training says to confounded simulated covariates;
- ``speed``: CPU seconds of a training step with and without a guided covariate, in turn (no rows of seeds: a median).

CPU seconds are those of ``train()`` alone, on one thread. Finished rows are not computed again.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import recipe
import scvi
import torch
from scipy import sparse

import scbetavae
from scbetavae import metrics
from scbetavae.model import BetaVAE

RESULTS = Path(__file__).parent / "results" / "guided.csv"

# data set: guided covariates by task, and conserved ones
CLEAN = {
    "kang condition": ("kang", ["condition"], ["cell_type", "donor"]),
    "kang donor": ("kang", ["donor"], ["cell_type", "condition"]),
    "kang both": ("kang", ["condition", "donor"], ["cell_type"]),
    "rnamix protocol": ("rnamix2000", ["protocol"], ["H2228_prop", "H1975_prop", "HCC827_prop"]),
    "rnamix amount": ("rnamix2000", ["mRNA_amount"], ["protocol", "H2228_prop", "H1975_prop", "HCC827_prop"]),
    "onek1k donor": ("onek1k", ["donor"], ["cell_type"]),
    "simulator gradient": ("simulator", ["gradient"], ["cell_type", "condition", "batch"]),
}
CONDITIONED = {"mRNA_amount", "gradient"}  # numbers, on which a decoder is conditioned as continuous covariates
DISTRIBUTED = 0.3  # share of missing labels

Row = tuple[str, str, int, dict]


def read(name: str, folder: Path | None) -> anndata.AnnData:
    """Counts of one data set, with whole amounts of RNA as fractions."""
    return recipe.read(name, folder)


def fit(adata: anndata.AnnData, setup: dict, arguments: dict, seed: int, **training) -> tuple[BetaVAE, float]:
    """A model trained on nine tenths of the cells, and its CPU seconds."""
    BetaVAE.setup_anndata(adata, **setup)
    return recipe.fit(adata, BetaVAE, seed, arguments, **training)


def guided_setup(keys: list[str], adata: anndata.AnnData) -> dict:
    """Arguments of ``setup_anndata`` to guide by these columns."""
    numeric = [key for key in keys if pd.api.types.is_numeric_dtype(adata.obs[key])]
    return {"guided_keys": keys, "continuous_guided_keys": numeric or None}


def conditioned(keys: list[str], adata: anndata.AnnData) -> tuple[dict, dict]:
    """Arguments of ``setup_anndata`` and of the model for a decoder that is conditioned on these columns."""
    numeric = [key for key in keys if key in CONDITIONED]
    first, *others = [key for key in keys if key not in CONDITIONED] or [None]
    setup = {
        "batch_key": first,
        "categorical_covariate_keys": others or None,
        "continuous_covariate_keys": numeric or None,
    }
    return {name: value for name, value in setup.items() if value}, {"condition_on_batch": first is not None}


def accuracy(means: np.ndarray, column: pd.Series) -> float:
    """Chance-corrected accuracy of the 15 nearest neighbors, or r2 of a number."""
    return float(metrics.knn_accuracy(means, column))


def measure(
    model: BetaVAE, adata: anndata.AnnData, keys: list[str], conserved: list[str], held_out: np.ndarray
) -> dict:
    """What the free dimensions know, and the held-out negative log-likelihood in nats per cell."""
    free = model.get_latent_representation()[:, : model.module.n_latent]
    found = {f"left_{key}": accuracy(free, adata.obs[key]) for key in keys}
    found |= {f"kept_{key}": accuracy(free, adata.obs[key]) for key in conserved}
    reconstruction = model.get_reconstruction_error(indices=held_out)
    found["nll"] = -float(reconstruction["reconstruction_loss"] if isinstance(reconstruction, dict) else reconstruction)
    return found


def clean(
    folder: Path | None, seeds: range, wanted: Callable[..., bool], sets: list[str] | None, **guided
) -> Iterator[Row]:
    """What is left of a covariate in the free dimensions."""
    for name, (source, keys, conserved) in CLEAN.items():
        if (sets and name not in sets) or (folder is None and source != "simulator"):
            continue
        adata = read(source, folder)
        train, held_out, test = recipe.split(adata)
        same = {"datasplitter_kwargs": {"external_indexing": [train, held_out, test]}}
        setup, arguments = conditioned(keys, adata)
        arms = {
            "guided": (guided_setup(keys, adata), {"guided_kwargs": guided} if guided else {}),
            "conditioned": (setup, arguments),
            "default": ({}, {}),
        }
        for seed in seeds:
            for arm, (setup, arguments) in arms.items():
                if wanted(f"clean: {name}", arm, seed):
                    model, seconds = fit(adata, setup, arguments, seed, **same)
                    values = measure(model, adata, keys, conserved, held_out)
                    yield f"clean: {name}", arm, seed, values | {"cpu_seconds": seconds}
