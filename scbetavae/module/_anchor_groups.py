"""Groups of cells within which the anchor's targets are centered: batches that the decoder reads, and guided levels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ._betavae import BetaVAEModule

_MOST_GROUPS = 1024  # combinations that are told apart; further covariates are not


def group_sizes(module: BetaVAEModule) -> list[int]:
    """Number of batches that the decoder is conditioned on, at least 1, and of the levels of each guided covariate and none."""
    sizes = [max(module.n_batch, 1) if module.condition_on_batch else 1]
    for covariate in module.guided.covariates if module.guided is not None else ():
        size = covariate.n_bins + 1
        sizes.append(size if math.prod(sizes) * size <= _MOST_GROUPS else 1)
    return sizes


def anchor_groups(module: BetaVAEModule, batch: Tensor, values: Tensor | None) -> Tensor | None:
    """Group of each cell, (cells,), from its batch and its registered guided values; ``None`` if there is only one."""
    sizes = group_sizes(module)
    if math.prod(sizes) == 1:
        return None
    groups = (
        batch.reshape(-1).long() if sizes[0] > 1 else torch.zeros(len(batch), dtype=torch.long, device=batch.device)
    )
    if module.guided is not None and values is not None:
        for level, size in zip((module.guided.levels(values[:, 1:]) + 1).unbind(1), sizes[1:], strict=True):
            groups = groups * size + level.clamp(max=size - 1)
    return groups
