"""What both DIP-VAEs share: the penalty of a covariance, and its estimate over minibatches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ._objective import Objective, Parameter, Penalty, Posterior


def dip_parts(covariance: Tensor) -> tuple[Tensor, Tensor]:
    r"""Off-diagonal and diagonal part of the penalty, :math:`\sum_{a \ne b} C_{ab}^2` and :math:`\sum_a (C_{aa} - 1)^2`."""
    diagonal = covariance.diagonal()
    off_diagonal = covariance - torch.diag(diagonal)
    return off_diagonal.square().sum(), (diagonal - 1.0).square().sum()


class DIPObjective(Objective):
    """KL and the distance of a covariance from the identity; a subclass says of which."""

    reference = "Kumar2018"
    arguments = {
        "lambda_od": Parameter(10.0),
        "lambda_d": Parameter(None),
        "momentum": Parameter(0.1, low=0.0, high=1.0, open_="low"),
    }
    history = {
        "dip_off_diagonal": ("Off-diagonal covariance", "sum of squares"),
        "dip_diagonal": ("Diagonal covariance less 1", "sum of squares"),
    }
    neutral = {"lambda_od": 0.0, "lambda_d": 0.0}
    diagonal_ratio: ClassVar[float]

    def __init__(self, n_latent: int, **arguments: Any) -> None:
        super().__init__(n_latent, **arguments)
        self.running_covariance = RunningCovariance(n_latent, momentum=self.momentum)

    @classmethod
    def check(cls, arguments: Mapping[str, Any], beta: float = 1.0) -> dict[str, Any]:
        """Values of all arguments, see :meth:`Objective.check`; ``lambda_d`` follows from ``lambda_od``."""
        values = super().check(arguments, beta)
        if values["lambda_d"] is None:
            values["lambda_d"] = cls.diagonal_ratio * values["lambda_od"]
        return values

    @staticmethod
    def regularized(covariance_of_means: Tensor, variance: Tensor) -> Tensor:
        """Covariance that should be the identity, tensor of shape ``(dims, dims)``."""
        raise NotImplementedError

    def forward(self, posterior: Posterior, beta: float, fraction: float) -> Penalty:
        covariance = self.regularized(self.running_covariance(posterior.mean), posterior.variance)
        off_diagonal, diagonal = dip_parts(covariance)
        full = posterior.kl.sum(dim=-1).mean() + self.lambda_od * off_diagonal + self.lambda_d * diagonal
        return Penalty.annealed(full, fraction, dip_off_diagonal=off_diagonal, dip_diagonal=diagonal)


def minibatch_covariance(mean: Tensor) -> Tensor:
    """Covariance within a minibatch, divided by its cells as in the paper: (cells, dims) -> (dims, dims)."""
    centered = mean - mean.mean(dim=0)
    return centered.T @ centered / mean.shape[0]


class RunningCovariance(torch.nn.Module):
    r"""Covariance of the posterior means over recent minibatches, with the gradient of the current one.

    .. math::
        S \leftarrow (1 - m) S + m (B - 1) C_B, \qquad w \leftarrow (1 - m) w + m (B - 1), \qquad C = S / w

    where :math:`C_B` is the covariance within the current minibatch of :math:`B` cells and :math:`m` the momentum. A minibatch
    alone estimates off-diagonal entries with an error of variance :math:`1 / B`, so that independent dimensions already pay
    about :math:`D (D - 1) / B`; the average over minibatches pays about :math:`m / (2 - m)` of that. A single cell leaves the
    estimate unchanged (0 if it is the first). In evaluation mode the minibatch enters the value and nothing is stored.

    The derivative of :math:`C` by :math:`C_B` is set to 1, not :math:`m`, so that the weights of the penalty keep their meaning
    for every momentum.
    """

    weighted_sum: Tensor
    weight: Tensor

    def __init__(self, n_latent: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("weighted_sum", torch.zeros(n_latent, n_latent))
        self.register_buffer("weight", torch.zeros(()))

    @property
    def covariance(self) -> Tensor:
        """Stored estimate (dims, dims); zeros before the first minibatch of two cells."""
        return _quotient(self.weighted_sum, self.weight)

    def forward(self, mean: Tensor) -> Tensor:
        """Add a minibatch of posterior means (cells, dims) and return the running covariance (dims, dims)."""
        n_cells, batch = mean.shape[0], minibatch_covariance(mean)
        with torch.no_grad():
            weighted_sum, weight = self.weighted_sum, self.weight
            if n_cells > 1:
                share = self.momentum * (n_cells - 1)
                weighted_sum = (1.0 - self.momentum) * weighted_sum + share * batch
                weight = (1.0 - self.momentum) * weight + share
                if self.training:
                    self.weighted_sum.copy_(weighted_sum)
                    self.weight.copy_(weight)
            running = _quotient(weighted_sum, weight)
        return running + (batch - batch.detach())


def _quotient(weighted_sum: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; zeros while nothing has been seen, without asking the device."""
    return weighted_sum / weight.clamp_min(torch.finfo(weight.dtype).tiny)
