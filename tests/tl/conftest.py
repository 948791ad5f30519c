import numpy as np
import pytest

from scbetavae.model._latent import FREE, Latent


@pytest.fixture
def write_latent():
    """Write what a model knows of an embedding's dimensions: KL divergence and posterior variance."""

    def write(adata, obsm_key="X_betavae", *, kl=None, variance=1.0):
        means = np.asarray(adata.obsm[obsm_key])
        n_dims = means.shape[1]
        kl = np.ones(n_dims) if kl is None else np.asarray(kl, dtype=float)
        names = tuple(f"dim_{d}" for d in range(n_dims))
        variances = np.full(means.shape, variance)
        Latent(means, variances, kl, kl > 0.01, (FREE,) * n_dims, names).write(adata, obsm_key)

    return write
