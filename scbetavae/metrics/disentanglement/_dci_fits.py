"""Boosted trees behind `dci`: importances and held-out accuracy of one covariate."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

from scbetavae.metrics import _binning, _held_out
from scbetavae.metrics._checks import Covariate
from scbetavae.metrics.disentanglement._sap import TEST_FRACTION

TREE_BINS = 63
ALPHA, MINIMUM_SKILL = 0.01, 0.01
"""A covariate votes if its held-out accuracy beats permuted labels at this level, divided by the number of covariates, and
is at least this large."""


@dataclass(frozen=True)
class Fit:
    importances: np.ndarray
    """Shape (n_folds, n_active)."""
    accuracy: float
    p_value: float
    votes: bool
    undefined: bool = False
    null: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Accuracy of the same predictions against permuted labels."""
    target: _held_out.Target | None = None
    predicted: np.ndarray | None = None


def bin_for_trees(values: np.ndarray) -> np.ndarray:
    """Quantile bins (n_cells, n_dims) for the trees to split on."""
    return _binning.quantile_bins(np.ascontiguousarray(values.T), TREE_BINS).T.astype(np.float32)


def fit_all(
    values: np.ndarray,
    covariates: list[Covariate],
    mask: np.ndarray,
    members: np.ndarray | None,
    *,
    importance: str = "gain",
    seed: int = 0,
) -> list[Fit]:
    """Fit every covariate from the codes of the active dimensions (binned for ``"gain"``)."""
    fits = []
    for covariate in covariates:
        if not mask.any():
            fits.append(Fit(np.zeros((1, 0)), 0.0, 1.0, False, covariate.present.sum() < 2))
        elif importance == "gbt":
            fits.append(_fit_gbt(values, covariate, seed))
        else:
            fits.append(fit_gain(values, covariate, members, seed, level=vote_level(len(covariates))))
    return fits


def vote_level(n_covariates: int) -> float:
    """P-value at or below which a covariate votes; at least the smallest that the permutations can give."""
    return max(ALPHA / n_covariates, 1 / (1 + _held_out.N_SKILL_PERMUTATIONS))


def first_fold_importance(values: np.ndarray, covariate: Covariate, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Importances (n_active,) from one fold, whatever the accuracy."""
    target = _held_out.make_target(covariate)
    fold = np.zeros(1) if target.problem else _held_out.split_folds(target, groups, seed)
    if fold.max() < 1:
        return np.zeros(values.shape[1])
    gain, _ = _boost(values[target.keep], target, fold != 0, fold == 0, seed)
    return gain / max(gain.sum(), 1e-300)


def fit_gain(
    values: np.ndarray, covariate: Covariate, groups: np.ndarray | None, seed: int, *, level: float = ALPHA
) -> Fit:
    """Importances and held-out accuracy of one covariate from binned codes (n_cells, n_active)."""
    target = _held_out.make_target(covariate)
    nothing = np.zeros((1, values.shape[1]))
    if target.problem:
        return Fit(nothing, np.nan, np.nan, False, undefined=True)
    fold = _held_out.split_folds(target, groups, seed)
    n_folds = fold.max() + 1
    if n_folds < 2:
        return Fit(nothing, np.nan, np.nan, False, undefined=True)
    codes = values[target.keep]
    predicted = np.zeros(len(fold), dtype=np.int64 if target.n_classes else np.float64)
    importances = []
    for i in range(n_folds):
        train, test = fold != i, fold == i
        # Trees break ties between equal columns by position; turning the columns round in every other fold is fair.
        turn = -1 if i % 2 else 1
        gain, predicted[test] = _boost(codes[:, ::turn], target, train, test, seed + i)
        importances.append(gain[::turn] / max(gain.sum(), 1e-300))
    value = _held_out.accuracy(predicted, target)
    null = _held_out.permuted_accuracy(predicted, target, groups, seed)
    p_value = (1 + (null >= value - 1e-12).sum()) / (1 + len(null))
    return Fit(
        np.array(importances),
        value,
        float(p_value),
        bool(p_value <= level and value >= MINIMUM_SKILL),
        False,
        null,
        target,
        predicted,
    )


def _boost(
    codes: np.ndarray, target: _held_out.Target, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gain of every column and predictions for the test cells."""
    # Imported here: LightGBM is slow to load and only DCI needs it.
    import lightgbm

    parameters = {
        "num_leaves": 8,
        "learning_rate": 0.1,
        "max_bin": TREE_BINS,
        "min_data_in_bin": 1,
        "min_data_in_leaf": int(np.clip(train.sum() // 50, 1, 20)),
        # A split on noise gains about the largest of some hundred squared normal deviates.
        "min_gain_to_split": 10.0,
        # Without it a rare class can blow up the gain of late, meaningless splits.
        "lambda_l2": 1.0,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbose": -1,
    }
    values = target.values[train]
    n_rounds = 50
    if target.n_classes:
        observed, labels = np.unique(values, return_inverse=True)
        share = np.bincount(labels.reshape(-1)) / len(labels)
        if len(observed) == 1:
            return np.zeros(codes.shape[1]), np.full(int(test.sum()), observed[0])
        many = len(observed) > 2
        parameters |= {"objective": "multiclass", "num_class": len(observed)} if many else {"objective": "binary"}
        # A round grows a tree per class: many classes need fewer rounds for as many trees.
        n_rounds = int(np.clip(600 // len(observed), 15, 50)) if many else n_rounds
        values = labels.reshape(-1)
    else:
        parameters["objective"] = "regression"
        center, scale = values.mean(), max(values.std(), 1e-300)
        values = (values - center) / scale
    data = lightgbm.Dataset(codes[train], values, params=parameters, free_raw_data=True)
    booster = lightgbm.train(parameters, data, num_boost_round=n_rounds)
    gain = booster.feature_importance("gain").astype(np.float64)
    raw = booster.predict(codes[test], num_threads=1)
    if not target.n_classes:
        return gain, raw * scale + center
    probability = raw if raw.ndim == 2 else np.column_stack([1 - raw, raw])
    return gain, observed[(probability / share).argmax(axis=1)]


def _fit_gbt(values: np.ndarray, covariate: Covariate, seed: int) -> Fit:
    """Scikit-learn's gradient boosting as disentanglement_lib uses it."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
    from sklearn.model_selection import train_test_split

    covariate = covariate.as_classes() if covariate.integer else covariate
    keep = np.flatnonzero(covariate.present)
    target = covariate.values[keep] if covariate.is_numeric else covariate.labels[keep]
    undefined = Fit(np.zeros((1, values.shape[1])), np.nan, np.nan, False, undefined=True)
    if len(keep) < 3:
        return undefined
    train, test = train_test_split(np.arange(len(keep)), test_size=TEST_FRACTION, random_state=seed)
    if len(np.unique(target[train])) < 2:
        return undefined
    model = (GradientBoostingRegressor if covariate.is_numeric else GradientBoostingClassifier)(random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(values[keep[train]], target[train])
        value = model.score(values[keep[test]], target[test]) if len(test) > 1 else np.nan
    return Fit(np.abs(model.feature_importances_)[None], float(value), np.nan, True)
