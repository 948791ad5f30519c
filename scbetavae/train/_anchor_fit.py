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

_FEWEST_CELLS = 20  # of a combination of guided levels that gets an offset of its own


def fit_anchor(module: Any, cells: TrainingCells) -> None:
    """Fit the components that posterior means are anchored to, and store their map.

    Dimensions without a component start unused: encoder and decoder ignore them until the loss needs them. Otherwise the seed
    would decide which of them encode a part of the anchored factors.
    """
    anchor = module.anchor
    device = anchor.weights.device
    values = None if cells.guided is None else torch.as_tensor(cells.guided, device=device)
    found_groups = module.anchor_groups(torch.as_tensor(cells.batch, device=device), values)
    all_groups = np.zeros(len(cells.batch), dtype=np.int64) if found_groups is None else found_groups.cpu().numpy()
    groups, place = (all_groups, None) if module.guided is None else _merge_small(all_groups, anchor.n_groups)
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
    if place is not None:  # every possible group has the offset of the one that it was merged into
        by_group = {name: getattr(found, name)[place] for name in ("offsets", "log_scales") if hasattr(found, name)}
        found = found._replace(**by_group)
    like = anchor.weights
    store(*(torch.as_tensor(array, dtype=like.dtype, device=like.device) for array in found))
    if anchor.n_components:
        _leave_unused(module, anchor.n_components)


def _merge_small(groups: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Groups of enough cells, numbered from 0, with one for all others; and which of them each possible group is in."""
    sizes = np.bincount(groups, minlength=n_groups)
    large = np.flatnonzero(sizes >= _FEWEST_CELLS)
    place = np.full(n_groups, len(large))
    place[large] = np.arange(len(large))
    if len(large) == 0 or sizes[sizes < _FEWEST_CELLS].sum() < _FEWEST_CELLS:  # too few for a group of their own
        place[place == len(large)] = 0 if len(large) == 0 else place[sizes.argmax()]
    return place[groups], place


@torch.no_grad()
def _leave_unused(module: Any, n_used: int) -> None:
    """Let the posterior means of further dimensions be 0, and the decoder not read them."""
    for parameter in (module.z_encoder.mean_encoder.weight, module.z_encoder.mean_encoder.bias):
        parameter[n_used:] = 0.0
    module.decoder.px_decoder.fc_layers[0][0].weight[:, n_used : module.n_latent] = 0.0
