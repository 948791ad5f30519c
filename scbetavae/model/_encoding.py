"""Encode cells: the same minibatches as scvi-tools, made faster. Every method of scvi-tools that reads cells uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS, settings
from scvi.model import SCVI
from torch.utils.data import DataLoader, Dataset, Subset

from scbetavae.train import in_memory_loader

from ._cells import resolve_rows
from ._guided import guided_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from ._betavae import BetaVAE

_ENCODING_BATCH = 1024


def get_latent_representation(
    self: BetaVAE,
    adata: AnnData | None = None,
    indices: Sequence[int] | None = None,
    give_mean: bool = True,
    mc_samples: int = 5_000,
    batch_size: int | None = None,
    return_dist: bool = False,
    dataloader: Any = None,
    **kwargs: Any,
) -> Any:
    """Latent representation of the cells, as :meth:`scvi.model.SCVI.get_latent_representation`.

    Parameters
    ----------
    adata
        Cells; ``None`` for those of the model. Other data must have the same genes, in any order, and the same keys.
    indices
        Cells to encode, in this order: a boolean mask, positions (below 0 from the end) or names; ``None`` for all. Cells that do
        not exist are a ValueError or, by name, a KeyError.
    give_mean, mc_samples, dataloader, **kwargs
        As in scVI's method.
    batch_size
        Cells in a minibatch; does not change the means.
    return_dist
        Whether to return means and variances of the posteriors.

    Returns
    -------
    Array of shape ``(n_cells, n_latent)``; with ``return_dist``, two of them: means and variances. Guided dimensions follow the
    free ones; their variance is 0 unless they are inferred.
    """
    if self.module.guided is not None:
        free = _free_representation(
            self, adata, indices, give_mean, mc_samples, batch_size, return_dist, dataloader, **kwargs
        )
        data = self._validate_anndata(adata) if dataloader is None else None
        blocks = guided_block(self, data, indices, batch_size, dataloader)
        if return_dist:
            return tuple(np.hstack(pair) for pair in zip(free, blocks, strict=True))
        return np.hstack([free, blocks[0]])
    return _free_representation(
        self, adata, indices, give_mean, mc_samples, batch_size, return_dist, dataloader, **kwargs
    )


def _free_representation(
    self: BetaVAE,
    adata: AnnData | None,
    indices: Any,
    give_mean: bool,
    mc_samples: int,
    batch_size: int | None,
    return_dist: bool,
    dataloader: Any,
    **kwargs: Any,
) -> Any:
    """As `get_latent_representation`, of the free dimensions."""
    moments_only = return_dist or (give_mean and self.module.latent_distribution == "normal")
    if dataloader is None and moments_only and not kwargs:
        self._check_if_trained(warn=False)
        adata = self._validate_anndata(adata)
        batch_size = max(settings.batch_size, _ENCODING_BATCH) if batch_size is None else batch_size
        loader = None
        if self.module.reads_counts_alone:
            manager: Any = self.get_anndata_manager(adata)
            rows: Any = resolve_rows(adata, indices)
            options = {"device": self.device, "sparse_counts": True, "counts_alone": True}
            loader = in_memory_loader(manager, rows, batch_size, **options)
        if loader is not None:
            means, variances = _encode_nonzero(self, loader)
            return (means, variances) if return_dist else means
    theirs: Any = SCVI.get_latent_representation
    return theirs(self, adata, indices, give_mean, mc_samples, batch_size, return_dist, dataloader, **kwargs)


def make_data_loader(
    self: BetaVAE,
    adata: AnnData,
    indices: Any = None,
    batch_size: int | None = None,
    shuffle: bool = False,
    data_loader_class: type | None = None,
    **kwargs: Any,
) -> DataLoader:
    """Minibatches of cells in the order asked for, from memory where they are there."""
    manager = self.get_anndata_manager(adata)
    rows: Any = resolve_rows(adata, indices, at_least_one=True)
    loader: Any = None
    if manager is not None and not (data_loader_class or kwargs or settings.dl_num_workers):
        loader = in_memory_loader(manager, rows, batch_size or settings.batch_size, shuffle=shuffle)
    if loader is None:
        loader = SCVI._make_data_loader(self, adata, rows, batch_size, shuffle, data_loader_class, **kwargs)
        if isinstance(loader.dataset, Subset):
            loader.dataset.dataset = _RowsInOrder(loader.dataset.dataset)
    return loader


def _encode_nonzero(self: BetaVAE, loader: DataLoader) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and variances from the non-zero counts alone."""
    was_training = self.module.training
    self.module.eval()
    posteriors = [self.module.encode_nonzero(batch[REGISTRY_KEYS.X_KEY]) for batch in loader]
    self.module.train(was_training)
    means = np.concatenate([p.loc.cpu().numpy() for p in posteriors] or [np.empty((0, self.module.n_latent))])
    return means, np.concatenate([p.scale.square().cpu().numpy() for p in posteriors] or [means])


class _RowsInOrder(Dataset):
    """Cells in the order asked for: scvi-tools reads those of a file in increasing order, each once, as files need it."""

    def __init__(self, cells: Any) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, rows: Any) -> dict[str, np.ndarray | torch.Tensor]:
        needed, place = np.unique(np.atleast_1d(rows), return_inverse=True)
        return {key: _take(values, place) for key, values in self._cells[needed].items()}


def _take(values: np.ndarray | torch.Tensor, place: np.ndarray) -> np.ndarray | torch.Tensor:
    """Rows of an array, or of torch's sparse matrix, which does not support row indexing."""
    if isinstance(values, np.ndarray):
        return values[place]
    if len(place) == len(values) and (np.diff(place) == 1).all():
        return values
    layout = {torch.sparse_csr: torch.Tensor.to_sparse_csr, torch.sparse_csc: torch.Tensor.to_sparse_csc}
    return layout[values.layout](values.to_dense()[torch.from_numpy(place)])
