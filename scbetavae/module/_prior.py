"""Priors over the latent codes."""

from __future__ import annotations

import torch
from torch.distributions import Distribution, Normal, kl_divergence


class Prior(torch.nn.Module):
    """Base of the priors: what the module asks when it needs the distribution of the codes before any counts were seen.

    A prior that depends on covariates takes the place of the standard normal without a change to the loss.
    """

    def forward(self, z: torch.Tensor) -> Distribution:
        """Prior of each code.

        Parameters
        ----------
        z
            Codes, tensor of shape ``(..., cells, dims)``.

        Returns
        -------
        Distribution of the same shape.
        """
        raise NotImplementedError

    def kl_divergence(self, posterior: Normal) -> torch.Tensor:
        """KL divergence from posterior to prior.

        Parameters
        ----------
        posterior
            Posterior of the codes of a minibatch, of shape ``(cells, dims)``.

        Returns
        -------
        Tensor of shape ``(cells, dims)``, in nats.
        """
        return kl_divergence(posterior, self(posterior.loc))


class StandardNormalPrior(Prior):
    r"""Standard normal prior, :math:`p(z) = \mathcal{N}(0, I)`."""

    def forward(self, z: torch.Tensor) -> Normal:
        return Normal(torch.zeros_like(z), torch.ones_like(z), validate_args=False)

    def kl_divergence(self, posterior: Normal) -> torch.Tensor:
        # The closed form in few steps: a training step calls this.
        variance = posterior.scale.square()
        return 0.5 * (posterior.loc.square() + variance - 1.0 - variance.log())
