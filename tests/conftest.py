"""What every test shares: fixed seeds, one thread, the CPU, no screen, and a tiny AnnData that none of our code made."""

import os

# Before torch and matplotlib load. Numbers in tests are those of a CPU, on machines with an accelerator too; to test
# there, name the device: CUDA_VISIBLE_DEVICES=0 pytest.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MPLBACKEND", "Agg")

import importlib.util
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

N_CELLS = 120
N_GENES = 40


def pytest_report_header() -> str:
    """Say which copy of the package is under test: the installed one or the working directory."""
    spec = importlib.util.find_spec("scbetavae")
    return f"scbetavae: {'not found' if spec is None else Path(spec.origin).parent}"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums in one order on every machine; toy data are no faster on more threads."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random state, alone or after others."""
    import scvi

    scvi.settings.seed = 0


@pytest.fixture(scope="session")
def _counts_adata() -> anndata.AnnData:
    rng = np.random.default_rng(0)
    labels = rng.choice(["B cell", "T cell", "monocyte"], size=N_CELLS, p=[0.3, 0.5, 0.2])
    batch = rng.choice(["batch_1", "batch_2"], size=N_CELLS)
    donor = rng.choice(["donor_1", "donor_2", "donor_3", "donor_4"], size=N_CELLS)
    condition = rng.choice(["control", "treated"], size=N_CELLS)

    log_mean = rng.normal(0.5, 1.0, size=N_GENES)[None, :] * np.ones((N_CELLS, 1))
    for covariate, strength in ((labels, 0.8), (batch, 0.4), (condition, 0.4)):
        for level in np.unique(covariate):
            log_mean[covariate == level] += strength * rng.normal(size=N_GENES)
    size_factor = rng.lognormal(0.0, 0.3, size=N_CELLS)
    mean = size_factor[:, None] * np.exp(log_mean)
    inverse_dispersion = 2.0
    counts = rng.negative_binomial(inverse_dispersion, inverse_dispersion / (inverse_dispersion + mean))
    counts[:, 0] += 1  # no cell is empty

    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(batch),
            "labels": pd.Categorical(labels),
            "donor": pd.Categorical(donor),
            "condition": pd.Categorical(condition),
            "age": rng.uniform(20.0, 80.0, size=N_CELLS),
            "sf": size_factor,
        },
        index=[f"cell_{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame(index=[f"gene_{i}" for i in range(N_GENES)])
    adata = anndata.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    adata.layers["counts"] = adata.X.copy()

    log_normalized = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    centered = log_normalized - log_normalized.mean(axis=0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    adata.obsm["X_pca"] = (left[:, :5] * singular[:5]).astype(np.float32)
    return adata


@pytest.fixture
def counts_adata(_counts_adata: anndata.AnnData) -> anndata.AnnData:
    """120 cells x 40 genes of negative binomial counts; a fresh copy for each test.

    ``X`` and ``layers["counts"]`` are the same counts (CSR, float32). ``obs`` has the categories ``batch`` (2),
    ``labels`` (3), ``donor`` (4) and ``condition`` (2), and the numbers ``age`` (20 to 80) and ``sf``, the size factor
    that made the counts (around 1). ``obsm["X_pca"]`` has 5 principal components of the log-normalized counts.
    Batch, labels and condition change the means, donor and age do not.
    """
    return _counts_adata.copy()
