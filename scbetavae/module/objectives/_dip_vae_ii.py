"""DIP-VAE-II: uncorrelated samples of the posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from ._dip import DIPObjective
from ._registry import register_objective


@register_objective
class DIPVAEII(DIPObjective):
    r"""KL and the distance of the covariance of posterior samples from the identity.

    .. math::
        R = \mathrm{KL} + \lambda_{od} \sum_{a \ne b} C_{ab}^2 + \lambda_d \sum_a (C_{aa} - 1)^2,
        \qquad C = \mathrm{Cov}_x[\mu(x)] + \mathrm{diag}\, \mathbb E_x[\sigma^2(x)]

    Arguments: ``lambda_od``; ``lambda_d``, by default ``lambda_od``; ``momentum``, as in DIP-VAE-I. Source: :cite:t:`Kumar2018`.
    """

    name = "dip_vae_ii"
    title = "DIP-VAE-II"
    diagonal_ratio = 1.0

    @staticmethod
    def regularized(covariance_of_means: Tensor, variance: Tensor) -> Tensor:
        """The posterior variance enters the diagonal alone; its mean over a minibatch has little noise."""
        return covariance_of_means + torch.diag(variance.mean(dim=0))
