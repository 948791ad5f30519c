"""Fit the anchor of a model to its training cells."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from ._components import independent_components, log_normalize
from ._initialization import TrainingCells
from ._programs import find_programs

logger = logging.getLogger(__name__)


def fit_anchor(module: Any, cells: TrainingCells) -> None:
    """Fit the components that posterior means are anchored to, and store their map.

    Dimensions without a component start unused: encoder and decoder ignore them until the loss needs them. Otherwise the seed
    would decide which of them encode a part of the anchored factors.
    """
    anchor = module.anchor
    groups = cells.batch if anchor.n_groups > 1 else np.zeros(len(cells.batch), dtype=np.int64)
    n_latent = anchor.weights.shape[1]
    logs = log_normalize(cells.counts)
    if anchor.kind == "programs":
        found, n_wanted = find_programs(logs, groups, n_latent, n_components=anchor.n_wanted)
        store = anchor.set_programs
        if n_wanted > n_latent:
            logger.info(
                "The cells differ in more ways than n_latent=%d has dimensions for: the anchor would take %d. "
                "Programs may share a dimension.",
                n_latent,
                n_wanted,
            )
    else:
        found, store = independent_components(logs, groups, n_latent, n_components=anchor.n_wanted), anchor.set_map
    if found.weights.shape[1] < min(2, n_latent):
        logger.info(
            "The anchor found %d components in %d cells: the cells hardly differ. Dimensions may differ between seeds.",
            found.weights.shape[1],
            len(groups),
        )
    like = anchor.weights
    store(*(torch.as_tensor(array, dtype=like.dtype, device=like.device) for array in found))
    if anchor.n_components:
        _leave_unused(module, anchor.n_components)


@torch.no_grad()
def _leave_unused(module: Any, n_used: int) -> None:
    """Let the posterior means of further dimensions be 0, and the decoder not read them."""
    for parameter in (module.z_encoder.mean_encoder.weight, module.z_encoder.mean_encoder.bias):
        parameter[n_used:] = 0.0
    module.decoder.px_decoder.fc_layers[0][0].weight[:, n_used : module.n_latent] = 0.0
