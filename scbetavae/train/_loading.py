"""Minibatches of cells that are in memory, without a row-by-row step in Python.

Our own, because scvi-tools slices a scipy matrix, makes the slice dense and converts it, minibatch by minibatch. Here one gather
over compressed sparse rows gives the counts of a minibatch, which stay sparse where the network can read them
(``benchmarks/train_speed.py``). Order and random numbers are those of scvi-tools.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager
from scvi.dataloaders import DataSplitter
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from scbetavae._core.checks import check_choice

_MEMORY_SHARE = 0.5
_was_warned: list[bool] = []
_DISCRETE = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY, REGISTRY_KEYS.CAT_COVS_KEY)


@dataclass(frozen=True)
class Minibatches:
    """Several minibatches in one item of a loader, the tensors of each by name."""

    minibatches: list[dict[str, Tensor]]

    def to(self, device: torch.device, **kwargs: Any) -> Minibatches:
        """The same on a device, for Lightning."""
        return Minibatches([{k: v.to(device, **kwargs) for k, v in m.items()} for m in self.minibatches])


class MinibatchDataset(Dataset):
    """Cells of registered data in memory, indexed by minibatch.

    ``rows`` are the cells that take part, in order; ``device`` is where the data are kept; ``sparse_counts`` asks for torch's
    compressed sparse rows; ``counts_alone`` leaves out the other registered tensors.
    """

    def __init__(
        self,
        adata_manager: AnnDataManager,
        rows: Sequence[int] | np.ndarray,
        device: torch.device | str = "cpu",
        *,
        sparse_counts: bool = False,
        counts_alone: bool = False,
    ) -> None:
        self.sparse_counts = sparse_counts
        self.device = torch.device(device)
        self.rows = np.asarray(rows, dtype=np.int64)
        self._columns = {}
        for key in adata_manager.data_registry:
            if key == REGISTRY_KEYS.X_KEY:
                self._set_counts(adata_manager.get_from_registry(key))
            elif not counts_alone:
                value = adata_manager.get_from_registry(key)
                self._columns[key] = self._to_device(_as_array(value, discrete=key in _DISCRETE))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Any) -> dict[str, Tensor] | Minibatches:
        """Tensors of a minibatch by name, from positions among the cells; or of several, from a list of such lists."""
        if not len(positions) or not isinstance(positions[0], list):
            return self._read(self.rows[np.asarray(positions)], [len(positions)])[0]
        together = self.rows[np.concatenate(positions)]
        return Minibatches(self._read(together, [len(minibatch) for minibatch in positions]))

    def _read(self, rows: np.ndarray, sizes: list[int]) -> list[dict[str, Tensor]]:
        """Minibatches of these sizes, from one gather over the rows of all of them."""
        starts = self._offsets[rows]
        lengths = self._offsets[rows + 1] - starts
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        # Entry k of what is read is entry k - offsets[i] of its cell i, which begins at starts[i].
        where = torch.from_numpy(np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])).to(self.device)
        genes, values = self._genes.index_select(0, where).long(), self._counts.index_select(0, where)
        chosen = torch.from_numpy(rows).to(self.device)
        columns = {key: column.index_select(0, chosen).split(sizes) for key, column in self._columns.items()}
        ends = np.cumsum(sizes)
        minibatches = []
        for i, (first, last) in enumerate(zip(ends - sizes, ends, strict=True)):
            part = slice(offsets[first], offsets[last])
            counts = self._matrix(offsets[first : last + 1] - offsets[first], genes[part], values[part])
            minibatches.append({REGISTRY_KEYS.X_KEY: counts} | {key: parts[i] for key, parts in columns.items()})
        return minibatches

    def _matrix(self, offsets: np.ndarray, genes: Tensor, values: Tensor) -> Tensor:
        """Counts of a minibatch from its compressed sparse rows."""
        n_cells = len(offsets) - 1
        if self.sparse_counts:
            return _sparse_rows(torch.from_numpy(offsets).to(self.device), genes, values, (n_cells, self.n_genes))
        first = torch.from_numpy(np.repeat(np.arange(n_cells) * self.n_genes, np.diff(offsets))).to(self.device)
        counts = torch.zeros(n_cells, self.n_genes, dtype=values.dtype, device=self.device)
        counts.view(-1).scatter_(0, first.add_(genes), values)
        return counts

    def _set_counts(self, counts: Any) -> None:
        """Keep counts as compressed sparse rows."""
        counts = sparse.csr_matrix(counts)
        if not counts.has_canonical_format:
            counts = counts.copy()
            counts.sum_duplicates()
        self.n_genes = counts.shape[1]
        self._offsets = counts.indptr.astype(np.int64)
        self._genes = self._to_device(counts.indices)
        self._counts = self._to_device(counts.data.astype(np.float32, copy=False))

    def _to_device(self, values: np.ndarray) -> torch.Tensor:
        """An array on the device of the data."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def _sparse_rows(offsets: Tensor, genes: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse tensor of these rows, without torch's warning, once per process, that the layout is new."""
    make = partial(torch.sparse_csr_tensor, offsets, genes, values, shape, check_invariants=False)
    if _was_warned:
        return make()
    _was_warned.append(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)
        return make()


