"""Rules that choose batch dimensions on half of the cells: the information of each dimension, and accuracies without some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from scbetavae._core.constants import CONSERVED_SHARE, CONSERVED_SLACK, LEAST_GAIN
from scbetavae.metrics._binning import default_bin_count, quantile_bins
from scbetavae.metrics._checks import Covariate
from scbetavae.metrics._held_out import stratified_order
from scbetavae.metrics.integration._classifiers import classifier_accuracy, composition_accuracy
from scbetavae.metrics.integration._conditional_information import conditional_information

REPEATED_CELLS, MAXIMUM_REPEATS = 1_500, 5
"""Folds are drawn again until this many cells were predicted, or this often: a decision must not depend on one draw."""

MAXIMUM_STEP_CELLS = 5_000  # cells on which steps measure accuracies at most
_OF_BATCH = ("batch", "batch_given_conserved", "batch_p_value", "batch_p_adjusted")
_OF_CONSERVED = ("conserved_given_batch", "conserved_covariate", "conserved_p_value", "conserved_p_adjusted")
_OF_STEPS = ("batch_left", "conserved_kept", "batch_alone", "conserved_alone")
COLUMNS = ("dimension", "active", *_OF_BATCH, *_OF_CONSERVED, "rank", *_OF_STEPS, "chosen")

Reason = Literal["", "insignificant", "mixed", "conservation", "no gain", "all"]


@dataclass(frozen=True)
class Question:
    """Embedding, batch and conserved covariates of cells that have them all."""

    codes: np.ndarray
    batch: Covariate
    conserved: list[Covariate]
    active: np.ndarray
    seed: int

    @property
    def standard_error(self) -> float:
        """About that of an accuracy near 0: of a balanced accuracy of one half over all cells, scaled to an accuracy."""
        return 1 / np.sqrt(max(len(self.codes), 1))

    def subset(self, cells: np.ndarray) -> Question:
        """The same question on some of the cells."""
        conserved = [covariate.take(cells).observed() for covariate in self.conserved]
        return Question(self.codes[cells], self.batch.take(cells).observed(), conserved, self.active, self.seed)

    def keep_dimensions(self, zeroed: Sequence[int]) -> np.ndarray:
        """Active dimensions without some; a constant one if none is left."""
        mask = self.active.copy()
        mask[list(zeroed)] = False
        return self.codes[:, mask] if mask.any() else np.zeros((len(self.codes), 1))

    def accuracies(self, zeroed: Sequence[int]) -> dict[str, float]:
        """Held-out accuracy of batch (named ``""``) and of each conserved covariate in active dimensions, without some."""
        kept = self.keep_dimensions(zeroed)
        columns = {"": self.batch} | {covariate.name: covariate for covariate in self.conserved}
        seeds = range(self.seed, self.seed + int(np.clip(REPEATED_CELLS // max(len(kept), 1), 1, MAXIMUM_REPEATS)))
        return {
            name: float(np.mean([classifier_accuracy(kept, c, seed=s) for s in seeds])) for name, c in columns.items()
        }


class Choice(NamedTuple):
    """What a method decided."""

    dimensions: tuple[int, ...]
    reason: Reason
    steps: pd.DataFrame


def thin(question: Question, strata: np.ndarray) -> Question:
    """At most as many cells as the rules need, in the proportions in which they are."""
    if len(strata) <= MAXIMUM_STEP_CELLS:
        return question
    order = stratified_order(strata, question.batch.values, question.seed)
    return question.subset(np.sort(order[np.linspace(0, len(order) - 1, MAXIMUM_STEP_CELLS).astype(np.int64)]))


def empty_frame(active: np.ndarray) -> pd.DataFrame:
    """Table of dimensions about which nothing is known."""
    frame = pd.DataFrame(np.nan, index=range(len(active)), columns=list(COLUMNS))
    return frame.assign(dimension=np.arange(len(active)), active=active, conserved_covariate="", chosen=False, rank=0)


def weigh_dimensions(question: Question, strata: np.ndarray, n_permutations: int) -> pd.DataFrame:
    """Table of the information of each dimension, and the order in which they would be removed."""
    rng = np.random.default_rng(question.seed)
    codes = question.codes[:, question.active]
    bins = quantile_bins(np.ascontiguousarray(codes.T), default_bin_count(len(codes)))
    batch, covariates = question.batch, question.conserved
    marginal, _ = conditional_information(bins, batch, np.zeros_like(strata), n_permutations, rng)
    given, p_given = conditional_information(bins, batch, strata, n_permutations, rng)
    of_each = [conditional_information(bins, c, batch.values, n_permutations, rng) for c in covariates]
    values, p_values = (np.stack(part) for part in zip(*of_each, strict=True))
    # That about one covariate, not the sum: naming a covariate twice, or at two granularities, would change the rank.
    most, columns = values.argmax(axis=0), np.arange(codes.shape[1])
    values = values[most, columns]
    # The covariate was chosen among several by its value, which its p-value pays for.
    p_conserved = np.minimum(p_values[most, columns] * len(covariates), 1.0)
    rank = np.empty(len(columns), dtype=np.int64)
    rank[np.argsort(values - given, kind="stable")] = columns + 1
    names = [covariates[i].name for i in most]
    of_batch = (np.maximum(marginal, 0.0), np.maximum(given, 0.0), p_given, stats.false_discovery_control(p_given))
    of_conserved = (np.maximum(values, 0.0), names, p_conserved, stats.false_discovery_control(p_conserved))
    frame = empty_frame(question.active)
    for name, column in zip((*_OF_BATCH, *_OF_CONSERVED, "rank"), (*of_batch, *of_conserved, rank), strict=True):
        frame.loc[question.active, name] = column
    return frame


def stepwise(question: Question, frame: pd.DataFrame, fdr: float) -> Choice:
    """Backward elimination in order of rank, while every conserved covariate keeps its share and batch still falls."""
    order = _candidates(frame, fdr)
    expected = composition_accuracy(question.batch, question.conserved, seed=question.seed)
    expected = max(float(np.nan_to_num(expected)), 0.0)
    gain, mixed = (max(LEAST_GAIN, n * question.standard_error) for n in (1, 2))
    accuracies = [question.accuracies(())]
    needed = {
        name: min(CONSERVED_SHARE * accuracy, accuracy - CONSERVED_SLACK)
        for name, accuracy in accuracies[0].items()
        if name and accuracy > 2 * question.standard_error
    }
    stopped = ""
    for n_zeroed in range(1, len(order) + 1):
        if accuracies[-1][""] <= expected + mixed:
            break
        if n_zeroed == int(question.active.sum()):
            stopped = "all"
            break
        accuracies.append(question.accuracies(order[:n_zeroed]))
        if not all(accuracies[-1][name] >= needed[name] for name in needed):
            stopped = "conservation"
            break
    steps = steps_frame(question, order, accuracies)
    allowed = accuracies[:-1] if stopped == "conservation" else accuracies
    left = np.array([max(step[""], expected) for step in allowed])
    # The fewest that do as well as any: what comes after them takes no more batch away.
    n_chosen = int(np.flatnonzero(left <= left.min() + gain)[0])
    if n_chosen:
        return Choice(tuple(order[:n_chosen]), "", steps)
    if left[0] <= expected + mixed:
        return Choice((), "mixed", steps)
    return Choice((), "insignificant" if not order else stopped if len(allowed) == 1 else "no gain", steps)


def dominant(question: Question, frame: pd.DataFrame, fdr: float) -> tuple[Choice, pd.DataFrame]:
    """Every dimension that, alone, predicts batch better than any conserved covariate; and the frame with these accuracies."""
    frame = frame.copy()
    others = np.arange(len(frame))
    for dimension in np.flatnonzero(frame["active"]):
        alone = question.accuracies(np.delete(others, dimension).tolist())
        frame.loc[dimension, "batch_alone"] = alone.pop("")
        frame.loc[dimension, "conserved_alone"] = np.nanmax([0.0, *alone.values()])
    order = _candidates(frame, fdr)
    dominated = frame["batch_alone"] > frame["conserved_alone"].clip(lower=LEAST_GAIN)
    chosen = [dimension for dimension in order if dominated.iloc[dimension]]
    reason = "insignificant" if not order else "" if chosen else "no gain"
    if len(chosen) == int(frame["active"].sum()):
        chosen, reason = [], "all"
    return Choice(tuple(chosen), reason, steps_frame(question, (), [question.accuracies(())])), frame


def add_steps(frame: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Enter what was chosen, and the accuracies at the step of each dimension."""
    frame = frame.copy()
    steps = choice.steps[choice.steps["n_zeroed"] > 0]
    for dimension, step in steps.groupby("dimension"):
        frame.loc[dimension, "batch_left"] = step.loc[step["role"] == "batch", "accuracy"].item()
        frame.loc[dimension, "conserved_kept"] = step.loc[step["role"] == "conserved", "kept"].min()
    frame["chosen"] = frame["dimension"].isin(choice.dimensions)
    return frame


def _candidates(frame: pd.DataFrame, fdr: float) -> list[int]:
    """Dimensions with batch that the conserved covariates do not explain, in order of rank."""
    significant = frame[frame["active"] & (frame["batch_p_adjusted"] <= fdr)]
    return [int(dimension) for dimension in significant.sort_values("rank")["dimension"]]


def steps_frame(question: Question, order: Sequence[int], accuracies: list[dict[str, float]]) -> pd.DataFrame:
    """One row per step and covariate."""
    rows = []
    for n_zeroed, step in enumerate(accuracies):
        dimension = order[n_zeroed - 1] if n_zeroed else -1
        for name, accuracy in step.items():
            before, role = accuracies[0][name], "conserved" if name else "batch"
            kept = accuracy / before if before > 2 * question.standard_error else np.nan
            rows.append((n_zeroed, dimension, name or str(question.batch.name), role, accuracy, kept))
    columns = ["n_zeroed", "dimension", "covariate", "role", "accuracy", "kept"]
    return pd.DataFrame(rows, columns=columns).astype({"accuracy": np.float64, "kept": np.float64})
