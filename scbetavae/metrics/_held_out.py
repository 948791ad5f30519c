"""Cells held out to evaluate predictions, and the accuracy of predictions: its value, its null, its bootstrap replicates."""

from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np

from scbetavae.metrics._checks import Covariate, take_groups
from scbetavae.metrics._resampling import Blocks, permute_values

N_FOLDS = 4
N_PERMUTATIONS = 999

ALL = (np.inf, np.inf)  # no limit of the cells that are predicted, and of those that are learned from
MINIMUM_LABELED = 10  # cells with a label that a prediction needs


@dataclass(frozen=True)
class Target:
    """A covariate ready to be predicted."""

    keep: np.ndarray  # indices of the cells that have it
    values: np.ndarray  # class indices or floats of these cells
    n_classes: int  # 0 for a numeric covariate
    problem: str = ""  # why it cannot be predicted


def make_target(covariate: Covariate, tested: np.ndarray | None = None) -> Target:
    """Cells and values of a covariate, without classes that cannot be held out: of one cell, or not on both sides of a mask."""
    keep = np.flatnonzero(covariate.present)
    few = f"fewer than {MINIMUM_LABELED} labeled cells" if len(keep) < MINIMUM_LABELED else ""
    values = covariate.values[keep]
    if covariate.is_numeric:
        problem = few or ("" if values.max() > values.min() else "one class")
        if tested is not None and not problem:
            on_test = tested[keep]
            enough = min(on_test.sum(), (~on_test).sum()) >= 2 and np.ptp(values[on_test]) > 0
            problem = "" if enough else "too few cells to test"
        return Target(keep, values, 0, problem)
    alone = np.bincount(values, minlength=len(covariate.classes)) < 2
    keep = keep[~alone[values]]
    few = f"fewer than {MINIMUM_LABELED} labeled cells" if len(keep) < MINIMUM_LABELED else ""
    observed, values = np.unique(covariate.values[keep], return_inverse=True)
    problem = "fewer than two classes of two cells" if len(observed) < 2 else few
    if tested is not None and not problem:
        sizes = [np.bincount(values[part], minlength=len(observed)) for part in (tested[keep], ~tested[keep])]
        keep = keep[(np.minimum(*sizes) > 0)[values]]
        observed, values = np.unique(covariate.values[keep], return_inverse=True)
        problem = "fewer than two classes to test" if len(observed) < 2 else ""
    return Target(keep, values.reshape(-1), len(observed), problem)


