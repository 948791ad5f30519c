"""Disentanglement, completeness, informativeness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics._active import resolve_active
from scbetavae.metrics._checks import check_choice, check_codes, check_factors, check_groups
from scbetavae.metrics.disentanglement._dci_fits import Fit, bin_for_trees, fit_all
from scbetavae.metrics.disentanglement._modularity import check_matrix
from scbetavae.metrics.disentanglement._records import Score, register_score

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_SOURCE = {"family": "dci", "reference": "EastwoodWilliams2018"}
register_score(Score("dci_disentanglement", "DCI disentanglement", **_SOURCE))
register_score(Score("dci_completeness", "DCI completeness", per_covariate=True, **_SOURCE))
register_score(Score("dci_informativeness", "DCI informativeness", per_covariate=True, **_SOURCE))


@dataclass(frozen=True)
class DCIResult:
    """Result of `dci`.

    Attributes
    ----------
    disentanglement
        Weighted mean over dimensions, in [0, 1]: does each dimension serve one covariate?
    completeness
        Weighted mean over covariates, in [0, 1]: is each covariate held by one dimension?
    informativeness
        Mean held-out accuracy over covariates.
    per_code
        Disentanglement of every dimension; NaN where it has no importance.
    per_factor
        DataFrame indexed by covariate: ``completeness``, ``informativeness``, ``p_value`` (of the accuracy), ``votes``.
    importance
        DataFrame (n_dims, n_covariates); columns sum to 1, or are 0 where the covariate does not vote.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    per_code: pd.Series
    per_factor: pd.DataFrame
    importance: pd.DataFrame
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


def _weighted(scores: np.ndarray, weights: np.ndarray) -> float:
    total = weights.sum()
    if total <= 0:
        return 0.0
    used = weights > 0
    return float((scores[used] * weights[used]).sum() / total)


def disentanglement_from_importance(importance: ArrayLike) -> float:
    r"""Disentanglement of an importance matrix.

    .. math:: \sum_j \frac{\sum_k R_{jk}}{\sum_{jk} R_{jk}} \left(1 - H_K(R_{j\cdot})\right)

    with :math:`H_K` the entropy to base K, the number of covariates, of the row scaled to sum 1.

    Parameters
    ----------
    importance
        Shape (n_dims, n_covariates), at least 0.

    Returns
    -------
    A number in [0, 1]; 0 if all is 0, NaN with one covariate.

    Raises
    ------
    ValueError
        If the matrix is not two-dimensional, or has a negative or non-finite entry.

    References
    ----------
    :cite:p:`EastwoodWilliams2018`

    Examples
    --------
    >>> import numpy as np
    >>> from scbetavae.metrics import disentanglement_from_importance
    >>> disentanglement_from_importance(5 * np.eye(5))
    1.0
    """
    matrix = check_matrix(importance, "importance")
    if matrix.shape[1] < 2:
        return float("nan")
    return _weighted(per_row_disentanglement(matrix), matrix.sum(axis=1))


def completeness_from_importance(importance: ArrayLike) -> float:
    r"""Completeness of an importance matrix.

    .. math:: \sum_k \frac{\sum_j R_{jk}}{\sum_{jk} R_{jk}} \left(1 - H_D(R_{\cdot k})\right)

    with :math:`H_D` the entropy to base D, the number of dimensions, of the column scaled to sum 1.

    Parameters
    ----------
    importance
        Shape (n_dims, n_covariates), at least 0.

    Returns
    -------
    A number in [0, 1]; 0 if all is 0, NaN with one dimension.

    Raises
    ------
    ValueError
        If the matrix is not two-dimensional, or has a negative or non-finite entry.

    References
    ----------
    :cite:p:`EastwoodWilliams2018`

    Examples
    --------
    >>> import numpy as np
    >>> from scbetavae.metrics import completeness_from_importance
    >>> completeness_from_importance(5 * np.eye(5))
    1.0
    """
    matrix = check_matrix(importance, "importance")
    if matrix.shape[0] < 2:
        return float("nan")
    return _weighted(per_row_disentanglement(matrix.T), matrix.sum(axis=0))


