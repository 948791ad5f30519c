"""What a step leaves out: copies, checks and distributions that the loss does not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from scvi import REGISTRY_KEYS
from scvi.nn import FCLayers
from torch.distributions import Distribution

from ._likelihood import NonzeroStructure, fused_negative_binomial_loss

NONZERO_KEYS = ("X_offsets", "X_columns", "X_values")
"""Names of a minibatch's non-zero counts, where its loader knows them: row offsets, gene of each, count."""

LOG1P_KEY = "X_log1p"
"""Name of log(1 + counts), where the loader of a minibatch made it."""


@dataclass(frozen=True)
class DecodedCounts:
    """What the decoder says of a minibatch, for a loss that needs no distribution.

    Parameters
    ----------
    logits
        Log expression up to a constant of each cell, tensor of shape ``(cells, genes)``.
    log_library
        Log library sizes, tensor of shape ``(cells, 1)``.
    log_theta
        Log inverse dispersion, tensor of shape ``(genes,)`` or ``(cells, genes)``.
    """

    logits: torch.Tensor
    log_library: torch.Tensor
    log_theta: torch.Tensor


def run_layers(layers: FCLayers, x: torch.Tensor, categories: list[torch.Tensor]) -> torch.Tensor:
    """Hidden layers. Those that read no covariates run as they are, where scvi-tools copies the input of each."""
    if layers.n_cov or x.ndim != 2:
        return layers(x, *categories)
    for block in layers.fc_layers:
        for layer in block:
            if layer is not None:
                x = layer(x)
    return x


def negative_log_likelihood(px: Distribution | DecodedCounts, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihood of each cell in nats, summed over genes."""
    if not isinstance(px, DecodedCounts):
        return -px.log_prob(tensors[REGISTRY_KEYS.X_KEY]).sum(-1)
    counts = tensors[REGISTRY_KEYS.X_KEY]
    if NONZERO_KEYS[0] in tensors:
        counts = NonzeroStructure(*(tensors[key] for key in NONZERO_KEYS))
    return fused_negative_binomial_loss(px.logits, px.log_library, log_theta=px.log_theta, counts=counts)


@contextmanager
def batch_norm_frozen(module: torch.nn.Module) -> Iterator[None]:
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm1d) and layer.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


def run_sparse_layers(layers: FCLayers, nonzero: NonzeroStructure) -> torch.Tensor:
    """Hidden layers of a sparse input, whose zeros take no part in the first product. Without gradient.

    Parameters
    ----------
    layers
        Layers that read no covariates.
    nonzero
        Non-zero entries of the input.

    Returns
    -------
    Hidden units, tensor of shape ``(cells, n_hidden)``.
    """
    first, *rest = layers.fc_layers[0]
    x = torch.nn.functional.embedding_bag(
        nonzero.columns,
        first.weight.t().contiguous(),
        nonzero.offsets,
        mode="sum",
        per_sample_weights=nonzero.values,
        include_last_offset=True,
    )
    x = x if first.bias is None else x + first.bias
    for layer in [*rest, *(layer for block in layers.fc_layers[1:] for layer in block)]:
        if layer is not None:
            x = layer(x)
    return x
