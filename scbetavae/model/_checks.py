"""Refuse data on which training would give wrong results, and say which cells and genes and what to do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scvi import settings
from scvi.dataloaders._anncollection import ArrayFakerSparse

from scbetavae._core.checks import check_key
from scbetavae._core.columns import obs_of
from scbetavae._core.text import listed

_LARGEST_EXACT = 2**24
"""Largest integer up to which float32 represents all of them."""
_NAMED = 5  # cells in a message
_CHUNK = 4096  # rows of a block
FLOAT32_MAX = float(np.finfo(np.float32).max)
"""The network computes in float32, to which every input is cast: larger values become infinite."""


def counts_of(adata: AnnData, layer: str | None) -> tuple[Any, str]:
    """Matrix of counts, a layer or ``.X``, and its name in messages."""
    if layer is not None:
        matrix = adata.layers[layer]
        if isinstance(matrix, ArrayFakerSparse):
            matrix = _CollectionRows(matrix, adata.shape)
        return matrix, f"adata.layers[{layer!r}]"
    if adata.X is None:
        msg = "adata.X is None. Put the raw counts there, or name their layer: setup_anndata(adata, layer=...)."
        raise ValueError(msg)
    return adata.X, "adata.X"


class _CollectionRows:
    """Rows of a layer of an AnnCollection, which scvi-tools presents as a sparse matrix without a shape."""

    def __init__(self, layer: Any, shape: tuple[int, int]) -> None:
        self._layer, self.shape = layer, shape

    def __getitem__(self, rows: Any) -> Any:
        return self._layer[rows]


def check_matrix(adata: AnnData, layer: str | None) -> None:
    """Refuse values that are negative or not finite in float32, and cells without counts."""
    matrix, name = counts_of(adata, layer)
    if 0 in matrix.shape:
        msg = f"{name} has {matrix.shape[0]} cells and {matrix.shape[1]} genes. There is nothing to train on."
        raise ValueError(msg)
    scan = scan_matrix(matrix)
    too_large = f"too large (beyond {FLOAT32_MAX:.2g}, the largest number of float32, in which the model computes)"
    for finding, kind, remedy in (
        (scan.non_finite, "NaN or infinite", "Set them to 0 or drop their cells or genes."),
        (scan.overflowing, too_large, "Check how the matrix was made: UMI counts are far smaller."),
        (scan.negative, "negative", "Counts are at least 0. Pass raw counts, not scaled or regressed data."),
    ):
        if finding is not None:
            msg = f"{name} holds {finding.n_values} {kind} values, the first {_where(adata, finding)}. {remedy}"
            raise ValueError(msg)
    for rows, what, remedy in (
        (
            scan.overflowing_rows,
            "counts that sum to more than float32 can hold",
            "Check how the matrix was made, or drop them.",
        ),
        (scan.empty_rows, "no counts", "Drop them first: sc.pp.filter_cells(adata, min_counts=1)."),
    ):
        if rows.size:
            msg = f"{rows.size} cells have {what} in {name}: {listed(adata.obs_names[rows], _NAMED)}. {remedy}"
            raise ValueError(msg)


def check_integer_counts(adata: AnnData, layer: str | None, gene_likelihood: str) -> None:
    """Refuse values that are not integers, for a likelihood of counts."""
    matrix, name = counts_of(adata, layer)
    scan = scan_matrix(matrix)
    if scan.largest > _LARGEST_EXACT:
        warnings.warn(
            f"{name} holds counts of up to {scan.largest:.3g}. Above {_LARGEST_EXACT:,} float32, in which the model computes, "
            "rounds them (by less than 1e-7 of their value). So many molecules of a gene in one cell are unusual: "
            "check how the matrix was made.",
            UserWarning,
            stacklevel=settings.warnings_stacklevel,
        )
    if scan.fractional is None:
        return
    looks = f" It looks log-normalized (its largest value is {scan.largest:.3g})." if scan.largest < 20 else ""
    msg = (
        f"{name} holds {scan.fractional.n_values} values that are not integers, the first {_where(adata, scan.fractional)}, "
        f"but gene_likelihood={gene_likelihood!r} needs raw counts.{looks} {_other_counts(adata, layer)}"
        'Pass raw counts, or use gene_likelihood="normal" for non-count data.'
    )
    raise ValueError(msg)


def _other_counts(adata: AnnData, layer: str | None) -> str:
    """Name a layer that holds counts, if there is one."""
    for name in (
        key for key in adata.layers if key not in (None, layer)
    ):  # anndata 0.13 lists .X among the layers, under the name None
        scan = scan_matrix(adata.layers[name])
        if scan.fractional is None and scan.negative is None and scan.non_finite is None:
            return f"adata.layers[{name!r}] holds integers: setup_anndata(adata, layer={name!r}). "
    return ""


def check_no_missing(adata: AnnData, keys: Mapping[str, str | None], *, numeric: bool) -> None:
    """Refuse columns, by the argument that named them, with missing labels or numbers that are not finite in float32."""
    for argument, key in keys.items():
        if key is None or key not in adata.obs:
            continue
        column = obs_of(adata)[key]
        if numeric and not pd.api.types.is_numeric_dtype(column):
            msg = (
                f"{argument}={key!r} must be numeric, but adata.obs[{key!r}] is {column.dtype}. "
                "Convert it, or use it as a category."
            )
            raise TypeError(msg)
        missing = overflows_float32(column.to_numpy(dtype=float)) if numeric else column.isna().to_numpy()
        if numeric:
            what = "missing or infinite values"
            remedy = "Drop these cells or fill the values in (numbers above 3.4e+38 are infinite in float32)"
        else:
            what = "missing labels"
            remedy = (
                f"Drop these cells, adata = adata[adata.obs[{key!r}].notna()].copy(), or give them a label of their own"
            )
        _refuse_cells(adata, missing, f"{argument}={key!r}", what, remedy)


def check_positive(adata: AnnData, argument: str, key: str | None) -> None:
    """Refuse size factors of 0 or less."""
    if key is not None and key in adata.obs:
        wrong = obs_of(adata)[key].to_numpy(dtype=float) <= 0
        remedy = "Size factors are positive: recompute them, or drop these cells"
        _refuse_cells(adata, wrong, f"{argument}={key!r}", "a value of 0 or less", remedy)


def check_encoder_input(adata: AnnData, key: str | None) -> None:
    """Refuse an entry of ``.obsm`` that is missing, sparse, not numeric, or not finite in float32."""
    if key is None:
        return
    check_key(key, adata.obsm.keys(), "encoder_obsm_key", "adata.obsm")
    matrix = adata.obsm[key]
    if sparse.issparse(matrix):
        msg = f"adata.obsm[{key!r}] is sparse. The encoder reads a dense matrix: adata.obsm[{key!r}].toarray()."
        raise TypeError(msg)
    try:
        values = np.asarray(matrix, dtype=float)
    except (TypeError, ValueError):
        msg = f"adata.obsm[{key!r}] does not hold numbers. Pass a matrix of shape (cells, columns)."
        raise TypeError(msg) from None
    wrong = np.any(overflows_float32(values), axis=tuple(range(1, values.ndim)))
    what = f"NaN, infinite values or values beyond {FLOAT32_MAX:.2g} (float32)"
    _refuse_cells(adata, wrong, f"adata.obsm[{key!r}]", what, "Recompute it, or drop these cells")


def _where(adata: AnnData, finding: Finding) -> str:
    """The first value of a kind, for messages."""
    return f"{finding.value:.4g} in cell {adata.obs_names[finding.row]!r}, gene {adata.var_names[finding.column]!r}"


def _refuse_cells(adata: AnnData, wrong: Any, where: str, what: str, remedy: str) -> None:
    """Raise a ValueError if some cells are wrong."""
    if wrong.any():
        names = listed(adata.obs_names[wrong], _NAMED)
        msg = f"{where}: {int(wrong.sum())} of {adata.n_obs} cells have {what} ({names}). {remedy}."
        raise ValueError(msg)


@dataclass(frozen=True)
class Finding:
    """How many values of a kind a matrix holds, and the first of them."""

    n_values: int
    row: int
    column: int
    value: float


@dataclass(frozen=True)
class MatrixScan:
    """Values of each kind (``None``: there are none), rows that sum to 0 or to more than float32 holds, and the largest value."""

    non_finite: Finding | None
    overflowing: Finding | None
    negative: Finding | None
    fractional: Finding | None
    empty_rows: np.ndarray
    overflowing_rows: np.ndarray
    largest: float


def scan_matrix(matrix: Any) -> MatrixScan:
    """Scan a matrix in blocks of rows, so that a backed file is never read whole."""
    tests = {
        "non_finite": lambda v: ~np.isfinite(v),
        "overflowing": lambda v: np.isfinite(v) & overflows_float32(v),
        "negative": lambda v: v < 0,
        "fractional": lambda v: np.isfinite(v) & (v != np.rint(v)),
    }
    found: dict[str, Finding | None] = dict.fromkeys(tests)
    empty, overflowing, largest = [np.array([], dtype=int)], [np.array([], dtype=int)], 0.0
    for start, block in _row_blocks(matrix):
        values = block.data if sparse.issparse(block) else block.ravel()
        for name, test in tests.items():
            hits, first = np.flatnonzero(test(values)), found[name]
            if hits.size and first is None:
                row, column = _position(block, int(hits[0]))
                found[name] = Finding(hits.size, start + row, column, float(values[hits[0]]))
            elif first is not None:
                found[name] = Finding(first.n_values + hits.size, first.row, first.column, first.value)
        totals = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        empty.append(start + np.flatnonzero(totals == 0))
        overflowing.append(start + np.flatnonzero(overflows_float32(totals)))
        largest = max(largest, float(values[np.isfinite(values)].max(initial=0.0)))
    return MatrixScan(
        **found, empty_rows=np.concatenate(empty), overflowing_rows=np.concatenate(overflowing), largest=largest
    )


def overflows_float32(values: np.ndarray) -> np.ndarray:
    """Which values are NaN, infinite, or become infinite in float32."""
    return ~(np.abs(values) <= FLOAT32_MAX)


def _row_blocks(matrix: Any) -> Iterator[tuple[int, Any]]:
    """First row and block, CSR or array."""
    if sparse.issparse(matrix) and matrix.format != "csr":
        matrix = matrix.tocsr()
    for start in range(0, matrix.shape[0], _CHUNK):
        block = matrix[start : start + _CHUNK]
        yield start, block.tocsr() if sparse.issparse(block) else np.asarray(block)


def _position(block: Any, flat: int) -> tuple[int, int]:
    """Row and column of a stored value."""
    if sparse.issparse(block):
        return int(np.searchsorted(block.indptr, flat, side="right")) - 1, int(block.indices[flat])
    row, column = divmod(flat, block.shape[1])
    return row, column
