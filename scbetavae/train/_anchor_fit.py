"""Fit the anchor of a model to the cells that it is trained on."""

from __future__ import annotations

import logging

import numpy as np
import torch

from ._components import independent_components, log_normalize
from ._initialization import TrainingCells

logger = logging.getLogger(__name__)


def fit_anchor(anchor: torch.nn.Module, cells: TrainingCells) -> None:
    """Fit the components that posterior means are anchored to, and store their map.

    Parameters
    ----------
    anchor
        A :class:`~scbetavae.module.Anchor`.
    cells
        Training cells.
    """
    groups = cells.batch if anchor.n_groups > 1 else np.zeros(len(cells.batch), dtype=np.int64)
    n_latent = anchor.weights.shape[1]
    found = independent_components(log_normalize(cells.counts), groups, n_latent, n_components=anchor.n_wanted)
    if found.weights.shape[1] < min(2, n_latent):
        logger.info(
            "The anchor found %d components in %d cells: the cells hardly differ. Dimensions may differ between seeds.",
            found.weights.shape[1],
            len(groups),
        )
    like = anchor.weights
    anchor.set_map(*(torch.as_tensor(array, dtype=like.dtype, device=like.device) for array in found))
