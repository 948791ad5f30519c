"""Layers and likelihood of a training step without what the loss does not read.

Our own, because copies, checks and distributions of scvi-tools take a fifth of a step on a CPU, and a dense first product more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from scvi import REGISTRY_KEYS
from scvi.nn import FCLayers
from torch import Tensor
from torch.distributions import Distribution

from ._likelihood import NonzeroStructure, fused_output_loss

_LARGEST_SPARSE_SHARE = 0.3  # of non-zero entries: the dense product is faster for more


class DecodedCounts(NamedTuple):
    """Output of the decoder for a loss that needs no distribution.

    Last hidden units (cells, n_hidden), the layer from them to logits, log library sizes (cells, 1) and log inverse dispersions,
    (genes,) or (cells, genes).
    """

    hidden: Tensor
    output: torch.nn.Linear
    log_library: Tensor
    log_theta: Tensor


def negative_log_likelihood(px: Distribution | DecodedCounts, tensors: dict[str, Tensor]) -> Tensor:
    """Negative log-likelihood of each cell in nats, summed over genes."""
    counts = tensors[REGISTRY_KEYS.X_KEY]
    if not isinstance(px, DecodedCounts):
        return -px.log_prob(counts).sum(-1)
    return fused_output_loss(px.hidden, px.output, px.log_library, log_theta=px.log_theta, counts=counts)


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


def run_layers(layers: FCLayers, x: Tensor, categories: list[Tensor]) -> Tensor:
    """Hidden layers, without the copies of scvi-tools where no layer reads covariates."""
    if layers.n_cov or x.ndim != 2:
        return layers(x, *categories)
    for layer in each_layer(layers):
        x = layer(x)
    return x


def run_sparse_layers(layers: FCLayers, nonzero: NonzeroStructure) -> Tensor:
    """Hidden units (cells, n_hidden) of a sparse input, for layers that read no covariates."""
    first, *rest = each_layer(layers)
    x = _SparseLinear.apply(first.weight, first.bias, *nonzero)
    for layer in rest:
        x = layer(x)
    return x


def column_major(linear: torch.nn.Linear) -> None:
    """Store the weights of a layer input by input, as the product with a sparse input reads them; values and shape stay."""
    linear.weight.data = linear.weight.data.t().contiguous().t()


def each_layer(layers: FCLayers) -> list[Any]:
    """The layers one by one, without the gaps that scvi-tools leaves for those that were not asked for."""
    blocks: Any = layers.fc_layers
    return [layer for block in blocks for layer in block if layer is not None]


class _SparseLinear(torch.autograd.Function):
    """``x W^T + b`` of a sparse ``x``. The gradient of ``W`` is a dense product: there a sparse one is slower."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, *nonzero: Tensor) -> Tensor:
        offsets, columns, values = nonzero
        ctx.save_for_backward(*nonzero)
        ctx.n_inputs = weight.shape[1]
        n_cells = offsets.shape[0] - 1
        if values.device.type != "cpu" or values.shape[0] > _LARGEST_SPARSE_SHARE * n_cells * ctx.n_inputs:
            x = torch.mm(_dense(ctx.n_inputs, *nonzero), weight.t())
        else:
            options = {"mode": "sum", "per_sample_weights": values, "include_last_offset": True}
            x = torch.nn.functional.embedding_bag(columns, weight.t().contiguous(), offsets, **options)
        return x if bias is None else x.add_(bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        dense = _dense(ctx.n_inputs, *ctx.saved_tensors)
        # Computed in the layout of column_major, which the weights have.
        by_weight = torch.mm(dense.t(), gradient).t() if ctx.needs_input_grad[0] else None
        return by_weight, gradient.sum(0) if ctx.needs_input_grad[1] else None, None, None, None


def _dense(n_columns: int, offsets: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Dense matrix of these rows."""
    n_rows = offsets.shape[0] - 1
    starts = torch.arange(n_rows, device=offsets.device).mul_(n_columns)
    where = starts.repeat_interleave(offsets.diff(), output_size=columns.shape[0]).add_(columns)
    dense = values.new_zeros(n_rows, n_columns)
    dense.view(-1).scatter_(0, where, values)
    return dense
