"""Behaviors that users of scvi.model.SCVI rely on, each tested for the default model and for one that is conditioned on batch.

Every test has a marker ``behavior`` with the words of its row in ``docs/user_guide/scvi_tools.md``. ``default=`` and
``conditioned=`` are the reason where the behavior does not apply to such a model; the test then checks what happens instead.
``benchmarks/scvi_behaviors.py`` makes the table.
"""

import numpy as np
import pandas as pd
import pytest
import scvi
from scipy import sparse

from scbetavae.model import BetaVAE

KINDS = {"default": {}, "conditioned": {"condition_on_batch": True}}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SETUP = {"batch_key": "batch", "labels_key": "labels"}
N_CELLS, N_GENES = 60, 20


def make_cells(n_cells=N_CELLS, n_genes=N_GENES, seed=0, batches=("batch_0", "batch_1")):
    """Counts of cells in batches with three labels and two more covariates of each kind."""
    import anndata

    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(np.resize(batches, n_cells)),
            "labels": pd.Categorical(rng.choice(["a", "b", "c"], n_cells)),
            "plate": pd.Categorical(rng.choice(["p", "q"], n_cells)),
            "site": pd.Categorical(rng.choice(["s", "t"], n_cells)),
            "age": rng.normal(size=n_cells),
            "depth": rng.normal(size=n_cells),
            "size_factor": rng.uniform(0.5, 2.0, n_cells),
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    shift = (obs["labels"].cat.codes.to_numpy()[:, None] == np.arange(n_genes)[None] % 3) * 3.0
    counts = rng.poisson(1.0 + shift).astype(np.float32)
    counts[:, 0] += 1
    adata = anndata.AnnData(sparse.csr_matrix(counts), obs, pd.DataFrame(index=[f"gene_{i}" for i in range(n_genes)]))
    adata.layers["counts"] = adata.X.copy()
    return adata


@pytest.fixture(scope="session")
def cells():
    """``cells(n_cells, n_genes, seed, batches)``: new data."""
    return make_cells


@pytest.fixture
def adata():
    return make_cells()


@pytest.fixture(params=KINDS, scope="session")
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def build(kind):
    """``build(adata, setup, **kwargs)``: set up, and construct a small model of this kind."""

    def build(adata, setup=SETUP, **kwargs):
        BetaVAE.setup_anndata(adata, **setup)
        return BetaVAE(adata, **{"n_latent": 3, "n_hidden": 8} | KINDS[kind] | kwargs)

    return build


@pytest.fixture(scope="session")
def fit(build):
    """``fit(adata, setup, train, **kwargs)``: as ``build``, and train for an epoch."""

    def fit(adata, setup=SETUP, train=None, **kwargs):
        return build(adata, setup, **kwargs).train(**{"max_epochs": 1, **QUIET} | (train or {}))

    return fit


@pytest.fixture(scope="session")
def trained(fit):
    """A trained model with its data; tests change neither."""
    scvi.settings.seed = 0
    return fit(make_cells())
