"""One look through a matrix of counts, in blocks, dense, sparse or backed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

_CHUNK = 4096
FLOAT32_MAX = float(np.finfo(np.float32).max)
"""The network computes in float32, to which every input is cast: what is larger becomes infinite."""


@dataclass(frozen=True)
class Finding:
    """Where a matrix holds values of a kind.

    Parameters
    ----------
    n_values
        How many values there are.
    row, column
        Where the first of them is.
    value
        The first of them.
    """

    n_values: int
    row: int
    column: int
    value: float


@dataclass(frozen=True)
class MatrixScan:
    """What one pass over a matrix of counts found.

    Parameters
    ----------
    non_finite, overflowing, negative, fractional
        First value of each kind, ``None`` if there is none. Overflowing are finite values that float32 cannot hold.
    empty_rows
        Rows that sum to 0.
    overflowing_rows
        Rows whose sum float32 cannot hold.
    largest
        Largest finite value.
    """

    non_finite: Finding | None
    overflowing: Finding | None
    negative: Finding | None
    fractional: Finding | None
    empty_rows: np.ndarray
    overflowing_rows: np.ndarray
    largest: float


def scan_matrix(matrix: Any) -> MatrixScan:
    """Look once through a matrix, in blocks of rows, so that a backed file is never read whole.

    Parameters
    ----------
    matrix
        Dense, sparse or backed matrix of shape ``(cells, genes)``.

    Returns
    -------
    What was found.
    """
    tests = {
        "non_finite": lambda v: ~np.isfinite(v),
        "overflowing": lambda v: np.isfinite(v) & overflows_float32(v),
        "negative": lambda v: v < 0,
        "fractional": lambda v: np.isfinite(v) & (v != np.rint(v)),
    }
    first: dict[str, Finding | None] = dict.fromkeys(tests)
    counts = dict.fromkeys(tests, 0)
    empty: list[np.ndarray] = []
    overflowing: list[np.ndarray] = []
    largest = 0.0
    for start, block in _row_blocks(matrix):
        values = block.data if sparse.issparse(block) else block.ravel()
        for name, test in tests.items():
            hits = np.flatnonzero(test(values))
            counts[name] += hits.size
            if hits.size and first[name] is None:
                row, column = _position(block, int(hits[0]))
                first[name] = Finding(0, start + row, column, float(values[hits[0]]))
        totals = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
        empty.append(start + np.flatnonzero(totals == 0))
        overflowing.append(start + np.flatnonzero(overflows_float32(totals)))
        finite = values[np.isfinite(values)]
        largest = max(largest, float(finite.max())) if finite.size else largest
    found = {
        name: Finding(counts[name], f.row, f.column, f.value) if f is not None else None for name, f in first.items()
    }
    rows = {
        name: np.concatenate(parts) if parts else np.array([], dtype=int)
        for name, parts in (("empty_rows", empty), ("overflowing_rows", overflowing))
    }
    return MatrixScan(**found, **rows, largest=largest)


def overflows_float32(values: np.ndarray) -> np.ndarray:
    """Which values are NaN, infinite, or become infinite in float32."""
    return ~(np.abs(values) <= FLOAT32_MAX)


def _row_blocks(matrix: Any) -> Iterator[tuple[int, Any]]:
    if sparse.issparse(matrix) and matrix.format != "csr":
        matrix = matrix.tocsr()
    for start in range(0, matrix.shape[0], _CHUNK):
        block = matrix[start : start + _CHUNK]
        yield start, block.tocsr() if sparse.issparse(block) else np.asarray(block)


def _position(block: Any, flat: int) -> tuple[int, int]:
    if sparse.issparse(block):
        return int(np.searchsorted(block.indptr, flat, side="right")) - 1, int(block.indices[flat])
    return divmod(flat, block.shape[1])