def dci(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    importance: str = "gain",
    groups: ArrayLike | pd.Series | None = None,
    active: ArrayLike | None = None,
    seed: int = 0,
) -> DCIResult:
    """Disentanglement, completeness and informativeness.

    Boosted trees (LightGBM, 50 rounds of 8 leaves) predict every covariate from all active dimensions; the importance
    of a dimension is the gain of its splits. Informativeness is the accuracy on cells held out in four folds: balanced
    accuracy corrected for chance, or the squared correlation of predicted and true values (negative if they disagree). A
    covariate without accuracy above that of permuted labels (p above 0.01 over the number of covariates, or accuracy below 0.01)
    does not vote: boosting finds structure in pure noise. The trees see quantile bins of the codes, so monotone maps and
    outliers change nothing.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims).
    factors
        Covariates, one row per cell.
    importance
        ``"gain"`` as above. ``"gbt"`` is that of disentanglement_lib: scikit-learn's gradient boosting at its defaults,
        two thirds of the cells to train, test accuracy as informativeness, all covariates vote.
    groups
        Donor of every cell. Folds then hold out whole donors, and a covariate that is constant within donors is
        permuted by donor.
    active
        Boolean mask of the dimensions that take part, by default `active_dimensions`.
    seed
        Seed of folds, trees and permutations.

    Returns
    -------
    DCIResult
        ``disentanglement`` is NaN with a single (voting) covariate, ``completeness`` with a single active dimension; both
        are 0 if no covariate votes.

    Raises
    ------
    ValueError
        If shapes do not agree, codes are not finite, groups are missing, or an option is unknown.

    References
    ----------
    :cite:p:`EastwoodWilliams2018`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import dci
    >>> rng = np.random.default_rng(0)
    >>> factors = pd.DataFrame({"a": rng.integers(0, 2, 400).astype(str), "b": rng.uniform(size=400)})
    >>> codes = np.column_stack([factors["a"].astype(float), factors["b"]])
    >>> dci(codes, factors).disentanglement > 0.9
    True
    """
    check_choice(importance, ("gain", "gbt"), "importance")
    array = check_codes(codes)
    mask = resolve_active(array, active)
    covariates = check_factors(factors, len(array))
    members = check_groups(groups, len(array))
    values = array[:, mask]
    if importance == "gain" and mask.any() and len(values):
        values = bin_for_trees(values)
    fits = fit_all(values, covariates, mask, members, importance=importance, seed=seed)
    return assemble(fits, mask, [c.name for c in covariates])


def assemble(fits: list[Fit], mask: np.ndarray, names: list[str], n_codes: int | None = None) -> DCIResult:
    """Scores of the fitted covariates; ``n_codes`` pads the matrix with unused dimensions up to that number."""
    n_active = int(mask.sum())
    n_folds = max((len(fit.importances) for fit in fits), default=1)
    folds = np.zeros((n_folds, max(n_active, n_codes or 0), len(fits)))
    for column, fit in enumerate(fits):
        if fit.votes:
            repeated = fit.importances[np.arange(n_folds) % len(fit.importances)]
            folds[:, :n_active, column] = repeated
    votes = np.array([fit.votes for fit in fits])
    active_importance = _normalize(folds.mean(axis=0))
    disentanglement, completeness = scores_of(active_importance, votes)
    per_factor = pd.DataFrame(
        {
            "completeness": np.where(votes, per_row_disentanglement(active_importance.T), np.nan),
            "informativeness": [np.nan if fit.undefined else fit.accuracy for fit in fits],
            "p_value": [np.nan if fit.undefined else fit.p_value for fit in fits],
            "votes": votes,
        },
        index=names,
    )
    full = np.zeros((len(mask), len(fits)))
    full[mask] = active_importance[:n_active]
    per_code = np.full(len(mask), np.nan)
    if votes.sum() > 1:
        per_code[mask] = per_row_disentanglement(active_importance[:n_active, votes])
    index = pd.RangeIndex(len(mask), name="dimension")
    accuracies = per_factor["informativeness"].dropna()
    return DCIResult(
        disentanglement,
        completeness,
        float(accuracies.mean()) if len(accuracies) else float("nan"),
        pd.Series(per_code, index=index, name="disentanglement"),
        per_factor,
        pd.DataFrame(full, index=index, columns=names),
        folds,
    )


def scores_of(importance: np.ndarray, votes: np.ndarray) -> tuple[float, float]:
    """Disentanglement and completeness over voting columns."""
    if not votes.any():
        single_covariate, single_dimension = len(votes) < 2, importance.shape[0] == 1
        return (np.nan if single_covariate else 0.0), (np.nan if single_dimension else 0.0)
    voting = importance[:, votes]
    return disentanglement_from_importance(voting), completeness_from_importance(voting)


def _normalize(importance: np.ndarray) -> np.ndarray:
    total = importance.sum(axis=0)
    return importance / np.where(total > 0, total, 1.0)
