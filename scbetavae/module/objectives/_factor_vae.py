"""FactorVAE: the total correlation, estimated by a discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ._discriminator import Discriminator, discriminator_accuracy, discriminator_loss, permute_dimensions
from ._objective import Objective, Parameter, Penalty, Posterior
from ._registry import register_objective


@register_objective
class FactorVAE(Objective):
    r"""KL and a discriminator's estimate of the total correlation.

    .. math:: R = \mathrm{KL} + \gamma \, \mathbb{E}_{q(z)}[l(z)]

    :math:`l` is the logit of a network that discriminates samples from samples with permuted dimensions. The encoder's step
    leaves no gradient in this network, whose own step leaves none in the encoder.

    Arguments: ``gamma``, the weight, by default beta - 1 as in beta-TCVAE; ``n_hidden`` and ``n_layers`` of the discriminator.
    Source: :cite:t:`KimMnih2018`.
    """

    name = "factor_vae"
    title = "FactorVAE"
    reference = "KimMnih2018"
    uses_beta = True
    needs_gaussian_posterior = True
    has_discriminator = True
    arguments = {
        "gamma": Parameter(None),
        "n_hidden": Parameter(128, low=1, whole=True),
        "n_layers": Parameter(2, low=1, whole=True),
    }
    history = {
        "total_correlation": ("Total correlation", "nats per cell"),
        "discriminator_loss": ("Loss of the discriminator", "nats"),
        "discriminator_accuracy": ("Accuracy of the discriminator", "share"),
    }
    neutral = {"beta": 1.0}

    def __init__(self, n_latent: int, **arguments: Any) -> None:
        super().__init__(n_latent, **arguments)
        # Its random start must not shift the random numbers that everything else draws.
        with torch.random.fork_rng(devices=[]):
            self.discriminator = Discriminator(n_latent, n_hidden=self.n_hidden, n_layers=self.n_layers)

    @classmethod
    def check(cls, arguments: Mapping[str, Any], beta: float = 1.0) -> dict[str, Any]:
        """Values of all arguments, see :meth:`Objective.check`; beta must be at least 1 unless gamma is given."""
        values = super().check(arguments, beta)
        if values["gamma"] is None and beta < 1:
            msg = f"{cls.name} takes beta - 1 as gamma, but beta={beta:g} is below 1. Pass objective_kwargs={{'gamma': ...}}."
            raise ValueError(msg)
        return values

    def forward(self, posterior: Posterior, beta: float, fraction: float) -> Penalty:
        gamma = beta - 1.0 if self.gamma is None else self.gamma
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        total_correlation = torch.func.functional_call(self.discriminator, frozen, (posterior.z,)).mean()
        full = posterior.kl.sum(dim=-1).mean() + gamma * total_correlation
        return Penalty.annealed(full, fraction, total_correlation=total_correlation)

    def discriminator_step(self, z: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Loss in nats, with gradients to the discriminator alone, and accuracy in [0, 1] on samples (cells, dims)."""
        z = z.detach()
        joint, permuted = self.discriminator(z), self.discriminator(permute_dimensions(z, generator))
        return discriminator_loss(joint, permuted), discriminator_accuracy(joint, permuted)
