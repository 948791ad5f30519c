"""Separated attribute predictability."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics import _binning, _contingency
from scbetavae.metrics._active import resolve_active
from scbetavae.metrics._checks import Covariate, check_choice, check_codes, check_factors
from scbetavae.metrics._information import CodeBins, Estimator, label_cells
from scbetavae.metrics.disentanglement._mig import top_gap
from scbetavae.metrics.disentanglement._records import Score, register_score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

register_score(Score("sap", "SAP", per_covariate=True, reference="Kumar2018"))

TEST_FRACTION = 1 / 3
"""Share of held-out cells in the parity modes: disentanglement_lib trains on 10 000 and tests on 5 000."""


def rank_rows(values: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Mid-ranks along the last axis, centered and scaled to unit length (all 0 for a constant row)."""
    order = np.argsort(values, axis=1) if order is None else order
    n_cells = values.shape[1]
    ranks = np.empty(values.shape)
    for row, ordered in enumerate(order):
        sorted_values = values[row, ordered]
        starts = np.flatnonzero(np.r_[True, sorted_values[1:] != sorted_values[:-1]]) if n_cells else np.zeros(0, int)
        ends = np.r_[starts[1:], n_cells] if n_cells else starts
        ranks[row, ordered] = np.repeat((starts + ends - 1) / 2, ends - starts)
    ranks -= (n_cells - 1) / 2
    length = np.sqrt((ranks**2).sum(axis=1, keepdims=True))
    return ranks / np.where(length > 0, length, 1.0)


def sap(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    method: str = "bins",
    active: ArrayLike | None = None,
    seed: int = 0,
) -> pd.Series:
    r"""Separated attribute predictability of every covariate.

    The gap :math:`S_{(1)k} - S_{(2)k}` between the two dimensions that alone predict covariate k best. For a
    categorical covariate :math:`S_{jk}` is the balanced accuracy, corrected for chance, of a classifier that
    names classes by their posterior probability in each fine quantile bin of dimension j, on cells left out one at a time.
    For a numeric covariate it is the squared Spearman correlation.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims).
    factors
        Covariates, one row per cell.
    method
        ``"bins"`` as above. ``"linear_svm"`` is that of disentanglement_lib: accuracy of ``LinearSVC(C=0.01,
        class_weight="balanced")`` on a third of the cells, squared Pearson correlation for numeric covariates. A
        perfect ordinal code of ten classes gets 0.19 to 0.28 from it, and it depends on the scale of the codes.
    active
        Boolean mask of the dimensions that take part, by default `active_dimensions`.
    seed
        Seed of the split into training and test cells (``"linear_svm"`` only).

    Returns
    -------
    Series indexed by covariate, in [0, 1] up to the noise of chance correction. NaN where undefined; 0 if no dimension is
    active.

    Raises
    ------
    ValueError
        If shapes do not agree, codes are not finite, or an option is unknown.

    References
    ----------
    :cite:p:`Kumar2018`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import sap
    >>> rng = np.random.default_rng(0)
    >>> age = rng.uniform(size=500)
    >>> codes = np.column_stack([age, rng.normal(size=500)])
    >>> round(float(sap(codes, pd.DataFrame({"age": age}))["age"]), 2)
    1.0
    """
    check_choice(method, ("bins", "linear_svm"), "method")
    array = check_codes(codes)
    mask = resolve_active(array, active)
    covariates = check_factors(factors, len(array))
    values = np.ascontiguousarray(array[:, mask].T)
    binned = CodeBins(values, Estimator(), refinement=_binning.REFINEMENT)
    gaps = []
    for covariate in covariates:
        if not mask.any():
            defined = (
                len(
                    np.unique(
                        covariate.values[covariate.present]
                        if covariate.is_numeric
                        else covariate.labels[covariate.present]
                    )
                )
                > 1
            )
            gaps.append(0.0 if defined else np.nan)
        elif method == "linear_svm":
            gaps.append(float(top_gap(_linear_scores(values, covariate, seed))))
        else:
            gaps.append(float(top_gap(_bin_scores(binned, covariate))))
    return pd.Series(gaps, index=[c.name for c in covariates], name="sap")


def _bin_scores(binned: CodeBins, covariate: Covariate) -> np.ndarray:
    if covariate.is_numeric:
        return spearman_squared(binned.values[:, covariate.present], covariate.values[covariate.present])
    cells = label_cells(binned, covariate)
    if cells.problem:
        return np.full(len(binned.values), np.nan)
    return _contingency.one_dimension_accuracy(cells.tables())[0]


def spearman_squared(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Squared Spearman correlation of every row with the target; NaN if the target is constant."""
    if len(target) < 2 or target.max() == target.min():
        return np.full(len(values), np.nan)
    return np.minimum((rank_rows(values) @ rank_rows(target[None])[0]) ** 2, 1.0)


def _linear_scores(values: np.ndarray, covariate: Covariate, seed: int) -> np.ndarray:
    # Imported here: scikit-learn is slow to load and the default method does without it.
    from sklearn.model_selection import train_test_split
    from sklearn.svm import LinearSVC

    covariate = covariate.as_classes() if covariate.integer else covariate
    values = values[:, covariate.present]
    undefined = np.full(len(values), np.nan)
    if covariate.is_numeric:
        target = covariate.values[covariate.present]
        if len(target) < 2 or target.max() == target.min():
            return undefined
        centered, aim = values - values.mean(axis=1, keepdims=True), target - target.mean()
        product = (centered**2).sum(axis=1) * (aim**2).sum()
        return np.where(product > 0, (centered @ aim) ** 2 / np.where(product > 0, product, 1.0), 0.0)
    labels = covariate.labels[covariate.present]
    if len(labels) < 3:
        return undefined
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_FRACTION, random_state=seed)
    if len(np.unique(labels[train])) < 2:
        return undefined
    scores = np.empty(len(values))
    for dimension, code in enumerate(values):
        classifier = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no convergence on a useless dimension is an answer, not news
            classifier.fit(code[train, None], labels[train])
        scores[dimension] = np.mean(classifier.predict(code[test, None]) == labels[test])
    return scores
