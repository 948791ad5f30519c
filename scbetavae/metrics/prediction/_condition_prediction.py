"""How well a covariate can be predicted from single dimensions, from all, and from technical covariates alone."""

from math import factorial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_whole_number, finite_matrix
from scbetavae.metrics import _held_out
from scbetavae.metrics._checks import Covariate, check_column, check_groups, resolve_active, take_groups
from scbetavae.metrics._resampling import make_blocks
from scbetavae.metrics.prediction._linear_predictions import NUMBERS, Predictors, Task, standardize

_FEW_GROUPS = 5
_FEW_WAYS = 100


def condition_prediction(
    codes: ArrayLike,
    covariate: ArrayLike | pd.Series,
    *,
    groups: ArrayLike | pd.Series | None = None,
    technical_covariates: ArrayLike | None = None,
    active: ArrayLike | None = None,
    n_permutations: int = 200,
    n_bootstrap: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Held-out accuracy of linear models that predict a covariate from one dimension, from all, and from technical covariates.

    Classes are predicted by the linear discriminant with equal prior for every class (in one dimension: the nearest class
    mean), numbers by ridge regression, in four folds. The accuracy of classes is the mean recall :math:`a` corrected for
    chance, :math:`(a - 1/C)/(1 - 1/C)`; that of numbers the squared correlation of prediction and truth, with the sign of
    the correlation. Every permutation fits all models anew, which makes the test exact.

    Parameters
    ----------
    codes, active
        Embedding of shape (n_cells, n_dims); boolean mask of the dimensions that take part, by default :func:`active_dimensions`.
    covariate
        Classes (categorical, boolean, string) or numbers, one per cell. Cells without label or alone in their class are left out.
    groups
        Donor of every cell: whole donors are held out and resampled. What is constant within donors is permuted between
        donors, anything else within them.
    technical_covariates
        Columns of shape (n_cells, n_technical), such as the library size, that a dimension should improve on.
    n_permutations
        Permutations behind null and p-values, at least 0. No p-value is below 1 / (n_permutations + 1).
    n_bootstrap, seed
        Bootstrap replicates behind the intervals, at least 0; seed of folds, permutations and bootstrap.

    Returns
    -------
    DataFrame, one row per dimension, one for all active dimensions together, and one for the technical covariates alone:

    ``predictor``, ``dimension``, ``active``, ``covariate``
        ``"dimension"``, ``"all"`` or ``"technical"``; the index of the dimension, -1 for the other two; whether it took part (if
        not, its numbers are NaN); name of the covariate.
    ``accuracy``
        As above: 1 at best, 0 by chance; it can be negative.
    ``null``, ``null_low``, ``null_high``
        Mean, 2.5% and 97.5% quantile of the accuracy for permuted labels.
    ``p_value``, ``p_adjusted``
        Share of permutations, the observed labels among them, with at least this accuracy; and the same for the *largest*
        accuracy of any dimension in each permutation, the correction over dimensions of :cite:t:`WestfallYoung1993`. The last two
        rows are one test each and not corrected.
    ``ci_low``, ``ci_high``
        95% interval of the accuracy of these predictions, from a bootstrap over donors, or over cells without donors.
    ``auroc``
        Area under the ROC curve, in [0, 1] and 0.5 by chance; for more than two classes the mean of each against the rest.
        NaN for numbers.
    ``beyond_technical``, ``beyond_low``, ``beyond_high``
        Accuracy of technical covariates and dimension together less that of technical covariates alone (or 0, if these are worse
        than chance), and its 95% interval.
    ``direction``
        Class with the highest mean in this dimension; ``"+"`` or ``"-"`` for numbers; empty for the last two rows.
    ``n_cells``, ``n_classes``, ``n_groups``, ``status``, ``flag``
        Cells, classes (0 for numbers) and donors (0 without) that took part; ``"predicted"`` (``"not possible"`` in
        :func:`undefined_prediction`); limits of the row, empty if there are none.

    Raises
    ------
    ValueError
        If shapes do not agree, values are not finite, the covariate has one class (or one value) or fewer than ten cells, or
        there is one donor only.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> treated = rng.random(400) < 0.3
    >>> codes = np.column_stack([rng.normal(size=400), rng.normal(size=400) - 4.0 * treated])
    >>> frame = condition_prediction(codes, np.where(treated, "treated", "control"))
    >>> frame[frame["p_adjusted"] < 0.05][["predictor", "dimension", "accuracy", "direction"]].round(1).values.tolist()
    [['dimension', 1, 1.0, 'control'], ['all', -1, 1.0, '']]
    """
    check_whole_number(n_permutations, "n_permutations")
    check_whole_number(n_bootstrap, "n_bootstrap")
    array = finite_matrix(codes, "codes")
    mask = resolve_active(array, active)
    column = check_column(covariate, len(array), "covariate")
    members = check_groups(groups, len(array))
    technical = np.zeros((len(array), 0))
    if technical_covariates is not None and np.shape(technical_covariates)[1:] != (0,):
        technical = finite_matrix(technical_covariates, "technical_covariates")
    if len(technical) != len(array):
        msg = f"`technical_covariates` has shape {technical.shape}; it needs ({len(array)}, n_technical), one row per cell."
        raise ValueError(msg)
    task, keep, classes, notes = _prepare(column, members, seed)
    rng = np.random.default_rng([seed, 1])  # another stream than that of the folds
    rows = standardize(array[np.ix_(keep, np.flatnonzero(mask))])
    blocks = make_blocks(len(keep), task.members, n_bootstrap, rng)
    if n_bootstrap and task.members is not None and blocks.n_blocks < _FEW_GROUPS:
        notes.append(f"rough interval: {blocks.n_blocks} groups")
    predictors = Predictors(rows, standardize(technical[keep]), task, blocks)
    numbers = predictors.evaluate(n_permutations, rng)

    frame = undefined_prediction(column.name, mask, len(keep), task.target.n_classes, "")
    frame["status"], taking_part = "predicted", np.append(mask, [True, True])
    for name in NUMBERS:
        frame.loc[taking_part, name] = numbers[name]
    frame.loc[np.append(mask, [False, False]), "direction"] = _directions(rows, task.target, classes)
    frame["n_groups"] = 0 if task.members is None else int(task.members.max()) + 1
    frame["flag"] = np.where(taking_part, "; ".join(notes), "not active: takes no part").astype(object)
    all_, alone = len(mask), len(mask) + 1
    if not mask.any():
        collapsed = "no active dimension: the embedding is constant, or the model collapsed (try a lower beta)"
        frame.loc[all_, "flag"] = "; ".join([*notes, collapsed])
    if not technical.shape[1]:
        frame.loc[alone, list(NUMBERS)] = np.nan
        frame.loc[alone, "flag"] = "no technical covariates given"
    frame.loc[alone, "active"] = technical.shape[1] > 0
    return frame


def undefined_prediction(covariate: str, active: np.ndarray, n_cells: int, n_classes: int, flag: str) -> pd.DataFrame:
    """The frame of :func:`condition_prediction` where nothing can be predicted: numbers are NaN, and ``flag`` says why.

    ``covariate`` is its name, ``active`` the boolean mask of dimensions, ``n_cells`` and ``n_classes`` count those with a label.

    Examples
    --------
    >>> undefined_prediction("condition", np.array([True]), 9, 2, "few cells")["predictor"].tolist()
    ['dimension', 'all', 'technical']
    """
    n_dims = len(active)
    frame = pd.DataFrame(
        {
            "predictor": ["dimension"] * n_dims + ["all", "technical"],
            "dimension": np.append(np.arange(n_dims), [-1, -1]),
            "active": np.append(active, [bool(active.any()), False]),
            "covariate": covariate,
        }
        | dict.fromkeys(NUMBERS, np.nan)
        | {"direction": "", "n_cells": n_cells, "n_classes": n_classes, "n_groups": 0}
        | {"status": "not possible", "flag": flag}
    )
    return frame.astype(dict.fromkeys(("direction", "covariate", "status", "flag"), object))


def _prepare(
    column: Covariate, members: np.ndarray | None, seed: int
) -> tuple[Task, np.ndarray, tuple[str, ...], list[str]]:
    """What is predicted, the cells that take part, their classes, and what to know about folds, cells and donors."""
    target = _held_out.make_target(column)
    present = np.flatnonzero(column.present)
    if target.problem:
        found = "" if column.is_numeric else f" (classes: {', '.join(map(repr, column.classes[:5])) or 'none'})"
        problem = "one class" if len(column.classes) == 1 else target.problem
        needed = "Pass two classes of at least two cells, or numbers that vary, and ten cells."
        msg = f"{column.name!r} cannot be predicted: {problem} among {len(present)} cells with a label{found}. {needed}"
        raise ValueError(msg)
    notes, classes = [], ()
    if len(present) < len(column.present):
        notes.append(f"{len(column.present) - len(present)} cells without a label left out")
    if not column.is_numeric:
        classes = tuple(column.classes[i] for i in np.unique(column.values[target.keep]))
        left = [name for name in column.classes if name not in classes]
        if left:
            notes.append(f"class of one cell left out: {', '.join(left[:3])}{' ...' if len(left) > 3 else ''}")
    donors = take_groups(members, target.keep)
    if donors is not None and donors.max() == 0:
        msg = (
            f"All {len(donors)} cells with a label for {column.name!r} are of one group (donor), so none can be held out. "
            "Pass no groups: cells are then held out, which says nothing about other donors."
        )
        raise ValueError(msg)
    if donors is not None and classes and _held_out.names_groups(target.values, donors):
        donors = None
        notes.append("every class is a donor: cells are held out, which says nothing about other donors")
    here = _held_out.Target(np.arange(len(target.keep)), target.values, target.n_classes)
    task = Task(here, _held_out.split_folds(here, donors, seed), donors)
    return task, target.keep, classes, notes + _donor_notes(task, classes)


def _donor_notes(task: Task, classes: tuple[str, ...]) -> list[str]:
    """What few donors mean for folds and p-values."""
    if task.members is None:
        return []
    pairs = np.unique(np.stack([task.members, task.target.values]), axis=1)
    n_groups = int(task.members.max()) + 1
    if not task.constant_within_donors:
        mixed = int((np.bincount(pairs[0].astype(np.int64)) > 1).sum())
        few = 2 * mixed < n_groups
        return [f"varies within {mixed} of {n_groups} donors, and only these bear on the p-value"] if few else []
    kinds, sizes = np.unique(pairs[1], return_counts=True)
    notes = []
    if classes and (sizes == 1).any():
        single = [classes[int(kind)] for kind in kinds[sizes == 1]]
        notes.append(f"of one donor, so not predicted when it is held out: {', '.join(single[:3])}")
    ways = factorial(n_groups)
    for size in sizes:
        ways //= factorial(int(size))
    if ways < _FEW_WAYS:
        what = ", ".join(f"{size} of {classes[int(k)]!r}" for k, size in zip(kinds, sizes, strict=True) if classes)
        notes.append(
            f"constant within donors ({what or f'{n_groups} donors'}): the labels can be assigned to them in {ways} ways, "
            f"so p-values below about {1 / ways:.2g} are out of reach"
        )
    return notes


def _directions(rows: np.ndarray, target: _held_out.Target, classes: tuple[str, ...]) -> list[str]:
    """Class with the highest mean, or the sign of the slope, for every row."""
    if not target.n_classes:
        return [("-", "", "+")[int(sign) + 1] for sign in np.sign(rows @ (target.values - target.values.mean()))]
    sizes = np.bincount(target.values)
    means = np.stack([np.bincount(target.values, weights=row) / sizes for row in rows]) if len(rows) else rows[:, :1]
    return [classes[i] for i in means.argmax(axis=1)]
