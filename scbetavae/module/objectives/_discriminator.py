"""Density-ratio network of FactorVAE: discriminates posterior samples from samples with permuted dimensions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class Discriminator(nn.Module):
    r"""Network whose logit is the log density ratio of the samples to the product of their marginals.

    Trained by :func:`discriminator_loss`, its logit :math:`l(z)` tends to :math:`\log q(z) - \log \prod_d q(z_d)`, so that

    .. math:: \mathrm{TC}(z) \approx \frac1B \sum_i l(z_i)

    The paper has two outputs, whose softmax depends on their difference alone: :math:`l = D_0 - D_1`, one output here. Its
    6 x 1000 units and learning rate of 1e-4 are for images; for about ten dimensions and a few thousand minibatches, 2 x 128
    at 1e-3 comes as near to the density ratio as 3 x 256, in less than half the time.
    """

    def __init__(self, n_latent: int, n_hidden: int = 128, n_layers: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise([n_latent, *[n_hidden] * n_layers]):
            layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(n_hidden, 1))

    def forward(self, z: Tensor) -> Tensor:
        """Logit of each sample (cells, dims) -> (cells,) in nats: positive where it resembles an unpermuted sample."""
        return self.layers(z).squeeze(1)


def permute_dimensions(z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Shuffle every column of ``z`` (cells, dims) independently across cells.

    .. math::
        \tilde z_{id} = z_{\pi_d(i),\, d}, \qquad \pi_1, \dots, \pi_D \text{ independent permutations of the cells}

    From samples of :math:`q(z)` this makes, up to the finite minibatch, samples of :math:`\prod_d q(z_d)`.
    """
    source = z.device if generator is None else generator.device
    order = torch.rand(z.shape, generator=generator, device=source).argsort(dim=0).to(z.device)
    return z.gather(0, order)


def discriminator_loss(logits_joint: Tensor, logits_permuted: Tensor) -> Tensor:
    r"""Cross-entropy in nats of samples against permuted samples; log 2 = .693 for guessing.

    .. math::
        -\tfrac12 \Big( \tfrac1B \sum_i \log \varsigma\big(l(z_i)\big)
        + \tfrac1{B'} \sum_j \log \big(1 - \varsigma(l(\tilde z_j))\big) \Big)

    with the logistic function :math:`\varsigma`, computed from the logits: the logarithm of a sigmoid would underflow.
    """
    return 0.5 * (softplus(-logits_joint).mean() + softplus(logits_permuted).mean())


def discriminator_accuracy(logits_joint: Tensor, logits_permuted: Tensor) -> Tensor:
    """Share of samples and permuted samples classified correctly, each kind counting half; a logit of 0 is half right."""
    agreement = logits_joint.sign().mean() - logits_permuted.sign().mean()
    return (0.5 + 0.25 * agreement).detach()
