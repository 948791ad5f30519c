"""DIP-VAE-I: uncorrelated posterior means."""

from __future__ import annotations

from torch import Tensor

from ._dip import DIPObjective
from ._registry import register_objective


@register_objective
class DIPVAEI(DIPObjective):
    r"""KL and the distance of the covariance of the posterior means from the identity.

    .. math::
        R = \mathrm{KL} + \lambda_{od} \sum_{a \ne b} C_{ab}^2 + \lambda_d \sum_a (C_{aa} - 1)^2,
        \qquad C = \mathrm{Cov}_x[\mu(x)]

    Arguments: ``lambda_od``; ``lambda_d``, by default 10 times ``lambda_od``; ``momentum``, the share of a minibatch in the
    running covariance (1 is the minibatch alone). Source: :cite:t:`Kumar2018`.
    """

    name = "dip_vae_i"
    title = "DIP-VAE-I"
    diagonal_ratio = 10.0

    @staticmethod
    def regularized(covariance_of_means: Tensor, variance: Tensor) -> Tensor:  # noqa: ARG004 - variance is for DIP-VAE-II
        """The covariance of the posterior means itself."""
        return covariance_of_means
