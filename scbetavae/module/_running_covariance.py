"""The covariance of posterior means, carried over minibatches for DIP-VAE."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._objectives import check_cells_by_dimensions, minibatch_covariance


class RunningCovariance(nn.Module):
    r"""Covariance of the posterior means over recent minibatches, with the gradient of the current one.

    .. math::
        S \leftarrow (1 - m) S + m (B - 1) C_B, \qquad w \leftarrow (1 - m) w + m (B - 1), \qquad C = S / w

    where :math:`C_B` is the covariance within the current minibatch of :math:`B` cells and :math:`m` the momentum.
    A minibatch alone estimates every off-diagonal entry with an error of variance :math:`1 / B`, so that independent
    codes already pay about :math:`D (D - 1) / B`, which the encoder can lower only by shrinking its means. The
    average over minibatches pays about :math:`m / (2 - m)` of that.

    The quotient has no bias towards its start at zero: the first minibatch gives :math:`C = C_B`. A minibatch counts
    by its :math:`B - 1` degrees of freedom, so a small last one does not disturb; one cell says nothing about a
    covariance and leaves the estimate untouched (0 if it is the very first).

    **Gradient.** Differentiating :math:`C` as written would scale the gradient by :math:`m`, and the weights
    of the penalty would change their meaning with the momentum. What the penalty :math:`P` is after is
    :math:`P'(\mathrm{Cov})\, \partial \mathrm{Cov} / \partial \theta`. The first factor comes from the running
    estimate, which has little noise; the second, for which only the current minibatch has a graph, from :math:`C_B`
    in full: the value returned is :math:`C`, its derivative with respect to :math:`C_B` is 1. A penalty of the
    minibatch alone uses :math:`C_B` in both factors, whose noise is squared into the floor.

    In evaluation mode the current minibatch enters the value in the same way, and nothing is stored.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    momentum
        Share of the current minibatch, above 0 and at most 1; 1 is the minibatch alone. The default remembers about ten
        minibatches: longer memories lag behind the encoder.

    Raises
    ------
    ValueError
        If ``n_latent`` is below 1 or ``momentum`` is outside (0, 1].

    References
    ----------
    :cite:p:`Kumar2018`, which take the minibatch alone; the running estimate and its gradient are ours.

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import RunningCovariance
    >>> running_covariance = RunningCovariance(2)
    >>> running_covariance(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    tensor([[1., 1.],
            [1., 1.]])
    >>> running_covariance(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    tensor([[ 1.0000, -0.0526],
            [-0.0526,  1.0000]])
    """

    def __init__(self, n_latent: int, momentum: float = 0.1) -> None:
        super().__init__()
        if n_latent < 1:
            msg = f"n_latent is {n_latent}; expected at least 1."
            raise ValueError(msg)
        if not 0.0 < momentum <= 1.0:
            msg = f"momentum is {momentum}; expected a number above 0 and at most 1 (1: the current minibatch alone)."
            raise ValueError(msg)
        self.momentum = momentum
        self.register_buffer("weighted_sum", torch.zeros(n_latent, n_latent))
        self.register_buffer("weight", torch.zeros(()))

    @property
    def covariance(self) -> Tensor:
        """Stored estimate, tensor of shape (n_latent, n_latent); zeros before the first minibatch of two cells."""
        return _quotient(self.weighted_sum, self.weight)

    def forward(self, mean: Tensor) -> Tensor:
        """Take in a minibatch and return the running covariance.

        Parameters
        ----------
        mean
            Posterior means, tensor of shape (n_cells, n_latent).

        Returns
        -------
        Tensor of shape (n_latent, n_latent), with the gradient of the minibatch's covariance.

        Raises
        ------
        ValueError
            If ``mean`` has another number of dimensions than the estimate, or no cells.
        """
        check_cells_by_dimensions(mean=mean)
        n_cells, n_latent = mean.shape
        if n_latent != self.weighted_sum.shape[0]:
            msg = f"mean has {n_latent} latent dimensions; this running covariance is of {len(self.weighted_sum)}."
            raise ValueError(msg)
        batch = minibatch_covariance(mean)
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
