"""Baselines: linear embeddings of the same cells."""

from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA, FastICA

from scbetavae.sweep._data import SweepData

_MAX_ITERATIONS = 1000


def baseline_embedding(method: str, data: SweepData, n_dims: int, seed: int) -> np.ndarray:
    """``"pca"`` or ``"ica"`` of log-normalized counts, (n_cells, n_dims), fitted on the training cells.

    Independent components are a rotation of the whitened principal components.
    """
    import scanpy as sc

    n_most = min(len(data.train), len(data.genes))
    if n_dims >= n_most:
        msg = f"{method} of {n_dims} components needs more than {n_dims} training cells and genes, but there are {n_most}."
        raise ValueError(msg)
    adata = AnnData(sparse.csr_matrix(data.counts, dtype=np.float64, copy=True))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    # arpack takes sparse matrices and centers them on the fly.
    logs: Any = adata.X
    pca = PCA(n_dims, svd_solver="arpack", random_state=seed).fit(logs[data.train])
    components = pca.transform(logs)
    if method == "pca":
        return components
    ica = FastICA(n_dims, whiten="unit-variance", random_state=seed, max_iter=_MAX_ITERATIONS)
    return ica.fit(components[data.train]).transform(components)