def split_folds(target: Target, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Fold of every kept cell: whole groups if given (unless the covariate names them), otherwise even over classes or ranks."""
    rng = np.random.default_rng(seed)
    if groups is not None and not (target.n_classes and names_groups(target.values, groups[target.keep])):
        index, sizes = np.unique(groups[target.keep], return_inverse=True, return_counts=True)[1:]
        # Groups are assigned by their mean, so that a donor-level covariate is in every fold where it can be.
        mean = np.bincount(index.reshape(-1), weights=target.values.astype(float)) / sizes
        order = np.lexsort((rng.random(len(sizes)), mean))
        of_group = np.empty(len(sizes), dtype=np.int64)
        of_group[order] = np.arange(len(sizes)) % min(N_FOLDS, len(sizes))
        return of_group[index.reshape(-1)]
    fold = np.empty(len(target.keep), dtype=np.int64)
    fold[np.lexsort((rng.random(len(fold)), target.values))] = np.arange(len(fold)) % N_FOLDS
    return fold


def stratified_order(strata: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Cells by stratum and class, at random within them: any regular part of them has the proportions of all."""
    return np.lexsort((np.random.default_rng(seed).random(len(strata)), labels, strata))


def names_groups(values: np.ndarray, members: np.ndarray) -> bool:
    """Every group is a class of its own, and holds one class."""
    pairs = np.unique(np.stack([values, members]), axis=1).shape[1]
    return pairs == len(np.unique(values)) == len(np.unique(members))


def accuracies(predicted: np.ndarray, target: Target) -> np.ndarray:
    """Chance-corrected balanced accuracy, or signed squared correlation, of every row of predictions (n_rows, n_cells).

    The accuracy is (recall - 1/C) / (1 - 1/C), with the mean recall of C classes; NaN if the target has a problem.
    """
    if target.problem:
        return np.full(len(predicted), np.nan)
    if target.n_classes:
        aim, chance = target.values, 1 / target.n_classes
        hits = np.stack([np.bincount(aim, weights=row == aim, minlength=target.n_classes) for row in predicted])
        recall = hits / np.maximum(np.bincount(aim, minlength=target.n_classes), 1)
        return (recall.mean(axis=1) - chance) / (1 - chance)
    deviation = predicted - predicted.mean(axis=1, keepdims=True)
    aim = target.values - target.values.mean()
    return signed_square(deviation @ aim, (deviation**2).sum(axis=1), aim @ aim)


def accuracy(predicted: np.ndarray, target: Target) -> float:
    """`accuracies` of a single row."""
    return float(accuracies(predicted[None], target)[0])


def signed_square(covariance: np.ndarray, variance: np.ndarray, other_variance: np.ndarray) -> np.ndarray:
    """Squared correlation with the sign of the correlation; 0 where a variance is 0."""
    product = np.maximum(variance * other_variance, 0.0)
    return np.where(product > 0, covariance * np.abs(covariance) / np.where(product > 0, product, 1.0), 0.0)


def permuted_accuracy(predicted: np.ndarray, target: Target, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Accuracy of the same predictions for permuted labels; those that are constant within groups move with their group."""
    rng = np.random.default_rng(seed)
    members, classes = take_groups(groups, target.keep), target.n_classes > 0
    drawn = (permute_values(target.values, members, rng, classes=classes) for _ in range(N_PERMUTATIONS))
    return np.array([accuracy(predicted, replace(target, values=values)) for values in drawn])


def bootstrap_accuracy(predicted: np.ndarray, target: Target, blocks: Blocks, *, complete: bool = False) -> np.ndarray:
    """Accuracy over resampled blocks, (n_bootstrap,). Without some class NaN if ``complete``, else of the others."""
    if target.problem:
        return np.full(len(blocks.weights), np.nan)
    of_cell, aim = blocks.index[target.keep], target.values
    if target.n_classes:
        index, shape = of_cell * target.n_classes + aim, (blocks.n_blocks, target.n_classes)
        counts = (np.bincount(index, weights=hit, minlength=np.prod(shape)) for hit in (predicted == aim, None))
        hits, sizes = (blocks.weights @ of_block.reshape(shape) for of_block in counts)
        n_drawn = (sizes > 0).sum(axis=1)
        recall = (hits / np.maximum(sizes, 1)).sum(axis=1) / np.maximum(n_drawn, 1)
        usable, chance = n_drawn >= (target.n_classes if complete else 1), 1 / target.n_classes
        return np.where(usable, (recall - chance) / (1 - chance), np.nan)
    aim, guess = aim - aim.mean(), predicted - predicted.mean()
    columns = (np.ones(len(aim)), aim, guess, aim**2, guess**2, aim * guess)
    sums = np.stack([np.bincount(of_cell, weights=column, minlength=blocks.n_blocks) for column in columns])
    n, aims, guesses, aim_squares, guess_squares, products = sums @ blocks.weights.T
    n = np.maximum(n, 1)
    return signed_square(products - aims * guesses / n, guess_squares - guesses**2 / n, aim_squares - aims**2 / n)


def mean_area(ranks: np.ndarray, labels: np.ndarray, n_classes: int) -> float:
    """Mean one-against-rest area under the ROC curve, from the ranks (n_cells, n_classes) of the decision values."""
    size = np.bincount(labels, minlength=n_classes)
    own = np.bincount(labels, weights=ranks[np.arange(len(labels)), labels], minlength=n_classes)
    return float(((own - size * (size + 1) / 2) / (size * (len(labels) - size))).mean())


class Plan(NamedTuple):
    """Splits of the cells for one covariate. Embeddings before and after a change share it, so that they can be compared."""

    values: np.ndarray  # class index or number of every cell, arbitrary where it takes no part
    splits: list[tuple[np.ndarray, np.ndarray]]  # training cells, and cells to report on
    reported: Target  # cells that are reported on, in the order of predictions


def make_plan(
    covariate: Covariate, groups: np.ndarray | None, mask: np.ndarray | None, seed: int, most: tuple[float, float] = ALL
) -> Plan:
    """Splits for a covariate: by a checked mask of tested cells, or four folds; `groups` are predicted from other donors."""
    target = make_target(covariate, mask)
    values = np.zeros(len(covariate.values), dtype=target.values.dtype)
    values[target.keep] = target.values
    problem, splits = target.problem, []
    if not problem and (mask is None or groups is not None):
        fold = split_folds(target, groups, seed)
        if fold.max() < 1:
            problem = "one fold of donors"
        else:
            tested = target.keep if mask is None else target.keep[mask[target.keep]]
            # Drawn before they are split: a fold keeps its share.
            queries = np.isin(target.keep, _draw(tested, target, most[0], seed))
            splits = [(target.keep[fold != i], target.keep[(fold == i) & queries]) for i in range(fold.max() + 1)]
    elif not problem:
        tested = cast("np.ndarray", mask)[target.keep]
        splits = [(target.keep[~tested], _draw(target.keep[tested], target, most[0], seed))]
    drawn = ((_draw(train, target, most[1], seed + 1), query) for train, query in splits)
    splits = [(train, query) for train, query in drawn if len(query) and len(train)]
    cells = np.concatenate([query for _, query in splits]) if splits else target.keep[:0]
    return Plan(values, splits, Target(cells, values[cells], target.n_classes, problem))


def _draw(cells: np.ndarray, target: Target, most: float, seed: int) -> np.ndarray:
    """At most `most` of the cells, as many of each class as there are, in their order."""
    if len(cells) <= most:
        return cells
    shuffled = np.random.default_rng(seed).permutation(cells)
    if target.n_classes:
        labels = target.values[np.searchsorted(target.keep, shuffled)]
        order = np.argsort(labels, kind="stable")
        size = np.bincount(labels, minlength=target.n_classes)
        rank = np.empty(len(shuffled), dtype=np.int64)
        rank[order] = np.arange(len(shuffled)) - np.repeat(np.cumsum(size) - size, size)
        shuffled = shuffled[np.argsort(rank, kind="stable")]
    return np.sort(shuffled[: int(most)])
