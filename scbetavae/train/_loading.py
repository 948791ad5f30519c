"""Minibatches of cells that are in memory, without a row-by-row step in Python.

scvi-tools slices a scipy matrix, makes the slice dense and converts it, minibatch by minibatch. Here one gather over the
arrays of the compressed sparse rows gives the non-zero counts of a minibatch, the dense counts are scattered from them, and
both are handed on: a loss that knows where the zeros are skips them. Order and random numbers are those of scvi-tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager
from scvi.dataloaders import DataSplitter
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

NONZERO_KEYS = ("X_offsets", "X_columns", "X_values")
"""Names of the minibatch's non-zero counts: row offsets, gene of each, count."""

LOG1P_KEY = "X_log1p"
"""Name of log(1 + counts), dense, made from the non-zero counts alone."""

_MEMORY_SHARE = 0.5
_DISCRETE = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY, REGISTRY_KEYS.CAT_COVS_KEY)


class MinibatchDataset(Dataset):
    """Cells of a registered AnnData, a minibatch at a time, as tensors.

    Parameters
    ----------
    adata_manager
        Registered data; :func:`fits_in_memory` says whether they can be read this way.
    rows
        Cells that take part, in order, indices of shape ``(n_cells,)``.
    device
        Where the data are kept and the minibatches are made.
    dense
        Whether minibatches hold the dense counts and the other registered tensors, or the non-zero counts alone.
    """

    def __init__(
        self,
        adata_manager: AnnDataManager,
        rows: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        dense: bool = True,
    ) -> None:
        self.dense = dense
        self.device = torch.device(device)
        self.rows = np.asarray(rows, dtype=np.int64)
        self._columns = {}
        for key in adata_manager.data_registry:
            value = adata_manager.get_from_registry(key)
            if key == REGISTRY_KEYS.X_KEY:
                self._set_counts(value)
            elif dense:
                self._columns[key] = self._to_device(_as_array(value, discrete=key in _DISCRETE))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Sequence[int]) -> dict[str, torch.Tensor]:
        """Tensors of a minibatch.

        Parameters
        ----------
        positions
            Positions among the cells that take part.

        Returns
        -------
        Registered tensors by name, ``X`` dense, its logarithm under :data:`LOG1P_KEY`, and the non-zero counts under
        :data:`NONZERO_KEYS`.
        """
        rows = self.rows[np.asarray(positions)]
        starts = self._offsets[rows]
        lengths = self._offsets[rows + 1] - starts
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        # Entry k of the minibatch is entry k - offsets[i] of its cell i, which begins at starts[i].
        where = torch.from_numpy(np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])).to(self.device)
        columns, values = self._genes.index_select(0, where).long(), self._counts.index_select(0, where)
        batch = dict(zip(NONZERO_KEYS, (torch.from_numpy(offsets).to(self.device), columns, values), strict=True))
        if not self.dense:
            return batch
        first = torch.from_numpy(np.repeat(np.arange(len(rows)) * self.n_genes, lengths)).to(self.device)
        positions = first.add_(columns)
        dense, log1p = torch.zeros(2, len(rows), self.n_genes, dtype=values.dtype, device=self.device)
        dense.view(-1).scatter_(0, positions, values)
        log1p.view(-1).scatter_(0, positions, torch.log1p(values))
        batch |= {REGISTRY_KEYS.X_KEY: dense, LOG1P_KEY: log1p}
        chosen = torch.from_numpy(rows).to(self.device)
        return batch | {key: column.index_select(0, chosen) for key, column in self._columns.items()}

    def _set_counts(self, counts: Any) -> None:
        counts = sparse.csr_matrix(counts)
        if not counts.has_canonical_format:
            counts = counts.copy()
            counts.sum_duplicates()
        self.n_genes = counts.shape[1]
        self._offsets = counts.indptr.astype(np.int64)
        self._genes = self._to_device(counts.indices)
        self._counts = self._to_device(counts.data.astype(np.float32, copy=False))

    def _to_device(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def _as_array(value: Any, *, discrete: bool) -> np.ndarray:
    if isinstance(value, pd.DataFrame):
        value = value.to_numpy()
    return np.asarray(value).astype(np.int64 if discrete else np.float32, copy=False)


def fits_in_memory(adata_manager: AnnDataManager) -> bool:
    """Whether the registered data are arrays in memory, which :class:`MinibatchDataset` can read.

    Parameters
    ----------
    adata_manager
        Registered data.

    Returns
    -------
    ``False`` for backed files, dask arrays, minified data and anything else that only scvi-tools' loader knows.
    """
    if adata_manager.adata.isbacked or REGISTRY_KEYS.MINIFY_TYPE_KEY in adata_manager.data_registry:
        return False
    for key in adata_manager.data_registry:
        value = adata_manager.get_from_registry(key)
        sparse_counts = key == REGISTRY_KEYS.X_KEY and sparse.issparse(value)
        if not sparse_counts and not isinstance(value, np.ndarray | pd.DataFrame):
            return False
    return True


def minibatches(
    dataset: MinibatchDataset, batch_size: int, *, shuffle: bool = False, drop_last: bool = False
) -> DataLoader:
    """Loader over a dataset, in the order and with the random numbers of scvi-tools' loader.

    Parameters
    ----------
    dataset
        The cells.
    batch_size
        Cells in a minibatch.
    shuffle
        Whether the order is random.
    drop_last
        Whether a last, smaller minibatch is left out.

    Returns
    -------
    A torch data loader.
    """
    sampler = (RandomSampler if shuffle else SequentialSampler)(dataset)
    batches = BatchSampler(sampler, batch_size=batch_size, drop_last=drop_last)
    return DataLoader(dataset, batch_size=None, sampler=batches, collate_fn=_as_it_is)


def _as_it_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch


class InMemoryDataSplitter(DataSplitter):
    """Splits cells as scvi-tools does, and reads them by :class:`MinibatchDataset` where they are in memory.

    Parameters
    ----------
    adata_manager
        Registered data.
    data_on_device
        Whether the data are kept on the accelerator: ``"auto"`` does so where they take up to half of its free memory,
        so that it never waits for the CPU.
    **kwargs
        As for :class:`scvi.dataloaders.DataSplitter`.
    """

    def __init__(self, adata_manager: AnnDataManager, *, data_on_device: bool | str = "auto", **kwargs: Any) -> None:
        super().__init__(adata_manager, **kwargs)
        if data_on_device not in (True, False, "auto"):
            msg = f"data_on_device={data_on_device!r} is not a choice. Take True, False or 'auto'."
            raise ValueError(msg)
        self.data_on_device = data_on_device

    def train_dataloader(self) -> DataLoader:
        """Loader of the training cells, in random order."""
        if not self._reads_directly:
            return super().train_dataloader()
        return minibatches(
            self._dataset(self.train_idx), self._batch_size, shuffle=True, drop_last=bool(self.drop_last)
        )

    def val_dataloader(self) -> DataLoader | None:
        """Loader of the validation cells."""
        if not self._reads_directly or len(self.val_idx) == 0:
            return super().val_dataloader()
        return minibatches(self._dataset(self.val_idx), self._batch_size)

    @property
    def _batch_size(self) -> int:
        return self.data_loader_kwargs.get("batch_size") or settings.batch_size

    @property
    def _reads_directly(self) -> bool:
        special = {k for k, v in self.data_loader_kwargs.items() if k != "batch_size" and v}
        return not (
            special or self.load_sparse_tensor or self.pin_memory or settings.dl_num_workers
        ) and fits_in_memory(self.adata_manager)

    def _dataset(self, rows: np.ndarray) -> MinibatchDataset:
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        return MinibatchDataset(self.adata_manager, rows, device if self._keep_on(device) else "cpu")

    def _keep_on(self, device: torch.device) -> bool:
        if self.data_on_device != "auto" or device.type != "cuda":
            return bool(self.data_on_device)
        counts = self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)
        n_bytes = 8 * (counts.nnz if sparse.issparse(counts) else counts.size)
        return n_bytes < _MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
