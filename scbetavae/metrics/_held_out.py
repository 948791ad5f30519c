"""Predictions of a covariate on cells that the model did not see, and their accuracy against permuted labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbetavae.metrics._contingency import count_tables

if TYPE_CHECKING:
    from scbetavae.metrics._checks import Covariate

N_FOLDS = 4
N_SKILL_PERMUTATIONS = 999


@dataclass(frozen=True)
class Target:
    """A covariate ready to be predicted: the cells that have it, and class indices or floats."""

    keep: np.ndarray
    """Indices of the cells."""
    values: np.ndarray
    n_classes: int
    """0 for a numeric covariate."""
    problem: str


def make_target(covariate: Covariate) -> Target:
    """Cells and values of a covariate; classes of a single cell cannot be held out and are left out."""
    keep = np.flatnonzero(covariate.present)
    if covariate.is_numeric:
        values = covariate.values[keep]
        constant = len(keep) == 0 or values.max() == values.min()
        problem = "fewer than 10 labeled cells" if len(keep) < 10 else "one class" if constant else ""
        return Target(keep, values, 0, problem)
    counts = np.bincount(covariate.labels[keep], minlength=len(covariate.classes))
    keep = keep[counts[covariate.labels[keep]] >= 2]
    observed, labels = np.unique(covariate.labels[keep], return_inverse=True)
    problem = "fewer than two classes of two cells" if len(observed) < 2 else ""
    if not problem and len(keep) < 10:
        problem = "fewer than 10 labeled cells"
    return Target(keep, labels.reshape(-1), len(observed), problem)


def split_folds(target: Target, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Fold of every kept cell: whole groups if given, otherwise spread evenly over classes (or ranks).

    A covariate that names the groups cannot be told for unseen groups, and is spread over its cells.
    """
    rng = np.random.default_rng(seed)
    fold = np.empty(len(target.keep), dtype=np.int64)
    if groups is not None and not (target.n_classes and names_groups(target.values, groups[target.keep])):
        index, sizes = np.unique(groups[target.keep], return_inverse=True, return_counts=True)[1:]
        n_folds = min(N_FOLDS, len(sizes))
        # Groups are dealt out by what they hold, so that a donor-level covariate is in every fold where it can be.
        mean = np.bincount(index.reshape(-1), weights=target.values.astype(float)) / sizes
        order = np.lexsort((rng.random(len(sizes)), mean))
        of_group = np.empty(len(sizes), dtype=np.int64)
        of_group[order] = np.arange(len(sizes)) % n_folds
        return of_group[index.reshape(-1)]
    order = np.lexsort((rng.random(len(fold)), target.values))
    fold[order] = np.arange(len(fold)) % N_FOLDS
    return fold


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Chance-corrected mean recall of confusion counts (..., predicted, true)."""
    size = confusion.sum(axis=-2)
    n_classes = confusion.shape[-1]
    recall = np.diagonal(confusion, axis1=-2, axis2=-1) / np.where(size > 0, size, 1.0)
    return (recall.mean(axis=-1) - 1 / n_classes) / (1 - 1 / n_classes)


def accuracy(predicted: np.ndarray, target: Target) -> float:
    """Accuracy of out-of-fold predictions: corrected balanced accuracy, or the signed squared correlation."""
    if target.n_classes:
        return float(balanced_accuracy(_confusion(predicted, target.values, target.n_classes)))
    deviation, aim = predicted - predicted.mean(), target.values - target.values.mean()
    return float(signed_square(deviation @ aim, deviation @ deviation, aim @ aim))


def signed_square(covariance: np.ndarray, variance: np.ndarray, other_variance: np.ndarray) -> np.ndarray:
    """Squared correlation with the sign of the correlation; 0 where a variance is 0."""
    product = np.maximum(variance * other_variance, 0.0)
    return np.where(product > 0, covariance * np.abs(covariance) / np.where(product > 0, product, 1.0), 0.0)


def permuted_accuracy(predicted: np.ndarray, target: Target, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Accuracy of the same predictions for permuted labels.

    Labels that are constant within groups move with their group: cells of one donor are no independent witnesses.
    """
    rng = np.random.default_rng(seed)
    members = None if groups is None else np.unique(groups[target.keep], return_inverse=True)[1].reshape(-1)
    of_group = None if members is None else constant_within(target.values, members, classes=target.n_classes > 0)
    result = np.empty(N_SKILL_PERMUTATIONS)
    for i in range(N_SKILL_PERMUTATIONS):
        values = rng.permutation(target.values) if of_group is None else rng.permutation(of_group)[members]
        permuted = Target(target.keep, values, target.n_classes, "")
        constant = not target.n_classes and values.max() == values.min()
        result[i] = 0.0 if constant else accuracy(predicted, permuted)
    return result


def constant_within(values: np.ndarray, members: np.ndarray, *, classes: bool) -> np.ndarray | None:
    """The value of every group if values do not vary within groups, else ``None``.

    Also ``None`` if every group is a class of its own (a covariate that names the donors): to exchange or to hold out
    whole groups would then test nothing. ``classes`` says that values are classes, not numbers.
    """
    first = np.zeros(members.max(initial=0) + 1, dtype=values.dtype)
    first[members] = values
    if not (first[members] == values).all() or (classes and len(np.unique(first)) == len(first)):
        return None
    return first


def names_groups(values: np.ndarray, members: np.ndarray) -> bool:
    """Every group is a class of its own, and holds one class."""
    pairs = np.unique(np.stack([values, members]), axis=1).shape[1]
    return pairs == len(np.unique(values)) == len(np.unique(members))


def _confusion(predicted: np.ndarray, true: np.ndarray, n_classes: int) -> np.ndarray:
    return count_tables(predicted[None], true, n_classes, n_classes)[0, 0]
