"""Accuracy, null and interval of linear predictions from each feature, from all, and from technical covariates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scbetavae.metrics._held_out import accuracies, bootstrap_accuracy
from scbetavae.metrics._resampling import Blocks, permutation_p_value, standard_error, t_interval
from scbetavae.metrics.prediction import _linear_predictions
from scbetavae.metrics.prediction._linear_predictions import FoldSums, Task

NUMBERS = (
    "accuracy",
    "null",
    "null_low",
    "null_high",
    "p_value",
    "p_adjusted",
    "ci_low",
    "ci_high",
    "auroc",
    "beyond_technical",
    "beyond_low",
    "beyond_high",
)


@dataclass(frozen=True)
class Predictors:
    """Features as rows, ready to predict."""

    rows: np.ndarray
    """Active dimensions."""
    technical_covariates: np.ndarray | None
    task: Task
    blocks: Blocks

    def evaluate(self, n_permutations: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`NUMBERS`, with a value for each active dimension, for all, and for the technical covariates."""
        predicted, together = self._predict(self.task)
        values, replicates = accuracies(predicted, self.task.target), self._replicates(predicted)
        areas = [self._area(self.rows[i : i + 1]) for i in range(len(self.rows))]
        areas += [_linear_predictions.area(scores, self.task) for scores in together]
        drawn = (self.task.permuted(rng) for _ in range(n_permutations))
        null = np.array([accuracies(self._predict(task)[0], task.target) for task in drawn])
        numbers = {"accuracy": values, "auroc": np.array(areas)}
        numbers |= _compare(values, null.reshape(n_permutations, len(values)), len(self.rows))
        numbers["ci_low"], numbers["ci_high"] = self._interval(values, replicates, -1.0)
        beyond, beyond_replicates = self._beyond(values[-1], replicates[-1])
        numbers["beyond_technical"] = beyond
        numbers["beyond_low"], numbers["beyond_high"] = self._interval(beyond, beyond_replicates, -2.0)
        return numbers

    def _predict(self, task: Task) -> tuple[np.ndarray, list[np.ndarray]]:
        """Predictions (n_rows, n_cells), and the scores behind the last two, from all dimensions and technical covariates."""
        sums = FoldSums(self.rows, task)
        nothing = np.zeros((0, self.rows.shape[1]))
        technical = FoldSums(nothing if self.technical_covariates is None else self.technical_covariates, task)
        together = [_linear_predictions.joint_scores(part) for part in (sums, technical)]
        read = [_linear_predictions.read_scores(scores, task) for scores in together]
        return np.stack([*_linear_predictions.predict_each(sums), *read]), together

    def _area(self, rows: np.ndarray) -> float:
        if not self.task.target.n_classes:  # spares the fit
            return float("nan")
        return _linear_predictions.area(_linear_predictions.joint_scores(FoldSums(rows, self.task)), self.task)

    def _replicates(self, predicted: np.ndarray) -> np.ndarray:
        """Accuracy of every row of predictions over resampled blocks; NaN where a class was not drawn."""
        target = self.task.target
        return np.stack([bootstrap_accuracy(row, target, self.blocks, complete=True) for row in predicted])

    def _beyond(self, technical_accuracy: float, technical_replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy that each dimension, and all, add to technical covariates (or to chance, if higher)."""
        n_rows = len(self.rows) + 2
        beyond, replicates = np.full(n_rows, np.nan), np.full((n_rows, len(technical_replicates)), np.nan)
        if self.technical_covariates is None:
            return beyond, replicates
        if technical_accuracy <= 0:  # otherwise undoing a bad guess would count as knowledge
            technical_accuracy, technical_replicates = 0.0, np.zeros_like(technical_replicates)
        for i, rows in enumerate([*self.rows[:, None], self.rows]):
            sums = FoldSums(np.concatenate([self.technical_covariates, rows]), self.task)
            predicted = _linear_predictions.read_scores(_linear_predictions.joint_scores(sums), self.task)[None]
            beyond[i] = accuracies(predicted, self.task.target)[0] - technical_accuracy
            replicates[i] = self._replicates(predicted)[0] - technical_replicates
        return beyond, replicates

    def _interval(self, values: np.ndarray, replicates: np.ndarray, lowest: float) -> tuple[np.ndarray, np.ndarray]:
        return t_interval(values, standard_error(replicates), self.blocks.n_blocks, lowest, 1.0)


def _compare(values: np.ndarray, null: np.ndarray, n_dims: int) -> dict[str, np.ndarray]:
    """Null and p-values from accuracies for permuted labels (n_permutations, n_rows), of which ``n_dims`` are dimensions."""
    names = NUMBERS[1:6]
    if len(null) == 0:
        return {name: np.full(len(values), np.nan) for name in names}
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    p_value = permutation_p_value(values, null)
    p_adjusted = p_value.copy()
    if n_dims:
        p_adjusted[:n_dims] = permutation_p_value(values[:n_dims], null[:, :n_dims].max(axis=1)[:, None])
    return dict(zip(names, (null.mean(axis=0), low, high, p_value, p_adjusted), strict=True))
