"""An embedding in ``.obsm`` and what is known of its dimensions: the one place where `tl` functions read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import check_key, finite_matrix

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Embedding:
    """Coordinates of cells, and one entry per dimension of everything else."""

    values: np.ndarray
    """(n_cells, n_dims)"""
    active: np.ndarray
    names: tuple[str, ...]
    roles: tuple[str, ...]
    kl: np.ndarray | None
    """KL divergence from the prior in nats, where a model made the embedding."""
    variance: np.ndarray | None
    """Mean posterior variance, where a model made the embedding."""
    obsm_key: str

    @property
    def free(self) -> np.ndarray:
        """Mask of the active dimensions that no covariate guides: those that scores, searches and tests are about."""
        return self.active & (np.array(self.roles) == "free")

    def guided_by(self, covariate: str) -> list[int]:
        """Dimensions that a covariate guides."""
        return [d for d, role in enumerate(self.roles) if role == f"guided:{covariate}"]


def read(adata: AnnData, obsm_key: str, argument: str = "obsm_key") -> Embedding:
    """Read an entry of ``.obsm``, with the table of its dimensions if a model wrote one for it.

    Raises
    ------
    KeyError
        If the entry is not there.
    TypeError, ValueError
        If it is not a finite matrix of numbers, or that of a model before its last training. (One of several embeddings,
        ``argument`` says so, may be that of an earlier model.)
    """
    check_key(obsm_key, list(adata.obsm), argument, "adata.obsm")
    if argument == "obsm_key":
        results.check_embedding(adata, obsm_key)
    values = finite_matrix(adata.obsm[obsm_key], f"adata.obsm[{obsm_key!r}]", rows=adata.obs_names)
    n_dims = values.shape[1]
    known = results.parameters(adata, keys.LATENT_TABLE).get("obsm_key") == obsm_key
    table = adata.uns[keys.UNS].get(keys.LATENT_TABLE) if known else None
    if table is None or len(table) != n_dims or not results.describes(adata, keys.LATENT_TABLE, obsm_key):
        names = tuple(f"dim_{d}" for d in range(n_dims))
        return Embedding(values, metrics.active_dimensions(values), names, ("free",) * n_dims, None, None, obsm_key)
    kl, variance = (table[name].to_numpy(dtype=np.float64) for name in ("kl", "variance"))
    free = (table["role"] == "free").to_numpy()
    kl, variance = (None if np.isnan(column[free]).any() else column for column in (kl, variance))
    active = np.ones(n_dims, dtype=bool)
    active[free] = metrics.active_dimensions(values[:, free], kl=None if kl is None else kl[free])
    return Embedding(values, active, tuple(table["name"]), tuple(table["role"]), kl, variance, obsm_key)
