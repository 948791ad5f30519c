"""Layers and likelihood of a training step without what the loss does not read.

Our own, because copies, checks and distributions of scvi-tools take a fifth of a step on a CPU, and a dense first product more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from scvi import REGISTRY_KEYS
from scvi.nn import FCLayers
from torch.distributions import Distribution

from ._likelihood import NonzeroStructure, fused_output_loss

# Of a minibatch with more non-zero entries than this the dense product is faster.
_LARGEST_SPARSE_SHARE = 0.3


class DecodedCounts(NamedTuple):
    """Output of the decoder for a loss that needs no distribution.

    Last hidden units (cells, n_hidden), the layer from them to logits, log library sizes (cells, 1) and log inverse dispersions,
    (genes,) or (cells, genes).
    """

    hidden: torch.Tensor
    output: torch.nn.Linear
    log_library: torch.Tensor
    log_theta: torch.Tensor


def run_layers(layers: FCLayers, x: torch.Tensor, categories: list[torch.Tensor]) -> torch.Tensor:
    """Hidden layers, without the copies of scvi-tools where no layer reads covariates."""
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
    return fused_output_loss(
        px.hidden, px.output, px.log_library, log_theta=px.log_theta, counts=tensors[REGISTRY_KEYS.X_KEY]
    )


@contextmanager
def batch_norm_frozen(module: torch.nn.Module) -> Iterator[None]:
    """Batch norm uses its running statistics, and leaves them alone."""
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm1d) and layer.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


def run_sparse_layers(layers: FCLayers, nonzero: NonzeroStructure) -> torch.Tensor:
    """Hidden units (cells, n_hidden) of a sparse input, for layers that read no covariates."""
    first, *rest = layers.fc_layers[0]
    x = _SparseLinear.apply(first.weight, first.bias, *nonzero)
    for layer in [*rest, *(layer for block in layers.fc_layers[1:] for layer in block)]:
        if layer is not None:
            x = layer(x)
    return x


def column_major(linear: torch.nn.Linear) -> None:
    """Store the weights of a layer input by input, as the product with a sparse input reads them; values and shape stay."""
    linear.weight.data = linear.weight.data.t().contiguous().t()


class _SparseLinear(torch.autograd.Function):
    """``x W^T + b`` of a sparse ``x``. The gradient of ``W`` is a dense product: there a sparse one is slower."""

    @staticmethod
    def forward(ctx, weight, bias, offsets, columns, values):
        ctx.save_for_backward(offsets, columns, values)
        ctx.n_inputs = weight.shape[1]
        n_cells = offsets.shape[0] - 1
        if values.device.type != "cpu" or values.shape[0] > _LARGEST_SPARSE_SHARE * n_cells * weight.shape[1]:
            x = torch.mm(_dense(offsets, columns, values, weight.shape[1]), weight.t())
        else:
            x = torch.nn.functional.embedding_bag(
                columns,
                weight.t().contiguous(),
                offsets,
                mode="sum",
                per_sample_weights=values,
                include_last_offset=True,
            )
        return x if bias is None else x.add_(bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        dense = _dense(*ctx.saved_tensors, ctx.n_inputs)
        # Computed in the layout of column_major, which the weights have.
        by_weight = torch.mm(dense.t(), gradient).t() if ctx.needs_input_grad[0] else None
        return by_weight, gradient.sum(0) if ctx.needs_input_grad[1] else None, None, None, None


def _dense(offsets: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, n_columns: int) -> torch.Tensor:
    """Dense matrix of these rows."""
    n_rows = offsets.shape[0] - 1
    starts = torch.arange(n_rows, device=offsets.device).mul_(n_columns)
    where = torch.repeat_interleave(starts, offsets.diff(), output_size=columns.shape[0]).add_(columns)
    dense = values.new_zeros(n_rows, n_columns)
    dense.view(-1).scatter_(0, where, values)
    return dense
