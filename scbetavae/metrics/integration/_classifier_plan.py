"""Which cells a classifier learns from and which it reports on, and the accuracy of what it says with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbetavae.metrics import _held_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from scbetavae.metrics._checks import Covariate
    from scbetavae.metrics._resampling import Blocks


@dataclass(frozen=True)
class Plan:
    """Splits of the cells for one covariate. Codes before and after a change share it, so that they can be compared."""

    values: np.ndarray
    """Class index or number of every cell, arbitrary where it takes no part."""
    n_classes: int
    """0 for a numeric covariate."""
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Cells to learn from, and cells to report on."""
    problem: str = ""
    """Why there is nothing to report."""

    @property
    def reported(self) -> np.ndarray:
        """Cells that are reported on, in the order of predictions."""
        return np.concatenate([query for _, query in self.splits]) if self.splits else np.zeros(0, dtype=np.int64)

    def predict(self, codes: np.ndarray, predictor: Callable[..., np.ndarray]) -> np.ndarray:
        """Predictions of the reported cells by ``predictor(codes, values, codes of the queries, n_classes)``."""
        parts = [
            predictor(codes[learn], self.values[learn], codes[query], self.n_classes) for learn, query in self.splits
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def accuracy(self, predicted: np.ndarray) -> float:
        """Accuracy of predictions; NaN if there is a problem."""
        cells = self.reported
        if self.problem:
            return float("nan")
        return _held_out.accuracy(predicted, _held_out.Target(cells, self.values[cells], self.n_classes, ""))

    def replicates(self, predicted: np.ndarray, blocks: Blocks) -> np.ndarray:
        """Accuracy over resampled blocks of cells or donors, (n_bootstrap,)."""
        cells = self.reported
        if self.problem:
            return np.full(len(blocks.weights), np.nan)
        of_cell, aim = blocks.index[cells], self.values[cells]
        if self.n_classes:
            columns = np.zeros((blocks.n_blocks, 2, self.n_classes))
            np.add.at(columns, (of_cell, 0, aim), predicted == aim)
            np.add.at(columns, (of_cell, 1, aim), 1)
            hits, sizes = np.moveaxis(np.tensordot(blocks.weights, columns, axes=1), 1, 0)
            # A replicate that lacks a class says nothing about it, rather than that its recall is 0.
            recall = np.where(sizes > 0, hits / np.maximum(sizes, 1), np.nan)
            mean, chance = np.nanmean(recall, axis=1), 1 / self.n_classes
            return (mean - chance) / (1 - chance)
        aim, guess = aim - aim.mean(), predicted - predicted.mean()
        columns = (np.ones(len(aim)), aim, guess, aim**2, guess**2, aim * guess)
        sums = np.stack([np.bincount(of_cell, weights=column, minlength=blocks.n_blocks) for column in columns])
        n, aims, guesses, aim_squares, guess_squares, products = sums @ blocks.weights.T
        n = np.maximum(n, 1)
        return _held_out.signed_square(
            products - aims * guesses / n, guess_squares - guesses**2 / n, aim_squares - aims**2 / n
        )


def make_plan(
    covariate: Covariate,
    groups: np.ndarray | None,
    test: ArrayLike | None,
    seed: int,
    most_queries: int | None = None,
    most_references: int | None = None,
) -> Plan:
    """Splits for a covariate: those of `test`, or four folds; whole donors if `groups` are given.

    With both, the tested cells are told from all cells of other donors.
    """
    n_cells = len(covariate.present)
    mask = None if test is None else _check_test(test, n_cells)
    target = _held_out.make_target(covariate)
    if mask is not None and not target.problem:
        target = _in_both(target, mask)
    values = np.zeros(n_cells, dtype=target.values.dtype)
    values[target.keep] = target.values
    if target.problem:
        return Plan(values, target.n_classes, (), target.problem)
    if mask is None or groups is not None:
        fold = _held_out.split_folds(target, groups, seed)
        if fold.max() < 1:
            return Plan(values, target.n_classes, (), "one fold of donors")
        tested = target.keep if mask is None else target.keep[mask[target.keep]]
        # Drawn before they are split: a fold keeps its share.
        queries = np.isin(target.keep, _draw(tested, target, most_queries, seed))
        splits = [(target.keep[fold != i], target.keep[(fold == i) & queries]) for i in range(fold.max() + 1)]
    else:
        tested = mask[target.keep]
        splits = [(target.keep[~tested], _draw(target.keep[tested], target, most_queries, seed))]
    drawn = ((_draw(learn, target, most_references, seed + 1), query) for learn, query in splits)
    return Plan(values, target.n_classes, tuple((learn, query) for learn, query in drawn if len(query) and len(learn)))


def _check_test(test: ArrayLike, n_cells: int) -> np.ndarray:
    mask = np.asarray(test)
    if mask.dtype != bool or mask.shape != (n_cells,):
        msg = (
            f"`test` must be a boolean mask with a value for each of the {n_cells} cells, "
            f"but it has dtype {mask.dtype} and shape {mask.shape}."
        )
        raise ValueError(msg)
    if mask.all() or not mask.any():
        msg = f"`test` holds {'all' if mask.all() else 'no'} cells. Leave cells to learn from and cells to report on."
        raise ValueError(msg)
    return mask


def _in_both(target: _held_out.Target, mask: np.ndarray) -> _held_out.Target:
    """The classes that are among the tested cells and among the others."""
    tested = mask[target.keep]
    if not target.n_classes:
        aim = target.values[tested]
        enough = min(tested.sum(), (~tested).sum()) >= 2 and np.ptp(aim) > 0
        return target if enough else _held_out.Target(target.keep, target.values, 0, "too few cells to test")
    counts = [np.bincount(target.values[part], minlength=target.n_classes) for part in (tested, ~tested)]
    keep = (np.minimum(*counts) > 0)[target.values]
    observed, labels = np.unique(target.values[keep], return_inverse=True)
    problem = "fewer than two classes to test" if len(observed) < 2 else ""
    return _held_out.Target(target.keep[keep], labels.reshape(-1), len(observed), problem)


def _draw(cells: np.ndarray, target: _held_out.Target, most: int | None, seed: int) -> np.ndarray:
    """At most `most` of the cells, as many of each class as there are, in their order."""
    if most is None or len(cells) <= most:
        return cells
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(cells)
    if target.n_classes:
        labels = target.values[np.searchsorted(target.keep, shuffled)]
        order = np.argsort(labels, kind="stable")
        size = np.bincount(labels, minlength=target.n_classes)
        rank = np.empty(len(shuffled), dtype=np.int64)
        rank[order] = np.arange(len(shuffled)) - np.repeat(np.cumsum(size) - size, size)
        shuffled = shuffled[np.argsort(rank, kind="stable")]
    return np.sort(shuffled[:most])
