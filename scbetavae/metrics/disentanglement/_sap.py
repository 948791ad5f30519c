"""Separated attribute predictability."""

import warnings

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_choice
from scbetavae.metrics import _binning, _contingency
from scbetavae.metrics._checks import Covariate, check_inputs
from scbetavae.metrics._information import CodeBins, label_cells
from scbetavae.metrics.disentanglement._mig import top_gap
from scbetavae.metrics.disentanglement._records import Score, register_score

register_score(Score("sap", "SAP", per_covariate=True, reference="Kumar2018"))

TEST_FRACTION = 1 / 3
"""Share of held-out cells in the parity modes: disentanglement_lib trains on 10 000 and tests on 5 000."""


def sap(
    codes: ArrayLike, factors: pd.DataFrame, *, method: str = "bins", active: ArrayLike | None = None, seed: int = 0
) -> pd.Series:
    """Separated attribute predictability of every covariate :cite:p:`Kumar2018`.

    The gap :math:`S_{(1)k} - S_{(2)k}` between the two dimensions that alone predict covariate k best. For a categorical
    covariate :math:`S_{jk}` is the balanced accuracy, corrected for chance, of a classifier that names classes by their posterior
    probability in each fine quantile bin of dimension j, on cells left out one at a time. For a numeric covariate it is the
    squared Spearman correlation.

    Parameters
    ----------
    codes, factors, active
        As in :func:`mig`, and so are errors.
    method
        ``"bins"`` as above. ``"linear_svm"`` is that of disentanglement_lib: accuracy of ``LinearSVC(C=0.01,
        class_weight="balanced")`` on a third of the cells, squared Pearson correlation for numeric covariates. A perfect
        ordinal code of ten classes gets 0.19 to 0.28 from it, and it depends on the scale of the dimensions.
    seed
        Seed of the split into training and held-out cells (``"linear_svm"`` only).

    Returns
    -------
    Series indexed by covariate, in [0, 1] up to the noise of chance correction. NaN where undefined; 0 if no dimension is active.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> codes = np.column_stack([rng.uniform(size=500), rng.normal(size=500)])
    >>> round(float(sap(codes, pd.DataFrame({"age": codes[:, 0]}))["age"]), 2)
    1.0
    """
    check_choice(method, ("bins", "linear_svm"), "method")
    inputs = check_inputs(codes, factors, active)
    binned = CodeBins(inputs.values, refinement=_binning.REFINEMENT)
    gaps = []
    for covariate in inputs.covariates:
        if not inputs.active.any():
            gaps.append(0.0 if len(np.unique(covariate.values[covariate.present])) > 1 else np.nan)
        elif method == "linear_svm":
            gaps.append(float(top_gap(_linear_scores(binned.values, covariate, seed))))
        else:
            gaps.append(float(top_gap(_bin_scores(binned, covariate))))
    return pd.Series(gaps, index=[c.name for c in inputs.covariates], name="sap")


def _bin_scores(binned: CodeBins, covariate: Covariate) -> np.ndarray:
    if covariate.is_numeric:
        return _binning.spearman_squared(binned.values[:, covariate.present], covariate.values[covariate.present])
    cells = label_cells(binned, covariate)
    if cells.problem:
        return np.full(len(binned.values), np.nan)
    return _contingency.one_dimension_accuracy(cells.tables())[0]


def _linear_scores(values: np.ndarray, covariate: Covariate, seed: int) -> np.ndarray:
    from sklearn.model_selection import train_test_split
    from sklearn.svm import LinearSVC

    covariate = covariate.as_classes() if covariate.integer else covariate
    values, target = values[:, covariate.present], covariate.values[covariate.present]
    undefined = np.full(len(values), np.nan)
    if covariate.is_numeric:
        if len(target) < 2 or target.max() == target.min():
            return undefined
        centered, aim = values - values.mean(axis=1, keepdims=True), target - target.mean()
        product = (centered**2).sum(axis=1) * (aim**2).sum()
        return np.where(product > 0, (centered @ aim) ** 2 / np.where(product > 0, product, 1.0), 0.0)
    if len(target) < 3:
        return undefined
    train, test = train_test_split(np.arange(len(target)), test_size=TEST_FRACTION, random_state=seed)
    if len(np.unique(target[train])) < 2:
        return undefined
    scores = np.empty(len(values))
    for dimension, code in enumerate(values):
        classifier = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no convergence on a useless dimension is an answer, not news
            classifier.fit(code[train, None], target[train])
        scores[dimension] = np.mean(classifier.predict(code[test, None]) == target[test])
    return scores
