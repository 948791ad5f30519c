"""The latent representation of cells, computed once per call: means, variances, KL, active mask, roles and names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scvi.data._utils import _get_adata_minify_type

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import as_list
from scbetavae._core.columns import as_classes, class_columns, obs_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from anndata import AnnData

    from ._betavae import BetaVAE

FREE = "free"
"""Role of a dimension that no covariate guides."""
GUIDED = "guided:"
"""What the role of a guided dimension starts with; its covariate follows."""


@dataclass(frozen=True)
class Latent:
    """Posterior of cells over the latent dimensions of a model.

    Parameters
    ----------
    means
        Posterior means, array of shape ``(n_cells, n_dims)``.
    variances
        Posterior variances, of the same shape; ``None`` for the simplex of a logistic normal.
    kl
        KL divergence of each dimension from the prior, mean over cells, in nats, NaN for a guided dimension; ``None`` for a
        simplex.
    active
        Boolean mask of the dimensions that carry information, see :func:`scbetavae.metrics.active_dimensions`.
    roles
        What each dimension is for: ``"free"``, or ``"guided:"`` and the name of a covariate.
    names
        Names of the dimensions: ``"dim_0"``, ``"dim_1"`` and so on.
    """

    means: np.ndarray
    variances: np.ndarray | None
    kl: np.ndarray | None
    active: np.ndarray
    roles: tuple[str, ...]
    names: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """One row per dimension: ``dimension``, ``kl``, ``sd``, ``variance``, ``active``, ``role`` and ``name``."""
        unknown = np.full(len(self.names), np.nan)
        return pd.DataFrame(
            {
                "dimension": np.arange(len(self.names)),
                "kl": unknown if self.kl is None else self.kl,
                "sd": self.means.std(axis=0, dtype=np.float64),
                "variance": unknown if self.variances is None else self.variances.mean(axis=0),
                "active": self.active,
                "role": list(self.roles),
                "name": list(self.names),
            }
        )

    def write(self, adata: AnnData, obsm_key: str = keys.LATENT, **parameters: Any) -> None:
        """Write the means to ``.obsm[obsm_key]`` and the table to ``.uns["betavae"]["latent"]``."""
        adata.obsm[obsm_key] = self.means
        made = {"obsm_key": obsm_key, **parameters}
        results.store(adata, keys.LATENT_TABLE, {"": self.table()}, made, {obsm_key: self.means})


def compute_latent(
    self: BetaVAE, adata: AnnData | None = None, *, normal: bool = False, batch_size: int | None = None
) -> Latent:
    """`Latent` of the cells; with ``normal``, that of the normal variable behind the simplex of a logistic normal."""
    n_free = self.module.n_latent
    is_simplex = self.module.latent_distribution == "ln" and not normal
    with random_state_kept(self.device):
        encoded: Any = self.get_latent_representation(adata, batch_size=batch_size, return_dist=not is_simplex)
    means, variances = (encoded, None) if is_simplex else encoded
    _check_finite(means if variances is None else means + variances, self.adata if adata is None else adata)
    kl = None
    if variances is not None:
        means, variances = means.astype(np.float32), variances.astype(np.float64)
        located, spread = torch.as_tensor(means, dtype=torch.float64), torch.as_tensor(variances).sqrt()
        with torch.inference_mode():
            posterior = torch.distributions.Normal(located[:, :n_free], spread[:, :n_free], validate_args=False)
            kl = np.full(means.shape[1], np.nan)
            kl[:n_free] = self.module.kl_divergence(posterior).mean(dim=0).numpy()
    given = self.dimension_names_ or {}
    names = tuple(given.get(d, f"dim_{d}") for d in range(means.shape[1]))
    active = np.ones(means.shape[1], dtype=bool)
    active[:n_free] = metrics.active_dimensions(means[:, :n_free], kl=None if kl is None else kl[:n_free])
    return Latent(means, variances, kl, active, roles_of(self), names)


def roles_of(self: BetaVAE) -> tuple[str, ...]:
    """Role of each dimension: ``"free"``, or ``"guided:"`` and the covariate."""
    guided = self.module.guided
    roles = [FREE] * self.module.n_latent
    for name, block in guided.columns.items() if guided is not None else ():
        roles += [f"{GUIDED}{name}"] * (block.stop - block.start)
    return tuple(roles)


def write_latent(self: BetaVAE, adata: AnnData, copy: AnnData, obsm_key: str = keys.LATENT) -> None:
    """Write the `Latent` of ``adata`` to its staged copy, unless it is there: of these weights and counts, and unchanged."""
    made = results.parameters(adata, keys.LATENT_TABLE)
    table, means = adata.uns.get(keys.UNS, {}).get(keys.LATENT_TABLE), adata.obsm.get(obsm_key)
    is_there = made.get("obsm_key") == obsm_key and "digest" in made
    if (
        is_there
        and isinstance(table, pd.DataFrame)
        and isinstance(means, np.ndarray)
        and made["digest"] == _digest(self, adata, means, table)
    ):
        return
    latent = compute_latent(self, adata)
    latent.write(copy, obsm_key, digest=_digest(self, adata, latent.means, latent.table()))


def _digest(self: BetaVAE, adata: AnnData, means: np.ndarray, table: pd.DataFrame) -> str | None:
    """Digest of a latent representation and all that it depends on; ``None`` where it is not read from counts in memory."""
    layer = self.registry_["setup_args"].get("layer")
    counts: Any = adata.layers.get(layer) if layer is not None else adata.X
    if (
        not (isinstance(counts, np.ndarray) or (sparse.issparse(counts) and counts.format in ("csr", "csc")))
        or self.module.latent_distribution == "ln"
        or not (self.is_trained_ and self.module.reads_counts_alone)
        or self.module.guided is not None
        or _get_adata_minify_type(adata) is not None
    ):
        return None
    names = ("data", "indices", "indptr") if sparse.issparse(counts) else ("real",)
    genes = "\n".join(map(str, adata.var_names))
    digest = hashlib.sha256(f"{type(counts)}, {counts.shape}, {counts.dtype}, {genes}".encode())
    weights = (value.detach().cpu().numpy() for value in self.module.state_dict().values())
    made = (means, table[["kl", "variance"]].to_numpy(dtype=np.float64))
    for part in (*(getattr(counts, name) for name in names), *weights, *made):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def describing(self: BetaVAE, latent: Latent) -> dict[str, np.ndarray]:
    """Embedding that a result of a normal posterior describes; the one in ``.obsm`` of a logistic normal is another."""
    return {} if self.module.latent_distribution == "ln" else {keys.LATENT: latent.means}


def cells_of(self: BetaVAE, adata: AnnData | None, call: str) -> AnnData:
    """Cells that a method works on: those given or the model's own; ``call`` is how to pass them, for the message."""
    adata = self.adata if adata is None else adata
    if adata is None:
        msg = f"The model was trained on a data module and holds no cells. Pass them: {call}."
        raise ValueError(msg)
    return adata


