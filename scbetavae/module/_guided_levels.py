"""Where cells are in the guided dimensions: at their level or, where it is unknown, by Bayes' rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi import REGISTRY_KEYS
from scvi.module._constants import MODULE_KEYS
from torch import Tensor

from scbetavae._core.constants import GUIDED_KEY

from ._anchor import log_normalize_nonzero
from ._fast_path import negative_log_likelihood
from ._guided import GuidedCoordinates
from ._likelihood import nonzero_structure

if TYPE_CHECKING:
    from ._betavae import BetaVAEModule


def guided_coordinates(
    module: BetaVAEModule, tensors: dict[str, Tensor], inferred: dict[str, Any]
) -> GuidedCoordinates:
    """Coordinates of the cells of a minibatch; ``inferred`` is the result of :meth:`BetaVAEModule.inference`.

    Unknown levels are those that a linear classifier predicts in training, and the mean of their posterior afterwards.
    """
    known = inferred.get(GUIDED_KEY)
    if known is not None:  # by the encoder, or from minified data
        return known
    guided: Any = module.guided
    values = tensors[GUIDED_KEY][:, 1:]
    if values.isnan().any():
        if not module.training:
            return GuidedCoordinates(_expected(module, tensors, inferred, values))
        nonzero = nonzero_structure(tensors[REGISTRY_KEYS.X_KEY])
        values = guided.impute(values, nonzero, log_normalize_nonzero(nonzero))
    return GuidedCoordinates(guided.coordinates(values))


@torch.no_grad()
def level_probabilities(
    module: BetaVAEModule, tensors: dict[str, Tensor], inferred: dict[str, Any], coordinates: Tensor, k: int
) -> Tensor:
    r"""Posterior of the level of covariate ``k``, as if none were known, (cells, levels) in double precision.

    .. math:: q(u \mid x) \propto p(u)\, \mathrm{NB}\big(x \mid f(\mu, m(u))\big)

    with the shares p(u) of the training cells and posterior means of the free dimensions. ``coordinates`` are those in all guided
    dimensions, of which the block of covariate ``k`` is not read.
    """
    guided: Any = module.guided
    block = list(guided.columns.values())[k]
    losses = []
    for anchor in guided.anchors(k):
        here = coordinates.clone()
        here[:, block] = anchor
        outputs = inferred | {MODULE_KEYS.Z_KEY: inferred[MODULE_KEYS.QZ_KEY].loc, GUIDED_KEY: GuidedCoordinates(here)}
        decoded = module.generative(
            **module._get_generative_input(tensors, outputs), for_loss=module.has_fused_likelihood
        )
        losses.append(negative_log_likelihood(decoded[MODULE_KEYS.PX_KEY], tensors).double())
    return torch.softmax(guided.shares[k].double().log() - torch.stack(losses, dim=1), dim=1)


@torch.no_grad()
def _expected(module: BetaVAEModule, tensors: dict[str, Tensor], inferred: dict[str, Any], values: Tensor) -> Tensor:
    """Coordinates with the posterior mean where the value is unknown; one covariate after the other, given the others."""
    guided: Any = module.guided
    coordinates, unknown = guided.coordinates(values), values.isnan()
    blocks = list(guided.columns.values())
    for k, block in enumerate(blocks):
        prior = guided.shares[k] @ guided.anchors(k)
        coordinates[:, block] = torch.where(unknown[:, [k]], prior, coordinates[:, block])
    several = int(unknown.any(dim=0).sum()) > 1
    for _ in range(2 if several else 1):
        for k, block in enumerate(blocks):
            if unknown[:, k].any():
                q = level_probabilities(module, tensors, inferred, coordinates, k).to(coordinates.dtype)
                coordinates[:, block] = torch.where(unknown[:, [k]], q @ guided.anchors(k), coordinates[:, block])
    return coordinates
