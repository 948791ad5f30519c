"""Boosted trees behind `dci`: importances and held-out accuracy of one covariate."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scbetavae.metrics import _binning, _held_out
from scbetavae.metrics._checks import Covariate
from scbetavae.metrics._resampling import permutation_p_value
from scbetavae.metrics.disentanglement._sap import TEST_FRACTION

TREE_BINS = 63
ALPHA, MINIMUM_ACCURACY = 0.01, 0.01
"""A covariate votes if its held-out accuracy beats permuted labels at this level, divided by the number of covariates, and
is at least this large."""


@dataclass(frozen=True)
class Fit:
    """Trees of one covariate."""

    importances: np.ndarray  # shape (n_folds, n_active)
    accuracy: float = np.nan
    p_value: float = np.nan
    votes: bool = False
    undefined: bool = False
    null: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Accuracy of the same predictions against permuted labels."""
    held_out: tuple[np.ndarray, _held_out.Target] | None = None  # predictions, and what was predicted


def bin_for_trees(values: np.ndarray) -> np.ndarray:
    """Quantile bins (n_cells, n_dims) for the trees to split on."""
    return _binning.quantile_bins(np.ascontiguousarray(values.T), TREE_BINS).T.astype(np.float32)


def fit_all(
    values: np.ndarray,
    covariates: list[Covariate],
    members: np.ndarray | None,
    *,
    importance: str = "gain",
    seed: int = 0,
) -> list[Fit]:
    """Fit every covariate from the active dimensions (n_cells, n_active), binned for ``"gain"``."""
    level = vote_level(len(covariates))
    if not values.shape[1]:
        return [Fit(np.zeros((1, 0)), 0.0, 1.0, undefined=bool(c.present.sum() < 2)) for c in covariates]
    if importance == "gbt":
        return [_fit_gbt(values, covariate, seed) for covariate in covariates]
    return [_fit_gain(values, covariate, members, seed, level) for covariate in covariates]


def vote_level(n_covariates: int) -> float:
    """P-value at or below which a covariate votes; at least the smallest that the permutations can give."""
    return max(ALPHA / n_covariates, 1 / (1 + _held_out.N_PERMUTATIONS))


def first_fold_importance(values: np.ndarray, covariate: Covariate, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Importances (n_active,) from one fold, for any accuracy."""
    target = _held_out.make_target(covariate)
    fold = np.zeros(1) if target.problem else _held_out.split_folds(target, groups, seed)
    if fold.max() < 1:
        return np.zeros(values.shape[1])
    gain, _ = _boost(values[target.keep], target, fold != 0, fold == 0, seed)
    return gain / max(gain.sum(), 1e-300)


def _fit_gain(values: np.ndarray, covariate: Covariate, groups: np.ndarray | None, seed: int, level: float) -> Fit:
    """Importances and held-out accuracy of one covariate from binned dimensions (n_cells, n_active)."""
    target = _held_out.make_target(covariate)
    fold = np.zeros(1) if target.problem else _held_out.split_folds(target, groups, seed)
    if fold.max() < 1:
        return Fit(np.zeros((1, values.shape[1])), undefined=True)
    codes = values[target.keep]
    predicted = np.zeros(len(fold), dtype=np.int64 if target.n_classes else np.float64)
    importances = []
    for i in range(fold.max() + 1):
        # Trees break ties between equal columns by position; reversing the columns in every other fold is fair.
        turn = -1 if i % 2 else 1
        gain, predicted[fold == i] = _boost(codes[:, ::turn], target, fold != i, fold == i, seed + i)
        importances.append(gain[::turn] / max(gain.sum(), 1e-300))
    value = _held_out.accuracy(predicted, target)
    null = _held_out.permuted_accuracy(predicted, target, groups, seed)
    p_value = float(permutation_p_value(value, null))
    votes = p_value <= level and value >= MINIMUM_ACCURACY
    return Fit(np.array(importances), value, p_value, votes, null=null, held_out=(predicted, target))


def _boost(
    codes: np.ndarray, target: _held_out.Target, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gain of every column and predictions for the test cells."""
    # Imported here: LightGBM is slow to load and only DCI needs it.
    import lightgbm

    parameters: dict[str, Any] = {
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
    observed, labels = np.unique(values, return_inverse=True)
    labels, n_rounds = labels.reshape(-1), 50
    center, scale = values.mean(), max(values.std(), 1e-300)
    if not target.n_classes:
        parameters["objective"] = "regression"
        labels = (values - center) / scale
    elif len(observed) == 1:
        return np.zeros(codes.shape[1]), np.full(int(test.sum()), observed[0])
    elif len(observed) == 2:
        parameters["objective"] = "binary"
    else:
        parameters |= {"objective": "multiclass", "num_class": len(observed)}
        # A round grows a tree per class: many classes need fewer rounds for as many trees.
        n_rounds = int(np.clip(600 // len(observed), 15, 50))
    data = lightgbm.Dataset(codes[train], labels, params=parameters, free_raw_data=True)
    booster = lightgbm.train(parameters, data, num_boost_round=n_rounds)
    gain = booster.feature_importance("gain").astype(np.float64)
    raw = np.asarray(booster.predict(codes[test], num_threads=1))
    if not target.n_classes:
        return gain, raw * scale + center
    share = np.bincount(labels) / len(labels)
    probability = raw if raw.ndim == 2 else np.column_stack([1 - raw, raw])
    return gain, observed[(probability / share).argmax(axis=1)]


def _fit_gbt(values: np.ndarray, covariate: Covariate, seed: int) -> Fit:
    """Scikit-learn's gradient boosting as disentanglement_lib uses it."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
    from sklearn.model_selection import train_test_split

    covariate = covariate.as_classes() if covariate.integer else covariate
    keep = np.flatnonzero(covariate.present)
    undefined = Fit(np.zeros((1, values.shape[1])), undefined=True)
    if len(keep) < 3:
        return undefined
    train, test = train_test_split(keep, test_size=TEST_FRACTION, random_state=seed)
    if len(np.unique(covariate.values[train])) < 2:
        return undefined
    model = (GradientBoostingRegressor if covariate.is_numeric else GradientBoostingClassifier)(random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(values[train], covariate.values[train])
        value = model.score(values[test], covariate.values[test]) if len(test) > 1 else np.nan
    return Fit(np.abs(model.feature_importances_)[None], float(value), votes=True)
