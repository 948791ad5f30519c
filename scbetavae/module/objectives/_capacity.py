"""Capacity: the distance of the mean KL divergence from a target."""

from __future__ import annotations

import torch
from torch import Tensor

from ._objective import Objective, Parameter, Penalty, Posterior
from ._registry import register_objective


def capacity_penalty(kl: Tensor, capacity: float, gamma: float) -> Tensor:
    r"""Distance of the mean KL from a capacity, :math:`\gamma \, | \tfrac1B \sum_i \mathrm{KL}_i - C |`, in nats per cell.

    Not of each cell, because a cell of 20 000 counts carries more information than one of 500. ``kl`` has shape ``(cells,)``.
    """
    return gamma * (kl.mean() - capacity).abs()


@register_objective
class Capacity(Objective):
    r"""Distance of the mean KL from a capacity, which rises with the schedule.

    .. math:: R = \gamma \, \big|\overline{\mathrm{KL}} - C(t)\big|, \qquad C(t) = r(t)\, C

    Arguments: ``capacity``, :math:`C` in nats per cell; ``gamma``, its weight, 10 to 100 for counts (1000 in the paper is for
    images). Source: :cite:t:`Burgess2018`.
    """

    name = "capacity"
    title = "Capacity"
    reference = "Burgess2018"
    arguments = {"capacity": Parameter(10.0), "gamma": Parameter(30.0)}
    history = {"capacity": ("Capacity", "nats per cell")}
    neutral = {"capacity": 0.0, "gamma": 1.0}

    def forward(self, posterior: Posterior, beta: float, fraction: float) -> Penalty:
        kl = posterior.kl.sum(dim=-1)
        running = fraction * self.capacity
        return Penalty(
            running=fraction * capacity_penalty(kl, running, self.gamma),
            full=capacity_penalty(kl, self.capacity, self.gamma),
            parts={"capacity": torch.as_tensor(running, dtype=kl.dtype, device=kl.device)},
        )
