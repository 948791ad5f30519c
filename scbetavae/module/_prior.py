"""Priors over the latent codes."""

from __future__ import annotations

import torch
from torch.distributions import Normal


class StandardNormalPrior(torch.nn.Module):
    r"""Standard normal prior, :math:`p(z) = \mathcal{N}(0, I)`.

    The module asks a prior for the distribution of the codes at hand, so that a prior that depends on covariates can take
    its place.
    """

    def forward(self, z: torch.Tensor) -> Normal:
        """Prior of each code.

        Parameters
        ----------
        z
            Codes, tensor of shape ``(..., cells, dims)``.

        Returns
        -------
        Normal distribution of the same shape.
        """
        return Normal(torch.zeros_like(z), torch.ones_like(z))
