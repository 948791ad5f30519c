"""Explicitness: what a linear model predicts from all dimensions."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from scbetavae.metrics import _held_out
from scbetavae.metrics._checks import check_inputs
from scbetavae.metrics.disentanglement._records import Score, register_score

register_score(Score("explicitness", "Explicitness", per_covariate=True, reference="RidgewayMozer2018"))


def explicitness(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    groups: ArrayLike | pd.Series | None = None,
    active: ArrayLike | None = None,
    seed: int = 0,
) -> pd.Series:
    r"""Mean one-against-rest area under the ROC curve of every covariate, held out :cite:p:`RidgewayMozer2018`.

    A logistic model on all active dimensions (standardized) predicts the classes of cells held out in four folds. For a
    numeric covariate a linear model predicts it, and the score is the concordance :math:`(1 + \tau)/2` with Kendall's
    :math:`\tau`, which is what the area under the curve becomes without classes.

    Arguments and errors as in :func:`dci`. Returns a Series indexed by covariate, in [0, 1], 0.5 by chance. NaN where undefined
    (fewer than 10 labeled cells, or fewer than two classes of two cells); classes with one cell are left out.

    Examples
    --------
    >>> codes = np.random.default_rng(0).normal(size=(300, 2))
    >>> side = np.where(codes.sum(axis=1) > 0, "right", "left")
    >>> bool(explicitness(codes, pd.DataFrame({"side": side}))["side"] > 0.95)
    True
    """
    array, mask, covariates, members = check_inputs(codes, factors, active, groups)
    scores = []
    for covariate in covariates:
        target = _held_out.make_target(covariate)
        predicted = held_out_scores(array[:, mask], target, members, seed)
        scores.append(float("nan") if predicted is None else concordance(predicted, target))
    return pd.Series(scores, index=[c.name for c in covariates], name="explicitness")


def held_out_scores(
    codes: np.ndarray, target: _held_out.Target, groups: np.ndarray | None, seed: int
) -> np.ndarray | None:
    """Decision values (n_kept, n_classes), or predictions (n_kept, 1) of a number; ``None`` with a problem or one fold."""
    from sklearn.linear_model import LogisticRegression, Ridge

    fold = np.zeros(1, dtype=np.int64) if target.problem else _held_out.split_folds(target, groups, seed)
    if fold.max() < 1:
        return None
    values = codes[target.keep]
    scores = np.zeros((len(fold), max(target.n_classes, 1)))
    for i in range(fold.max() + 1 if values.shape[1] else 0):
        train, test = fold != i, fold == i
        scale = values[train].std(axis=0)
        centered = (values - values[train].mean(axis=0)) / np.where(scale > 0, scale, 1.0)
        aim = target.values[train]
        if not target.n_classes:
            model = Ridge(alpha=1e-3).fit(centered[train], (aim - aim.mean()) / (aim.std() or 1.0))
            scores[test, 0] = model.predict(centered[test])
            continue
        observed = np.unique(aim)
        if len(observed) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # separable classes never converge, and need not
            model = LogisticRegression(max_iter=200).fit(centered[train], aim)
        # Log odds per fold, so that folds can be ranked together.
        probability = np.clip(model.predict_proba(centered[test]), 1e-12, 1 - 1e-12)
        scores[np.ix_(test, observed)] = np.log(probability / (1 - probability))
    return scores


def concordance(scores: np.ndarray, target: _held_out.Target) -> float:
    """Mean one-against-rest area under the curve, or ``(1 + tau) / 2``."""
    if not target.n_classes:
        tau: Any = stats.kendalltau(scores[:, 0], target.values)[0] if np.ptp(scores) > 0 else 0.0
        return (1 + float(tau)) / 2
    return _held_out.mean_area(stats.rankdata(scores, axis=0), target.values, target.n_classes)
