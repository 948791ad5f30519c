"""Fit what guided dimensions need of the training cells: shares of the levels, bins of numbers, a classifier for missing ones."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from ._components import log_normalize, principal_axes
from ._initialization import TrainingCells

logger = logging.getLogger(__name__)

_COMPONENTS = 50


@torch.no_grad()
def fit_guided(module: Any, cells: TrainingCells) -> None:
    """Store the shares of levels and the bins of numbers, and predict missing values from the counts."""
    guided, values = module.guided, cells.guided
    if guided.is_fitted or values is None:
        return
    for k, covariate in enumerate(guided.covariates):
        column = values[:, 1 + k]
        known = column[~np.isnan(column)]
        if covariate.n_levels:
            sizes = np.bincount(known.astype(np.int64), minlength=covariate.n_levels)
        else:
            edges = np.quantile(known, np.arange(1, covariate.n_bins) / covariate.n_bins)
            _fill(getattr(guided, f"edges_{k}"), edges)
            level = np.searchsorted(np.asarray(getattr(guided, f"edges_{k}").cpu()), known)
            sizes = np.bincount(level, minlength=covariate.n_bins)
            sums = np.bincount(level, known, minlength=covariate.n_bins)
            means = np.where(sizes > 0, sums / np.maximum(sizes, 1), covariate.mean)
            _fill(guided.anchors(k), guided.coordinates_of_numbers(k, torch.as_tensor(means))[:, None].numpy())
        _fill(getattr(guided, f"shares_{k}"), sizes / max(sizes.sum(), 1))
    if np.isnan(values).any():
        _fit_imputer(guided, cells, values[:, 1:])
    guided.is_fitted.fill_(value=True)


def _fit_imputer(guided: Any, cells: TrainingCells, values: np.ndarray) -> None:
    """A linear classifier or regression of each covariate with missing values, on log-normalized counts."""
    from sklearn.linear_model import LogisticRegression, Ridge

    logs = log_normalize(cells.counts)
    scores, axes, means = principal_axes(logs, _COMPONENTS)
    column = 0
    for k, covariate in enumerate(guided.covariates):
        width = max(covariate.n_levels, 1)
        unknown = np.isnan(values[:, k])
        if unknown.any():
            logger.info(
                "%s is missing for %d of %d training cells: their levels are predicted from the counts, and they take no part "
                "in the mutual information.",
                covariate.name,
                int(unknown.sum()),
                len(unknown),
            )
            known = values[~unknown, k]
            if covariate.n_levels:
                fitted = LogisticRegression(C=1.0, max_iter=300, class_weight="balanced").fit(scores[~unknown], known)
                weights, bias = np.zeros((width, scores.shape[1])), np.full(width, -np.inf)
                present = fitted.classes_.astype(np.int64)
                if len(present) == 2:  # of which only the second has weights
                    weights[present[1]], bias[present] = fitted.coef_[0], [0.0, fitted.intercept_[0]]
                else:
                    weights[present], bias[present] = fitted.coef_, fitted.intercept_
            else:
                fitted = Ridge(1.0).fit(scores[~unknown], known)
                weights, bias = fitted.coef_[None], np.array([fitted.intercept_])
            by_gene = axes @ weights.T
            _fill(guided.imputer[:-1, column : column + width], by_gene)
            _fill(guided.imputer[-1, column : column + width], np.maximum(bias - means @ by_gene, -1e30))
        column += width


def _fill(buffer: torch.Tensor, values: np.ndarray) -> None:
    """Set a buffer."""
    buffer.copy_(torch.as_tensor(values, dtype=buffer.dtype))
