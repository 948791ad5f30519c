"""Accuracy, null and interval of linear predictions from each feature, from all, and from technical covariates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from scbetavae.metrics import _held_out
from scbetavae.metrics._contingency import count_tables
from scbetavae.metrics._resampling import Blocks
from scbetavae.metrics.disentanglement._score_models import _bootstrap_accuracy
from scbetavae.metrics.prediction import _linear_predictions
from scbetavae.metrics.prediction._linear_predictions import FoldSums, Task


@dataclass(frozen=True)
class Predictors:
    """Features as rows, ready to predict."""

    rows: np.ndarray
    """Active dimensions."""
    technical_covariates: np.ndarray | None
    task: Task
    blocks: Blocks

    def evaluate(self, n_permutations: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The columns of numbers, with a value for each active dimension, for all, and for the technical covariates."""
        each, together = self._predict(self.task)
        predicted = np.stack([*each, *(_linear_predictions.read_scores(scores, self.task) for scores in together)])
        values = _linear_predictions.accuracies(predicted, self.task)
        replicates = np.stack([self._replicates(row) for row in predicted])
        areas = [self._area(self.rows[i : i + 1]) for i in range(len(self.rows))]
        areas += [_linear_predictions.area(scores, self.task) for scores in together]
        null = np.array([self._accuracies(self.task.permuted(rng)) for _ in range(n_permutations)])
        numbers = {"accuracy": values, "auroc": np.array(areas)}
        numbers |= _compare(values, null.reshape(n_permutations, len(values)), len(each))
        numbers["ci_low"], numbers["ci_high"] = self._interval(values, replicates, -1.0)
        beyond, beyond_replicates = self._beyond(values[-1], replicates[-1])
        numbers["beyond_technical"] = beyond
        numbers["beyond_low"], numbers["beyond_high"] = self._interval(beyond, beyond_replicates, -2.0)
        return numbers

    def _predict(self, task: Task) -> tuple[np.ndarray, list[np.ndarray]]:
        """Predictions from each dimension (n_dims, n_cells), and scores from all of them and from the technical covariates."""
        sums = FoldSums(self.rows, task)
        nothing = np.zeros((0, self.rows.shape[1]))
        aside = FoldSums(nothing if self.technical_covariates is None else self.technical_covariates, task)
        return _linear_predictions.predict_each(sums), [
            _linear_predictions.joint_scores(part) for part in (sums, aside)
        ]

    def _accuracies(self, task: Task) -> np.ndarray:
        each, together = self._predict(task)
        return _linear_predictions.accuracies(
            np.stack([*each, *(_linear_predictions.read_scores(scores, task) for scores in together)]), task
        )

    def _area(self, rows: np.ndarray) -> float:
        if not self.task.target.n_classes:  # spares the fit
            return float("nan")
        return _linear_predictions.area(_linear_predictions.joint_scores(FoldSums(rows, self.task)), self.task)

    def _replicates(self, predicted: np.ndarray) -> np.ndarray:
        """Accuracy over resampled blocks; NaN where a class was not drawn."""
        target = self.task.target
        replicates = _bootstrap_accuracy(_Fit(target, predicted), self.blocks)
        if target.n_classes and self.blocks.n_blocks:
            replicates = np.where(self._complete, replicates, np.nan)
        return replicates

    @cached_property
    def _complete(self) -> np.ndarray:
        """Which replicates hold cells of every class, (n_bootstrap,)."""
        target = self.task.target
        (sizes,) = count_tables(self.blocks.index[None], target.values, self.blocks.n_blocks, target.n_classes)[0]
        return (self.blocks.weights @ sizes > 0).all(axis=1)

    def _beyond(self, technical_accuracy: float, technical_replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy that each dimension, and all, add to technical covariates (or to chance, if higher)."""
        n_rows = len(self.rows) + 2
        beyond, replicates = np.full(n_rows, np.nan), np.full((n_rows, len(technical_replicates)), np.nan)
        if self.technical_covariates is None:
            return beyond, replicates
        if technical_accuracy <= 0:  # otherwise whatever undoes a bad guess would count as knowledge
            technical_accuracy, technical_replicates = 0.0, np.zeros_like(technical_replicates)
        added = [*(self.rows[i : i + 1] for i in range(len(self.rows))), self.rows]
        for i, rows in enumerate(added):
            scores = _linear_predictions.joint_scores(
                FoldSums(np.concatenate([self.technical_covariates, rows]), self.task)
            )
            predicted = _linear_predictions.read_scores(scores, self.task)
            beyond[i] = _linear_predictions.accuracies(predicted[None], self.task)[0] - technical_accuracy
            replicates[i] = self._replicates(predicted) - technical_replicates
        return beyond, replicates

    def _interval(self, values: np.ndarray, replicates: np.ndarray, lowest: float) -> tuple[np.ndarray, np.ndarray]:
        """Value ± t · standard error, as in `score_frame`."""
        known = ~np.isnan(replicates)
        n_known = known.sum(axis=1)
        enough = (n_known >= 2) & (2 * n_known >= replicates.shape[1])
        mean = np.where(known, replicates, 0.0).sum(axis=1) / np.maximum(n_known, 1)
        squares = np.where(known, (replicates - mean[:, None]) ** 2, 0.0).sum(axis=1)
        error = np.where(enough, np.sqrt(squares / np.maximum(n_known - 1, 1)), np.nan)
        reach = stats.t.ppf(0.975, max(self.blocks.n_blocks - 1, 1)) * error
        return np.maximum(values - reach, lowest), np.minimum(values + reach, 1.0)


@dataclass(frozen=True)
class _Fit:
    """Held-out predictions, as the bootstrap of `score_frame` takes them."""

    target: _held_out.Target
    predicted: np.ndarray


def _compare(values: np.ndarray, null: np.ndarray, n_dims: int) -> dict[str, np.ndarray]:
    """Null and p-values from accuracies for permuted labels (n_permutations, n_rows), of which ``n_dims`` are dimensions."""
    names = ("null", "null_low", "null_high", "p_value", "p_adjusted")
    n_permutations = len(null)
    if n_permutations == 0:
        return {name: np.full(len(values), np.nan) for name in names}
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    reached = values - 1e-12
    p_value = (1 + (null >= reached).sum(axis=0)) / (1 + n_permutations)
    p_adjusted = p_value.copy()
    if n_dims:
        largest = null[:, :n_dims].max(axis=1)
        p_adjusted[:n_dims] = (1 + (largest[:, None] >= reached[:n_dims]).sum(axis=0)) / (1 + n_permutations)
    return dict(zip(names, (null.mean(axis=0), low, high, p_value, p_adjusted), strict=True))
