"""The reconstruction loss together with the layer that computes its logits."""

import torch
from torch import Tensor

from ._likelihood import (
    NonzeroStructure,
    evaluate_loss,
    fused_negative_binomial_loss,
    gradient_by_log_theta,
    nonzero_structure,
)


def fused_output_loss(
    hidden: Tensor,
    output: torch.nn.Linear,
    log_library: Tensor,
    *,
    log_theta: Tensor,
    counts: Tensor | NonzeroStructure,
) -> Tensor:
    """:func:`fused_negative_binomial_loss` (n_cells,) of ``output(hidden)``, the layer included in the same step.

    The gradient of the logits is never weighted by cell nor summed for the bias: its products with ``hidden`` (n_cells,
    n_hidden) and with the weights include the weighting. It can be differentiated once.
    """
    fused = hidden.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(hidden.device.type)
    if not (fused and torch.is_grad_enabled()):
        return fused_negative_binomial_loss(output(hidden), log_library, log_theta=log_theta, counts=counts)
    structure = counts if isinstance(counts, NonzeroStructure) else nonzero_structure(counts)
    structure = structure._replace(values=structure.values.detach().to(hidden.dtype))
    return _FusedOutputLoss.apply(hidden, output.weight, output.bias, log_library, log_theta, *structure)


class _FusedOutputLoss(torch.autograd.Function):
    """As ``_FusedLoss``, of logits that are the output of a layer."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, log_library, log_theta, offsets, columns, values):  # noqa: PLR0913 - torch wants them one by one
        for_library, for_theta = ctx.needs_input_grad[3:5]
        structure = NonzeroStructure(offsets, columns, values)
        for_logits = for_library or any(ctx.needs_input_grad[:3])
        loss, *gradients = (
            evaluate_loss(  # the logits have no name here, so that they go when they are not needed any more
                torch.addmm(bias, hidden, weight.t()),
                log_library,
                log_theta,
                structure,
                for_logits=for_logits,
                for_theta=for_theta,
            )
        )
        ctx.save_for_backward(hidden, weight, log_theta, *gradients)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, weights):
        hidden, weight, log_theta, by_logits, by_library, by_theta = ctx.saved_tensors
        column = weights.unsqueeze(1)
        needs = ctx.needs_input_grad
        return (
            torch.mm(by_logits, weight).mul_(column) if needs[0] else None,
            torch.mm(by_logits.t(), hidden * column) if needs[1] else None,
            torch.mv(by_logits.t(), weights) if needs[2] else None,
            by_library * column if needs[3] else None,
            gradient_by_log_theta(by_theta, log_theta, weights) if needs[4] else None,
            None,
            None,
            None,
        )