def batch_columns(self: BetaVAE, batch_key: str | None, conserve: str | Iterable[str] | None) -> tuple[str, list[str]]:
    """Batch and conserved columns by name, if this model can encode the batch in its latent representation."""
    setup = self.registry_["setup_args"]
    registered = setup.get("batch_key")
    if batch_key is None and registered is None:
        msg = (
            "The model was set up without a batch: name a column of adata.obs, find_batch_dimensions(batch_key), "
            "or pass batch_key to setup_anndata."
        )
        raise ValueError(msg)
    if self.module.condition_on_batch and batch_key in (None, registered):
        msg = (
            f"This model was built with condition_on_batch=True: its decoder is conditioned on {registered!r}, so latent "
            "dimensions need not encode it, and removing what is left would cost biology. Train "
            "BetaVAE(adata, condition_on_batch=False) to have batch dimensions, or use this latent representation as it is."
        )
        raise ValueError(msg)
    names = as_list(setup.get("labels_key") if conserve is None else conserve)
    return registered if batch_key is None else batch_key, names


def class_overrides(self: BetaVAE, adata: AnnData, names: Iterable[str]) -> dict[str, pd.Series]:
    """Columns that were registered as classes, as names of any type."""
    registered = class_columns(self.registry_.get("setup_args", {}))
    return {name: as_classes(obs_of(adata)[name], "conserve") for name in names if name in registered}


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Draw from a copy of torch's random state: data loaders draw a seed, scvi-tools a sample of the posterior."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _check_finite(values: np.ndarray, adata: AnnData) -> None:
    """Refuse the latent representation of a model whose training diverged."""
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        msg = (
            f"The latent representation of {len(broken)} cells is not finite, the first {adata.obs_names[broken[0]]!r}: "
            'training diverged. Train again with a smaller learning rate, plan_kwargs={"lr": 1e-4}.'
        )
        raise ValueError(msg)
