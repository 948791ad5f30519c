r"""Held-out predictions of linear models in closed form, so that every permutation can fit them anew.

Predictions that were made once and compared with permuted labels would call twice as many dimensions significant as
they should: what is learned from three folds is evaluated on the fourth and the other way round, so that chance has the same
sign everywhere. Fitting again avoids this, and is cheap because nothing is needed but sums over folds.

Classes: the linear discriminant with equal prior for every class. With :math:`m_c` the mean of class c, :math:`m` that of all,
and :math:`W` the covariance within classes, a cell goes to the class with the largest

.. math:: (x - m)^\top W^{-1} (m_c - m) - \tfrac12 (m_c - m)^\top W^{-1} (m_c - m),

which in one dimension is the class with the nearest mean. Numbers: ridge regression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import special, stats

from scbetavae.metrics._held_out import Target, accuracies, bootstrap_accuracy, mean_area
from scbetavae.metrics._resampling import Blocks, constant_within, permutation_p_value, standard_error, t_interval

_NULL = ("null", "null_low", "null_high", "p_value", "p_adjusted")
NUMBERS = ("accuracy", *_NULL, "ci_low", "ci_high", "auroc", "beyond_technical", "beyond_low", "beyond_high")

RIDGE = 1e-3
"""Added to variances, in units of the squared standard deviation of a feature: copies of a dimension do no harm."""


@dataclass(frozen=True)
class Task:
    """What is predicted and which cells are held out together."""

    target: Target  # its `keep` counts the cells at hand: 0, 1, 2 ...
    fold: np.ndarray
    members: np.ndarray | None  # donor of every cell; ``None`` without donors, and where the covariate names them

    def permuted(self, rng: np.random.Generator) -> Task:
        """The same task for permuted labels, each with its fold, so that folds stay as evenly filled.

        Labels that are constant within donors are permuted between donors, others between the cells of a donor.
        """
        n_cells = len(self.fold)
        if self.members is None:
            index = rng.permutation(n_cells)
        elif self.constant_within_donors:
            representative = np.unique(self.members, return_index=True)[1]
            index = rng.permutation(representative)[self.members]
        else:
            index = np.empty(n_cells, dtype=np.int64)
            index[np.argsort(self.members, kind="stable")] = np.lexsort((rng.random(n_cells), self.members))
        return Task(replace(self.target, values=self.target.values[index]), self.fold[index], self.members)

    @cached_property
    def constant_within_donors(self) -> bool:
        """Whether every donor has one value."""
        values, classes = self.target.values, self.target.n_classes > 0
        return self.members is not None and constant_within(values, self.members, classes=classes) is not None


def standardize(columns: np.ndarray) -> np.ndarray:
    """Features as rows (n_features, n_cells), with mean 0 and standard deviation 1 (or 0, if constant)."""
    rows = np.ascontiguousarray(columns.T, dtype=np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True)
    # Scaled first: squares of very large values overflow, those of very small ones underflow.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    rows /= np.where(largest > 0, largest, 1.0)
    spread = rows.std(axis=1, keepdims=True)
    return rows / np.where(spread > 0, spread, 1.0)


def predict_each(sums: FoldSums) -> np.ndarray:
    """Held-out predictions from every feature alone, (n_features, n_cells): class indices or numbers."""
    n_classes = sums.n_classes
    predicted = np.zeros(sums.rows.shape, dtype=np.int64 if n_classes else np.float64)
    for test, train in sums.splits():
        values = sums.rows[:, test]
        if not n_classes:
            center, (slope,) = train.mean, train.differences / (np.diagonal(train.covariance) + RIDGE)
            predicted[:, sums.order[test]] = slope[:, None] * (values - center[:, None]) + train.aim
            continue
        # The nearest of several means, by counting the midpoints between neighbors that a cell lies above.
        means = np.where(train.counts[:, None] > 0, train.mean + train.differences, np.inf).T
        classes = means.argsort(axis=1, kind="stable")
        means = np.take_along_axis(means, classes, axis=1)
        above = np.zeros(values.shape, dtype=np.int16)
        for midpoint in ((means[:, 1:] + means[:, :-1]) / 2).T:
            above += values > midpoint[:, None]
        predicted[:, sums.order[test]] = np.take_along_axis(classes, above.astype(np.int64), axis=1)
    return predicted


def joint_scores(sums: FoldSums) -> np.ndarray:
    """Held-out discriminants (n_cells, n_classes), or predictions (n_cells, 1), from all features together."""
    n_classes, (n_features, n_cells) = sums.n_classes, sums.rows.shape
    scores = np.zeros((n_cells, max(n_classes, 1)))
    if not n_features:
        return scores
    for test, train in sums.splits():
        inverse = np.linalg.solve(train.covariance + RIDGE * np.eye(n_features), train.differences.T)
        linear = (sums.rows[:, test] - train.mean[:, None]).T @ inverse
        if n_classes:
            linear -= (train.differences * inverse.T).sum(axis=1) / 2
            linear[:, train.counts == 0] = -np.inf
        else:
            linear += train.aim
        scores[sums.order[test]] = linear
    return scores


def read_scores(scores: np.ndarray, task: Task) -> np.ndarray:
    """Predictions (n_cells,) from discriminants: the class with the largest, or the number itself."""
    return scores.argmax(axis=1) if task.target.n_classes else scores[:, 0]


def area(scores: np.ndarray, task: Task) -> float:
    """Mean one-against-rest area under the ROC curve of discriminants; NaN for numbers."""
    if not task.target.n_classes:
        return float("nan")
    total = special.logsumexp(scores, axis=1, keepdims=True)
    with np.errstate(divide="ignore"):  # a cell that is certain has infinite odds
        odds = scores - total - np.log(-np.expm1(np.minimum(scores - total, 0.0)))
    return mean_area(stats.rankdata(odds, axis=0), task.target.values, task.target.n_classes)


@dataclass(frozen=True)
class _Moments:
    """Of the training cells of one fold."""

    mean: np.ndarray
    covariance: np.ndarray  # within classes, if there are classes
    differences: np.ndarray
    """Class means less the mean (n_classes, n_features), or the covariance with the number (1, n_features)."""
    counts: np.ndarray  # cells of every class
    aim: float  # mean of the number


class FoldSums:
    """Sums over folds of standardized features (n_features, n_cells), from which the moments of all folds but one follow."""

    def __init__(self, rows: np.ndarray, task: Task):
        self.n_classes = task.target.n_classes
        self.order = np.argsort(task.fold, kind="stable")
        self.rows = rows[:, self.order]
        values = task.target.values[self.order]
        edges = np.searchsorted(task.fold[self.order], np.arange(task.fold.max() + 2))
        self._tests = [slice(start, end) for start, end in pairwise(edges)]
        self._parts = [self._of_fold(self.rows[:, test], values[test]) for test in self._tests]
        self._total = [sum(part) for part in zip(*self._parts, strict=True)]

    def splits(self) -> list[tuple[slice, _Moments]]:
        """Held-out cells, as a slice of ``order``, and the moments of the other folds."""
        return [
            (test, self._moments(*(total - own for total, own in zip(self._total, part, strict=True))))
            for test, part in zip(self._tests, self._parts, strict=True)
        ]

    def _of_fold(self, rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
        # For classes one row each, for numbers one: then the products have the same form.
        weights = values == np.arange(self.n_classes)[:, None] if self.n_classes else values[None]
        weights = weights.astype(np.float64)
        return np.array(float(len(values))), rows.sum(axis=1), rows @ rows.T, weights.sum(axis=1), weights @ rows.T

    def _moments(
        self, n: np.ndarray, first: np.ndarray, second: np.ndarray, weights: np.ndarray, products: np.ndarray
    ) -> _Moments:
        mean = first / n
        covariance = second / n - np.outer(mean, mean)
        if not self.n_classes:
            return _Moments(mean, covariance, products / n - mean * weights[0] / n, np.zeros(0), float(weights[0] / n))
        differences = products / np.maximum(weights, 1)[:, None] - mean
        differences[weights == 0] = 0.0
        covariance -= (differences.T * (weights / n)) @ differences
        return _Moments(mean, covariance, differences, weights, 0.0)


@dataclass(frozen=True)
class Predictors:
    """Features as rows, ready to predict."""

    rows: np.ndarray  # active dimensions
    technical: np.ndarray  # technical covariates
    task: Task
    blocks: Blocks

    def evaluate(self, n_permutations: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`NUMBERS`, with a value for each active dimension, for all, and for the technical covariates."""
        (predicted, together), n_blocks = self._predict(self.task), self.blocks.n_blocks
        values, replicates = accuracies(predicted, self.task.target), self._replicates(predicted)
        alone = [joint_scores(FoldSums(rows, self.task)) for rows in self.rows[:, None]]
        areas = [area(scores, self.task) for scores in (*alone, *together)]
        drawn = (self.task.permuted(rng) for _ in range(n_permutations))
        null = np.array([accuracies(self._predict(task)[0], task.target) for task in drawn])
        numbers = {"accuracy": values, "auroc": np.array(areas)}
        numbers |= _compare(values, null.reshape(n_permutations, len(values)), len(self.rows))
        numbers["ci_low"], numbers["ci_high"] = t_interval(values, standard_error(replicates), n_blocks, -1.0, 1.0)
        beyond, beyond_replicates = self._beyond(values[-1], replicates[-1])
        numbers["beyond_technical"] = beyond
        numbers["beyond_low"], numbers["beyond_high"] = t_interval(
            beyond, standard_error(beyond_replicates), n_blocks, -2.0, 1.0
        )
        return numbers

    def _predict(self, task: Task) -> tuple[np.ndarray, list[np.ndarray]]:
        """Predictions (n_rows, n_cells), and the scores behind the last two, from all dimensions and technical covariates."""
        sums = FoldSums(self.rows, task)
        together = [joint_scores(part) for part in (sums, FoldSums(self.technical, task))]
        read = [read_scores(scores, task) for scores in together]
        return np.stack([*predict_each(sums), *read]), together

    def _replicates(self, predicted: np.ndarray) -> np.ndarray:
        """Accuracy of every row of predictions over resampled blocks; NaN where a class was not drawn."""
        target = self.task.target
        return np.stack([bootstrap_accuracy(row, target, self.blocks, complete=True) for row in predicted])

    def _beyond(self, technical_accuracy: float, technical_replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy that each dimension, and all, add to technical covariates (or to chance, if higher)."""
        n_rows = len(self.rows) + 2
        beyond, replicates = np.full(n_rows, np.nan), np.full((n_rows, len(technical_replicates)), np.nan)
        if not len(self.technical):
            return beyond, replicates
        if technical_accuracy <= 0:  # otherwise undoing a bad guess would count as knowledge
            technical_accuracy, technical_replicates = 0.0, np.zeros_like(technical_replicates)
        for i, rows in enumerate([*self.rows[:, None], self.rows]):
            sums = FoldSums(np.concatenate([self.technical, rows]), self.task)
            predicted = read_scores(joint_scores(sums), self.task)[None]
            beyond[i] = accuracies(predicted, self.task.target)[0] - technical_accuracy
            replicates[i] = self._replicates(predicted)[0] - technical_replicates
        return beyond, replicates


def _compare(values: np.ndarray, null: np.ndarray, n_dims: int) -> dict[str, np.ndarray]:
    """Null and p-values from accuracies for permuted labels (n_permutations, n_rows), of which ``n_dims`` are dimensions."""
    if len(null) == 0:
        return {name: np.full(len(values), np.nan) for name in _NULL}
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    p_value = permutation_p_value(values, null)
    p_adjusted = p_value.copy()
    if n_dims:
        p_adjusted[:n_dims] = permutation_p_value(values[:n_dims], null[:, :n_dims].max(axis=1)[:, None])
    return dict(zip(_NULL, (null.mean(axis=0), low, high, p_value, p_adjusted), strict=True))
