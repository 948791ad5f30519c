"""Agreement of dimensions with the components that they were anchored to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

if TYPE_CHECKING:
    from anndata import AnnData

    from ._betavae import BetaVAE

_CONSTANT = 1e-6
"""Standard deviation below which a dimension is constant but for rounding."""


def describe_anchor(
    model: BetaVAE, adata: AnnData, means: np.ndarray, batch_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Stability of each dimension's component, and its correlation with the posterior means; NaN without a component."""
    anchor = model.module.anchor
    if anchor is None or anchor.n_components == 0:
        return np.full(means.shape[1], np.nan), np.full(means.shape[1], np.nan)
    adata = model._validate_anndata(adata)
    targets, groups = [], []
    for tensors in model._make_data_loader(adata, batch_size=batch_size):
        # A batch that is new to the model has no offset; centering within batches makes up for it.
        targets.append(anchor.targets(tensors[REGISTRY_KEYS.X_KEY].to(model.device), None).cpu().double().numpy())
        groups.append(tensors[REGISTRY_KEYS.BATCH_KEY].cpu().numpy().ravel())
    group = np.concatenate(groups) if model.module.condition_on_batch else np.zeros(len(means))
    correlation = _pooled_correlation(means, np.concatenate(targets), group)
    stability = anchor.stability.cpu().double().numpy()
    anchored = anchor.target_kinds.cpu().numpy() > 0
    return np.where(stability >= 0, stability, np.nan), np.where(anchored, correlation, np.nan)


def _pooled_correlation(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Pearson correlation of columns after centering within groups; NaN for a column that is constant."""
    first, second = (
        array - pd.DataFrame(array).groupby(groups).transform("mean").to_numpy() for array in (first, second)
    )
    spread = np.minimum(first.std(axis=0), second.std(axis=0))
    varies = spread > _CONSTANT
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.where(varies, (first * second).sum(axis=0) / np.where(varies, scale, 1.0), np.nan)
