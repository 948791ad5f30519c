"""Beta-VAE: the KL divergence from the prior, times beta."""

from __future__ import annotations

from torch import Tensor

from ._objective import Objective, Penalty, Posterior
from ._registry import register_objective


def gaussian_kl(mean: Tensor, variance: Tensor) -> Tensor:
    r"""KL of a Gaussian from the standard normal by dimension, :math:`(\mu^2 + \sigma^2 - 1 - \log \sigma^2) / 2`, in nats."""
    return 0.5 * (mean.square() + variance - 1.0 - variance.log())


@register_objective
class BetaVAE(Objective):
    r"""KL from the prior, weighted: :math:`R = \beta \, \mathrm{KL}(q(z \mid x) \,\|\, p(z))` :cite:p:`Higgins2017`."""

    name = "beta_vae"
    title = "beta-VAE"
    reference = "Higgins2017"
    uses_beta = True
    neutral = {"beta": 1.0}

    def forward(self, posterior: Posterior, beta: float, fraction: float) -> Penalty:
        return Penalty.annealed(beta * posterior.kl.sum(dim=-1).mean(), fraction)