def _as_array(value: Any, *, discrete: bool) -> np.ndarray:
    """Registered values as integers or single-precision numbers."""
    if isinstance(value, pd.DataFrame):
        value = value.to_numpy()
    return np.asarray(value).astype(np.int64 if discrete else np.float32, copy=False)


def can_hold_sparse(device: torch.device) -> bool:
    """Whether torch has tensors in compressed sparse row layout on a device."""
    return device.type in ("cpu", "cuda")


def fits_in_memory(adata_manager: AnnDataManager) -> bool:
    """Whether the registered data are arrays in memory, not backed files, dask arrays or minified data."""
    adata: Any = adata_manager.adata
    if adata.isbacked or REGISTRY_KEYS.MINIFY_TYPE_KEY in adata_manager.data_registry:
        return False
    for key in adata_manager.data_registry:
        value = adata_manager.get_from_registry(key)
        sparse_counts = key == REGISTRY_KEYS.X_KEY and sparse.issparse(value)
        if not sparse_counts and not isinstance(value, np.ndarray | pd.DataFrame):
            return False
    return True


def in_memory_loader(
    adata_manager: AnnDataManager,
    rows: Sequence[int],
    batch_size: int,
    *,
    shuffle: bool = False,
    device: torch.device | str = "cpu",
    sparse_counts: bool = False,
    counts_alone: bool = False,
) -> DataLoader | None:
    """Fast loader over cells in memory, in the order and with the random numbers of scvi-tools' loader.

    Arguments as for :class:`MinibatchDataset`. ``None`` for backed, minified or dask data, or a device without sparse tensors if
    these are asked for.
    """
    if not fits_in_memory(adata_manager) or (sparse_counts and not can_hold_sparse(torch.device(device))):
        return None
    dataset = MinibatchDataset(adata_manager, rows, device, sparse_counts=sparse_counts, counts_alone=counts_alone)
    return minibatches(dataset, batch_size, shuffle=shuffle)


def minibatches(
    dataset: MinibatchDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    drop_last: bool = False,
    at_once: int | None = None,
) -> DataLoader:
    """Loader of minibatches, or of ``at_once`` minibatches per item, as :class:`Minibatches`."""
    sampler: Any = (RandomSampler if shuffle else SequentialSampler)(dataset)
    batches: Any = BatchSampler(sampler, batch_size=batch_size, drop_last=drop_last)
    if at_once is not None:
        batches = BatchSampler(batches, batch_size=at_once, drop_last=False)
    return DataLoader(dataset, batch_size=None, sampler=batches, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    """The dataset collates."""
    return batch


class InMemoryDataSplitter(DataSplitter):
    """Splits cells as scvi-tools does, and reads them with :func:`in_memory_loader`'s dataset where they are in memory.

    Parameters
    ----------
    adata_manager
        Registered data.
    data_on_device
        Whether the data are kept on the accelerator: ``"auto"`` if they take up to half of its free memory.
    **kwargs
        As for :class:`scvi.dataloaders.DataSplitter`.
    """

    def __init__(self, adata_manager: AnnDataManager, *, data_on_device: bool | str = "auto", **kwargs: Any) -> None:
        super().__init__(adata_manager, **kwargs)
        check_choice(data_on_device, (True, False, "auto"), "data_on_device")
        self.data_on_device = data_on_device

    def train_dataloader(self) -> DataLoader:
        """Loader of the training cells, in random order."""
        if not self.reads_directly:
            return super().train_dataloader()
        return minibatches(
            self._dataset(self.train_idx),
            self._batch_size,
            shuffle=True,
            drop_last=bool(self.drop_last),
            at_once=getattr(self._plan, "minibatches_at_once", None),
        )

    def val_dataloader(self) -> DataLoader | None:
        """Loader of the validation cells."""
        if not self.reads_directly or len(self.val_idx) == 0:
            return super().val_dataloader()
        return minibatches(self._dataset(self.val_idx), self._batch_size)

    @property
    def _batch_size(self) -> int:
        """Cells in a minibatch."""
        return self.data_loader_kwargs.get("batch_size") or settings.batch_size

    @property
    def reads_directly(self) -> bool:
        """Whether minibatches come from :class:`MinibatchDataset`, not from scvi-tools' loader."""
        special = {k for k, v in self.data_loader_kwargs.items() if k != "batch_size" and v}
        return not (
            special or self.load_sparse_tensor or self.pin_memory or settings.dl_num_workers
        ) and fits_in_memory(self.adata_manager)

    @property
    def _plan(self) -> object | None:
        """The plan that trains, if there is one."""
        return None if self.trainer is None else self.trainer.lightning_module

    def _dataset(self, rows: np.ndarray) -> MinibatchDataset:
        """These cells, on the device and in the layout that the plan trains on."""
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        sparse_counts = can_hold_sparse(device) and getattr(self._plan, "takes_sparse_counts", False)
        return MinibatchDataset(
            self.adata_manager, rows, device if self._keep_on(device) else "cpu", sparse_counts=sparse_counts
        )

    def _keep_on(self, device: torch.device) -> bool:
        """Whether the data are kept on the accelerator."""
        if self.data_on_device != "auto" or device.type != "cuda":
            return bool(self.data_on_device)
        counts: Any = self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)
        n_bytes = 8 * (counts.nnz if sparse.issparse(counts) else counts.size)
        return n_bytes < _MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
