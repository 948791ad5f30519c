r"""Change counts from one expected profile to another, leaving as many as possible as they were observed.

A molecule of a cell is a draw from the gene shares :math:`\rho`. It stays what it is with probability :math:`\min(1, \rho'_g /
\rho_g)`; the molecules that leave become genes whose share rises, in proportion to :math:`(\rho'_g - \rho_g)_+`. If the counts
were a draw from :math:`\rho`, the result is a draw from :math:`\rho'`: a maximal coupling :cite:p:`Lindvall2002`, molecule by
molecule. The total of every cell is kept, and equal profiles change nothing.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


def transport_counts(
    counts: sparse.csr_matrix, before: np.ndarray, after: np.ndarray, rng: np.random.Generator | None
) -> tuple[np.ndarray, sparse.csr_matrix | None]:
    """Expected counts after a change of shares, and a draw of them; no draw without ``rng``, which needs whole counts.

    ``before`` and ``after`` are expression of shape (n_cells, n_genes) or (1, n_genes), of any scale.
    """
    before, after = to_shares(before), to_shares(after)
    rise = np.maximum(after - before, 0.0)
    total_rise = rise.sum(axis=1, keepdims=True)
    stays = np.divide(after, before, out=np.ones_like(rise), where=(before > after) & (total_rise > 0))
    gained = np.divide(rise, total_rise, out=np.zeros_like(rise), where=total_rise > 0)
    row_of_count = np.repeat(np.arange(len(counts.indptr) - 1), np.diff(counts.indptr))
    at_counts = stays[row_of_count if len(stays) > 1 else 0, counts.indices]
    kept = sparse.csr_matrix((counts.data * at_counts, counts.indices, counts.indptr), shape=counts.shape)
    expected = kept.toarray() + _lost(counts, kept)[:, None] * gained
    if rng is None:
        return expected, None
    whole = np.rint(counts.data).astype(np.int64)
    kept = sparse.csr_matrix((rng.binomial(whole, at_counts), counts.indices, counts.indptr), shape=counts.shape)
    lost = np.rint(_lost(counts, kept)).astype(np.int64)
    return expected, sparse.csr_matrix(kept + sparse.csr_matrix(rng.multinomial(lost, gained)))


def draw_counts(totals: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    """Draw ``totals`` molecules of each cell, shape (n_cells,), in proportion to ``shares`` of shape (n_cells, n_genes)."""
    return sparse.csr_matrix(rng.multinomial(np.rint(totals).astype(np.int64), to_shares(shares)))


def to_shares(expression: np.ndarray) -> np.ndarray:
    """Expression of at least 0, each row divided by its sum, in float64: numpy draws from no row that sums to more than 1."""
    expression = np.asarray(expression, dtype=np.float64)
    return expression / expression.sum(axis=1, keepdims=True)


def _lost(counts: sparse.csr_matrix, kept: sparse.csr_matrix) -> np.ndarray:
    """Molecules of each cell that leave."""
    return np.maximum(np.asarray(counts.sum(axis=1) - kept.sum(axis=1)).ravel(), 0.0)
