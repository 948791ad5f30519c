"""Bootstrap blocks, replicates and intervals; permutations of a covariate and p-values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from scbetavae.metrics import _contingency
from scbetavae.metrics._checks import take_groups

if TYPE_CHECKING:
    from scbetavae.metrics._information import LabeledCells

MAXIMUM_BLOCKS = 100
"""Blocks of cells, or of donors, that the bootstrap resamples. More make larger tables and no better intervals."""

_CHUNK = 3_000_000  # table entries held at once
_SHUFFLE_COST = 60  # a shuffled cell costs one unit, an entry of a random table about this many


class Blocks(NamedTuple):
    """What the bootstrap resamples."""

    index: np.ndarray  # block of every cell
    n_blocks: int
    weights: np.ndarray  # how often each replicate draws each block, (n_bootstrap, n_blocks)


def make_blocks(n_cells: int, groups: np.ndarray | None, n_bootstrap: int, rng: np.random.Generator) -> Blocks:
    """Donors if given, otherwise equal random blocks of cells: their totals vary as those of resampled cells do."""
    n_units = n_cells if groups is None else int(groups.max(initial=-1)) + 1
    n_blocks = min(n_units, MAXIMUM_BLOCKS)
    if n_blocks == 0:
        return Blocks(np.zeros(n_cells, dtype=np.int64), 0, np.zeros((n_bootstrap, 0)))
    of_unit = np.arange(n_units) if n_units == n_blocks else rng.permutation(n_units) % n_blocks
    index = of_unit if groups is None else of_unit[groups]
    weights = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n_bootstrap).astype(np.float64)
    return Blocks(index, n_blocks, weights)


def resampled_cells(blocks: Blocks, keep: np.ndarray) -> Iterator[np.ndarray]:
    """Positions, among the kept cells, of those that each replicate draws."""
    of_cell = blocks.index[keep]
    return (np.repeat(np.arange(len(of_cell)), drawn[of_cell]) for drawn in blocks.weights.astype(np.int64))


def bootstrap_tables(tables: np.ndarray, weights: np.ndarray) -> Iterator[np.ndarray]:
    """Tables of the replicates, some at a time, from block tables (n_blocks, n_dims, n_bins, n_classes)."""
    flat = tables.reshape(len(tables), -1)
    for part in _chunks(len(weights), flat.shape[1]):
        yield (weights[part] @ flat).reshape(-1, *tables.shape[1:])


def standard_error(replicates: np.ndarray) -> np.ndarray:
    """Standard deviation along the last axis; NaN where fewer than two, or fewer than half, of the replicates are known."""
    known = ~np.isnan(replicates)
    n_known = known.sum(axis=-1)
    enough = (n_known >= 2) & (2 * n_known >= replicates.shape[-1])
    mean = np.where(known, replicates, 0.0).sum(axis=-1) / np.maximum(n_known, 1)
    squares = np.where(known, (replicates - mean[..., None]) ** 2, 0.0).sum(axis=-1)
    return np.where(enough, np.sqrt(squares / np.maximum(n_known - 1, 1)), np.nan)


def t_interval(
    values: ArrayLike, errors: np.ndarray, n_blocks: int, lowest: float, highest: float
) -> tuple[np.ndarray, np.ndarray]:
    """95% interval value ± t · standard error, with one degree of freedom less than there are blocks, cut to the range."""
    reach = stats.t.ppf(0.975, max(n_blocks - 1, 1)) * errors
    values = np.asarray(values)
    low, high = np.maximum(values - reach, lowest), np.minimum(values + reach, highest)
    return np.minimum(low, values), np.maximum(high, values)


def permutation_p_value(values: ArrayLike, null: np.ndarray) -> np.ndarray:
    """(1 + k) / (1 + n), where k of n rows of ``null`` are at least ``values``: the data count as one permutation."""
    return (1 + (null >= np.asarray(values) - 1e-12).sum(axis=0)) / (1 + len(null))


def constant_within(values: np.ndarray, members: np.ndarray, *, classes: bool) -> np.ndarray | None:
    """Value of every group if it has one, else ``None``; also ``None`` if classes name the groups: none could be exchanged."""
    first = np.zeros(members.max(initial=0) + 1, dtype=values.dtype)
    first[members] = values
    if not (first[members] == values).all() or (classes and len(np.unique(first)) == len(first)):
        return None
    return first


def permute_values(
    values: np.ndarray, members: np.ndarray | None, rng: np.random.Generator, *, classes: bool
) -> np.ndarray:
    """Values permuted over cells, or over groups where they are constant within groups."""
    of_group = None if members is None else constant_within(values, members, classes=classes)
    return rng.permutation(values) if members is None or of_group is None else rng.permutation(of_group)[members]


def permuted_tables(
    cells: LabeledCells, groups: np.ndarray | None, n_permutations: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Fine tables of permuted labels, some at a time; by group where constant within groups (unless it names them)."""
    # Margins stay as they are, and the cheaper of two exact ways is taken: shuffled labels, or random tables.
    size = cells.n_bins * len(cells.classes)
    members = take_groups(groups, cells.keep)
    classes = not cells.covariate.is_numeric
    of_group = None if members is None else constant_within(cells.labels, members, classes=classes)
    for part in _chunks(n_permutations, len(cells.bins) * size):
        n = len(range(*part.indices(n_permutations)))
        if members is not None and of_group is not None:
            labels = np.stack([rng.permutation(of_group) for _ in range(n)])
            one_hot = (labels[:, None, :] == np.arange(len(cells.classes))[:, None]).astype(np.float64)
            by_group = _contingency.count_tables(
                cells.bins, np.zeros_like(cells.labels), cells.n_bins, 1, blocks=members, n_blocks=len(of_group)
            )
            tables = one_hot @ by_group.reshape(len(of_group), -1)
            yield np.moveaxis(tables.reshape(n, len(cells.classes), len(cells.bins), cells.n_bins), 1, -1)
        elif cells.n_cells < _SHUFFLE_COST * size:
            yield np.concatenate([cells.tables(rng.permutation(cells.labels)) for _ in range(n)])
        else:
            yield _random_tables(cells, n, rng)


def _random_tables(cells: LabeledCells, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random tables with the margins of the observed ones."""
    tables = np.empty((n, len(cells.bins), cells.n_bins, len(cells.classes)))
    columns = np.bincount(cells.labels, minlength=len(cells.classes))
    margins = np.stack([np.bincount(of_cell, minlength=cells.n_bins) for of_cell in cells.bins])
    # Without ties all dimensions have the same margins, and one call serves them all.
    distinct, kind = np.unique(margins, axis=0, return_inverse=True)
    for i, rows in enumerate(distinct):
        dimensions = np.flatnonzero(kind.reshape(-1) == i)
        used = rows > 0
        drawn = stats.random_table.rvs(rows[used], columns, size=n * len(dimensions), random_state=rng)
        full = np.zeros((n, len(dimensions), len(rows), len(columns)))
        full[:, :, used] = drawn.reshape(n, len(dimensions), -1, len(columns))
        tables[:, dimensions] = full
    return tables


def _chunks(n: int, entries: int) -> Iterator[slice]:
    step = max(_CHUNK // max(entries, 1), 1)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
