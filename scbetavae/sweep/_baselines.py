"""What is scored beside the models: linear embeddings of the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from scbetavae.sweep._data import SweepData

_SCALE = 1e4
_MAX_ITERATIONS = 1000


def baseline_codes(method: str, data: SweepData, n_dims: int, seed: int) -> np.ndarray:
    """Principal or independent components of log-normalized counts.

    They are fitted on the cells that models train on, and all cells are projected. Independent components are a rotation of
    the whitened principal components.

    Parameters
    ----------
    method
        ``"pca"`` or ``"ica"``.
    data
        Cells and their split.
    n_dims
        Components, as many as the models have dimensions.
    seed
        Seed of the start.

    Returns
    -------
    Codes of all cells, (n_cells, n_dims).

    Raises
    ------
    ValueError
        If there are fewer training cells or genes than components.
    """
    from sklearn.decomposition import PCA, FastICA

    n_most = min(len(data.train), len(data.genes))
    if n_dims >= n_most:
        msg = f"{method} of {n_dims} components needs more than {n_dims} training cells and genes, but there are {n_most}."
        raise ValueError(msg)
    expression = _log_normalized(data.counts)
    # arpack takes sparse matrices and centres them on the fly.
    pca = PCA(n_dims, svd_solver="arpack", random_state=seed).fit(expression[data.train])
    codes = pca.transform(expression)
    if method == "pca":
        return codes
    ica = FastICA(n_dims, whiten="unit-variance", random_state=seed, max_iter=_MAX_ITERATIONS).fit(codes[data.train])
    return ica.transform(codes)


def _log_normalized(counts: sparse.csr_matrix | np.ndarray) -> sparse.csr_matrix:
    """log(1 + counts per ten thousand), sparse."""
    counts = sparse.csr_matrix(counts, dtype=np.float64)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    return (sparse.diags_array(_SCALE / totals) @ counts).tocsr().log1p()
