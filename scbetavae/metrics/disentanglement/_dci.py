"""Disentanglement, completeness, informativeness."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_choice
from scbetavae.metrics._checks import check_inputs, check_matrix
from scbetavae.metrics.disentanglement._dci_fits import Fit, bin_for_trees, fit_all
from scbetavae.metrics.disentanglement._records import Score, register_score

_SHARED: dict[str, Any] = {"family": "dci", "reference": "EastwoodWilliams2018"}
register_score(Score("dci_disentanglement", "DCI disentanglement", **_SHARED))
register_score(Score("dci_completeness", "DCI completeness", per_covariate=True, **_SHARED))
register_score(Score("dci_informativeness", "DCI informativeness", per_covariate=True, **_SHARED))


@dataclass(frozen=True)
class DCIResult:
    """Result of `dci`."""

    disentanglement: float
    """Weighted mean over dimensions, in [0, 1]: does each dimension serve one covariate?"""
    completeness: float
    """Weighted mean over covariates, in [0, 1]: is each covariate encoded by one dimension?"""
    informativeness: float
    """Mean held-out accuracy over covariates."""
    per_code: pd.Series
    """Disentanglement of every dimension; NaN where it has no importance."""
    per_factor: pd.DataFrame
    """Indexed by covariate: ``completeness``, ``informativeness``, ``p_value`` (of the accuracy), ``votes``."""
    importance: pd.DataFrame
    """Shape (n_dims, n_covariates); columns sum to 1, or are 0 where the covariate does not vote."""
    _replicates: np.ndarray = field(repr=False, default_factory=lambda: np.zeros((0, 0, 0)))
    """Importances of every fold, for the jackknife interval of `score_frame`."""


def per_row_disentanglement(importance: np.ndarray) -> np.ndarray:
    """One less the normalized entropy of every row (NaN for a row of zeros, or a single column)."""
    n_columns = importance.shape[-1]
    if n_columns < 2:
        return np.full(importance.shape[:-1], np.nan)
    total = importance.sum(axis=-1, keepdims=True)
    share = importance / np.where(total > 0, total, 1.0)
    entropy = -(share * np.log(np.maximum(share, np.finfo(np.float64).tiny))).sum(axis=-1) / np.log(n_columns)
    return np.where(total[..., 0] > 0, np.clip(1.0 - entropy, 0.0, 1.0), np.nan)


def disentanglement_from_importance(importance: ArrayLike) -> float:
    r"""Disentanglement of an importance matrix :cite:p:`EastwoodWilliams2018`.

    .. math:: \sum_j \frac{\sum_k R_{jk}}{\sum_{jk} R_{jk}} \left(1 - H_K(R_{j\cdot})\right)

    with :math:`H_K` the entropy to base K, the number of covariates, of the row scaled to sum 1.

    ``importance`` has shape (n_dims, n_covariates), at least 0 and finite, otherwise a ValueError is raised. Returns a number in
    [0, 1]; 0 if all is 0, NaN with one covariate.

    Examples
    --------
    >>> disentanglement_from_importance(5 * np.eye(5))
    1.0
    """
    matrix = check_matrix(importance, "importance")
    scores, weights = per_row_disentanglement(matrix), matrix.sum(axis=1)
    used = weights > 0
    if matrix.shape[1] < 2:
        return float("nan")
    return float((scores[used] * weights[used]).sum() / weights.sum()) if used.any() else 0.0


def completeness_from_importance(importance: ArrayLike) -> float:
    r"""Completeness of an importance matrix: as :func:`disentanglement_from_importance`, dimensions and covariates exchanged.

    .. math:: \sum_k \frac{\sum_j R_{jk}}{\sum_{jk} R_{jk}} \left(1 - H_D(R_{\cdot k})\right)

    Examples
    --------
    >>> completeness_from_importance(5 * np.eye(5))
    1.0
    """
    return disentanglement_from_importance(check_matrix(importance, "importance").T)


def dci(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    importance: str = "gain",
    groups: ArrayLike | pd.Series | None = None,
    active: ArrayLike | None = None,
    seed: int = 0,
) -> DCIResult:
    """Disentanglement, completeness and informativeness :cite:p:`EastwoodWilliams2018`.

    Boosted trees (LightGBM, 50 rounds of 8 leaves) predict every covariate from all active dimensions; the importance of a
    dimension is the gain of its splits. Informativeness is the accuracy on cells held out in four folds: balanced accuracy
    corrected for chance, or the squared correlation of predicted and true values (negative if they disagree). A covariate without
    accuracy above that of permuted labels (p above 0.01 over the number of covariates, or accuracy below 0.01) does not vote:
    boosting finds structure in pure noise. The trees see quantile bins, so monotone maps and outliers change nothing.

    Parameters
    ----------
    codes, factors, active
        As in :func:`mig`, and so are errors.
    importance
        ``"gain"`` as above. ``"gbt"`` is that of disentanglement_lib: scikit-learn's gradient boosting at its defaults,
        two thirds of the cells for training, test accuracy as informativeness, all covariates vote.
    groups
        Donor of every cell, none missing. Folds then hold out whole donors, and a covariate that is constant within donors is
        permuted by donor.
    seed
        Seed of folds, trees and permutations.

    Returns
    -------
    DCIResult
        ``disentanglement`` is NaN with a single (voting) covariate, ``completeness`` with a single active dimension; both
        are 0 if no covariate votes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> factors = pd.DataFrame({"a": rng.integers(0, 2, 400).astype(str), "b": rng.uniform(size=400)})
    >>> dci(np.column_stack([factors["a"].astype(float), factors["b"]]), factors).disentanglement > 0.9
    True
    """
    check_choice(importance, ("gain", "gbt"), "importance")
    array, mask, covariates, members = check_inputs(codes, factors, active, groups)
    values = bin_for_trees(array[:, mask]) if importance == "gain" else array[:, mask]
    fits = fit_all(values, covariates, members, importance=importance, seed=seed)
    return assemble(fits, mask, [c.name for c in covariates])


def assemble(fits: list[Fit], mask: np.ndarray, names: list[str], n_codes: int = 0) -> DCIResult:
    """Scores of the fitted covariates; ``n_codes`` pads the matrix with unused dimensions up to that number."""
    n_active = int(mask.sum())
    n_folds = max((len(fit.importances) for fit in fits), default=1)
    folds = np.zeros((n_folds, max(n_active, n_codes), len(fits)))
    for column, fit in enumerate(fits):
        if fit.votes:
            folds[:, :n_active, column] = fit.importances[np.arange(n_folds) % len(fit.importances)]
    votes = np.array([fit.votes for fit in fits])
    importance = folds.mean(axis=0)
    total = importance.sum(axis=0)
    importance = importance / np.where(total > 0, total, 1.0)
    disentanglement, completeness = scores_of(importance, votes)
    per_factor = pd.DataFrame(index=names)
    per_factor["completeness"] = np.where(votes, per_row_disentanglement(importance.T), np.nan)
    per_factor["informativeness"] = [np.nan if fit.undefined else fit.accuracy for fit in fits]
    per_factor["p_value"] = [np.nan if fit.undefined else fit.p_value for fit in fits]
    per_factor["votes"] = votes
    full = np.zeros((len(mask), len(fits)))
    full[mask] = importance[:n_active]
    per_code = np.full(len(mask), np.nan)
    if votes.sum() > 1:
        per_code[mask] = per_row_disentanglement(importance[:n_active, votes])
    index = pd.RangeIndex(len(mask), name="dimension")
    of_code = pd.Series(per_code, index=index, name="disentanglement")
    matrix = pd.DataFrame(full, index=index, columns=names)
    informativeness = float(per_factor["informativeness"].mean())
    return DCIResult(disentanglement, completeness, informativeness, of_code, per_factor, matrix, folds)


def scores_of(importance: np.ndarray, votes: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness over voting columns."""
    if not votes.any():
        return (np.nan if len(votes) < 2 else 0.0), (np.nan if importance.shape[0] == 1 else 0.0)
    return disentanglement_from_importance(importance[:, votes]), completeness_from_importance(importance[:, votes])
