"""Training and held-out cells of a classifier, and the accuracy of its predictions with its uncertainty."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from scbetavae.metrics import _held_out
from scbetavae.metrics._checks import Covariate, check_test
from scbetavae.metrics._held_out import Target
from scbetavae.metrics._resampling import Blocks


@dataclass(frozen=True)
class Plan:
    """Splits of the cells for one covariate. Embeddings before and after a change share it, so that they can be compared."""

    values: np.ndarray  # class index or number of every cell, arbitrary where it takes no part
    n_classes: int  # 0 for a numeric covariate
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]  # training cells, and cells to report on
    problem: str = ""  # why there is nothing to report

    @property
    def reported(self) -> Target:
        """Cells that are reported on, in the order of predictions."""
        cells = np.concatenate([query for _, query in self.splits]) if self.splits else np.zeros(0, dtype=np.int64)
        return Target(cells, self.values[cells], self.n_classes, self.problem)

    def predict(self, codes: np.ndarray, predictor: Callable[..., np.ndarray]) -> np.ndarray:
        """Predictions of the reported cells by ``predictor(codes, values, codes of the queries, n_classes)``."""
        parts = [
            predictor(codes[train], self.values[train], codes[query], self.n_classes) for train, query in self.splits
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def accuracy(self, predicted: np.ndarray) -> float:
        """Accuracy of predictions; NaN if there is a problem."""
        return float("nan") if self.problem else _held_out.accuracy(predicted, self.reported)

    def replicates(self, predicted: np.ndarray, blocks: Blocks) -> np.ndarray:
        """Accuracy over resampled blocks of cells or donors, (n_bootstrap,)."""
        if self.problem:
            return np.full(len(blocks.weights), np.nan)
        return _held_out.bootstrap_accuracy(predicted, self.reported, blocks)


def make_plan(
    covariate: Covariate,
    groups: np.ndarray | None,
    test: ArrayLike | None,
    seed: int,
    most_queries: int | None = None,
    most_references: int | None = None,
) -> Plan:
    """Splits for a covariate: those of `test`, or four folds; with `groups`, tested cells are predicted from other donors."""
    n_cells = len(covariate.present)
    mask = None if test is None else check_test(test, n_cells)
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
    drawn = ((_draw(train, target, most_references, seed + 1), query) for train, query in splits)
    return Plan(values, target.n_classes, tuple((train, query) for train, query in drawn if len(query) and len(train)))


def _in_both(target: Target, mask: np.ndarray) -> Target:
    """The classes that are among the tested cells and among the others."""
    tested = mask[target.keep]
    if not target.n_classes:
        enough = min(tested.sum(), (~tested).sum()) >= 2 and np.ptp(target.values[tested]) > 0
        return target if enough else replace(target, problem="too few cells to test")
    counts = [np.bincount(target.values[part], minlength=target.n_classes) for part in (tested, ~tested)]
    keep = (np.minimum(*counts) > 0)[target.values]
    observed, labels = np.unique(target.values[keep], return_inverse=True)
    problem = "fewer than two classes to test" if len(observed) < 2 else ""
    return Target(target.keep[keep], labels.reshape(-1), len(observed), problem)


def _draw(cells: np.ndarray, target: Target, most: int | None, seed: int) -> np.ndarray:
    """At most `most` of the cells, as many of each class as there are, in their order."""
    if most is None or len(cells) <= most:
        return cells
    shuffled = np.random.default_rng(seed).permutation(cells)
    if target.n_classes:
        labels = target.values[np.searchsorted(target.keep, shuffled)]
        order = np.argsort(labels, kind="stable")
        size = np.bincount(labels, minlength=target.n_classes)
        rank = np.empty(len(shuffled), dtype=np.int64)
        rank[order] = np.arange(len(shuffled)) - np.repeat(np.cumsum(size) - size, size)
        shuffled = shuffled[np.argsort(rank, kind="stable")]
    return np.sort(shuffled[:most])
