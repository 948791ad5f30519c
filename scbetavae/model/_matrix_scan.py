"""One pass over a matrix of counts, in blocks of rows: dense, sparse or backed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

_CHUNK = 4096
FLOAT32_MAX = float(np.finfo(np.float32).max)
"""The network computes in float32, to which every input is cast: larger values become infinite."""


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
