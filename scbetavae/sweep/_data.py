"""What a sweep reads of the user's cells, and a fingerprint of it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scbetavae._core.checks import check_adata
from scbetavae._core.columns import obs_of
from scbetavae.model import BetaVAE

_ROWS_AT_ONCE = 4096
_LISTS = ("categorical_covariate_keys", "continuous_covariate_keys")
_GUIDED = ("guided_keys", "continuous_guided_keys")
_COLUMNS = ("batch_key", "labels_key", "size_factor_key")
_NO_CELLS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class SweepData:
    """Counts, columns and the split: all that a run reads, and all that is sent to another process."""

    counts: Any
    """Cells x genes, CSR matrix or array."""
    obs: pd.DataFrame
    genes: pd.Index
    encoder_input: Any
    setup: Mapping[str, Any]
    """Arguments of ``BetaVAE.setup_anndata``, without the layer."""
    train: np.ndarray = field(default_factory=_NO_CELLS.copy)
    """Indices of training cells."""
    held_out: np.ndarray = field(default_factory=_NO_CELLS.copy)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.obs)

    def first_cells(self, n: int) -> Self:
        """The first ``n`` cells, enough to check arguments on."""
        encoder_input = None if self.encoder_input is None else self.encoder_input[:n]
        return replace(self, counts=self.counts[:n], obs=self.obs.iloc[:n], encoder_input=encoder_input)

    def to_adata(self) -> AnnData:
        """A new AnnData, set up for training, that shares the counts."""
        key = self.setup.get("encoder_obsm_key")
        adata = AnnData(self.counts, obs=self.obs.copy(), var=pd.DataFrame(index=self.genes))
        if key is not None:
            adata.obsm[key] = self.encoder_input
        BetaVAE.setup_anndata(adata, **self.setup)
        return adata

    def fingerprint(self) -> dict[str, Any]:
        """Sizes, and a hash of every part of the content: not of the object, its types or its layout in memory."""
        parts = {"n_cells": self.n_cells, "n_genes": len(self.genes), "counts": _hash_matrix(self.counts)}
        parts |= {"cells": _hash_texts(self.obs.index), "genes": _hash_texts(self.genes)}
        if self.encoder_input is not None:
            parts[f"obsm[{self.setup['encoder_obsm_key']!r}]"] = _hash_matrix(np.asarray(self.encoder_input))
        return parts | {f"obs[{name!r}]": _hash_column(self.obs[name]) for name in self.obs}


def setup_arguments(adata: AnnData) -> dict[str, Any]:
    """What ``BetaVAE.setup_anndata`` was called with on these cells; an error for a view, and for cells without it."""
    check_adata(adata, instead="Wrap a matrix of counts: anndata.AnnData(matrix).")
    try:
        manager: Any = BetaVAE._get_most_recent_anndata_manager(adata, required=True)
    except ValueError as error:  # not set up, or a copy
        call = 'scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="cell_type")'
        msg = f"adata was not set up, or is a copy made since. Run {call} first, with your columns."
        raise ValueError(msg) from error
    return dict(manager.registry["setup_args"])


def read_data(adata: AnnData, setup_args: Mapping[str, Any], columns: Iterable[str | None]) -> SweepData:
    """Counts, the columns of the set-up and further columns of the user's cells, which are not changed."""
    setup = {name: setup_args.get(name) for name in (*_COLUMNS, *_LISTS, "encoder_obsm_key")}
    setup |= {name: setup_args[name] for name in _GUIDED if setup_args.get(name)}
    used = [setup[name] for name in _COLUMNS] + [key for n in (*_LISTS, *_GUIDED) for key in setup.get(n) or ()]
    names = [name for name in dict.fromkeys([*used, *columns]) if name is not None]
    layer, key = setup_args.get("layer"), setup.get("encoder_obsm_key")
    counts = _in_memory(adata.X if layer is None else adata.layers[layer])
    encoder_input = None if key is None else adata.obsm[key]
    return SweepData(counts, obs_of(adata)[names].copy(), adata.var_names, encoder_input, setup)


def split_cells(n_cells: int, train_size: float, batch_size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and held-out cells, the same for every run; a ValueError if too few are left on one side.

    One or two cells in the last minibatch would have no variance to normalize by; they are held out, as in scvi-tools.
    """
    n_held_out = n_cells - round(train_size * n_cells)
    left_over = (n_cells - n_held_out) % batch_size
    n_held_out += left_over if left_over < 3 else 0
    if n_held_out < 2 or n_cells - n_held_out < 3:
        msg = (
            f"train_size={train_size:g} of {n_cells} cells leaves {n_cells - n_held_out} training cells and {n_held_out} "
            "held out. Pass more cells, or another fraction."
        )
        raise ValueError(msg)
    order = np.random.default_rng(seed).permutation(n_cells)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def _in_memory(matrix: Any) -> Any:
    """Counts as a matrix that can be sliced, sent and hashed."""
    if sparse.issparse(matrix):
        return matrix.tocsr()
    if hasattr(matrix, "to_memory"):  # a sparse matrix of a backed file
        return matrix.to_memory().tocsr()
    if hasattr(matrix, "compute"):  # dask
        return _in_memory(matrix.compute())
    return np.asarray(matrix)


def _hash_matrix(matrix: Any) -> str:
    """Hash of shape and values, the same for sparse and dense and for all number types."""
    digest = hashlib.sha256(repr(tuple(matrix.shape)).encode())
    for start in range(0, matrix.shape[0], _ROWS_AT_ONCE):
        rows = sparse.csr_matrix(matrix[start : start + _ROWS_AT_ONCE], dtype=np.float64, copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        for part in (rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data):
            digest.update(part.tobytes())
    return digest.hexdigest()


def _hash_texts(values: Iterable[Any]) -> str:
    """Hash of texts, each with its length: "ab", "c" is not "a", "bc"."""
    digest = hashlib.sha256()
    for value in values:
        text = str(value).encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def _hash_column(column: pd.Series) -> str:
    """Hash of the values of numbers; otherwise of texts, which are missing, and the order of categories."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return hashlib.sha256(column.to_numpy(dtype=np.float64, na_value=np.nan).tobytes()).hexdigest()
    texts = ["" if absent else f"={value}" for value, absent in zip(column, column.isna().to_numpy(), strict=True)]
    categories = sorted(set(texts) - {""})
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = [f"={value}" for value in column.cat.categories]
    return _hash_texts([*texts, "", *categories])
