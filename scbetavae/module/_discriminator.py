r"""Density-ratio network of FactorVAE: tells codes from codes whose columns were shuffled."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import softplus


class Discriminator(nn.Module):
    r"""Network whose logit is the log density ratio of the codes to the product of their marginals.

    Trained by :func:`discriminator_loss` to tell samples of :math:`q(z)` from samples of
    :math:`\bar q(z) = \prod_d q(z_d)`, its logit :math:`l(z)` tends to :math:`\log q(z) - \log \bar q(z)`, so that

    .. math::
        \mathrm{TC}(z) = \mathbb E_{q(z)} \log \frac{q(z)}{\bar q(z)} \approx \frac1B \sum_i l(z_i)

    The paper has two outputs and the estimate :math:`\mathbb E[D_0(z) - D_1(z)]`. Their softmax depends on the
    difference alone: :math:`l = D_0 - D_1` is that difference, from one output.

    Layers are linear with LeakyReLU(0.2) between them. The paper's 6 x 1000 units and learning rate of 1e-4 read image
    codes for hundreds of thousands of steps. For ten-odd dimensions, minibatches of 128 cells and a few thousand steps
    the default is 2 x 128 (18 049 weights at D = 10), to be trained at about 1e-3: on Gaussian and on clustered codes
    it comes about as near to the density ratio in 1000 minibatches as 3 x 256, in less than half the time; at 1e-4 it
    does not keep up with so short a training.

    Parameters
    ----------
    n_latent
        Latent dimensions D, at least 1.
    n_hidden
        Units of a hidden layer, at least 1.
    n_layers
        Hidden layers, at least 1.

    Raises
    ------
    ValueError
        If an argument is below 1.

    References
    ----------
    :cite:p:`KimMnih2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import Discriminator
    >>> Discriminator(n_latent=10)(torch.zeros(128, 10)).shape
    torch.Size([128])
    """

    def __init__(self, n_latent: int, n_hidden: int = 128, n_layers: int = 2) -> None:
        super().__init__()
        for name, number in {"n_latent": n_latent, "n_hidden": n_hidden, "n_layers": n_layers}.items():
            if number < 1:
                msg = f"{name} is {number}; expected at least 1."
                raise ValueError(msg)
        self.n_latent = n_latent
        widths = [n_latent, *[n_hidden] * n_layers]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(n_hidden, 1))

    def forward(self, z: Tensor) -> Tensor:
        """Logit of each code: positive where it looks like a code, negative where like a shuffled one.

        Parameters
        ----------
        z
            Codes, tensor of shape (n_cells, n_latent). Detach them for the discriminator's own step.

        Returns
        -------
        Tensor of shape (n_cells,), nats; its mean over codes is the estimate of the total correlation.

        Raises
        ------
        ValueError
            If ``z`` has another number of dimensions.
        """
        if z.ndim != 2 or z.shape[1] != self.n_latent:
            msg = f"z has shape {tuple(z.shape)}; expected (n_cells, {self.n_latent})."
            raise ValueError(msg)
        return self.layers(z).squeeze(1)


def discriminator_loss(logits_joint: Tensor, logits_permuted: Tensor) -> Tensor:
    r"""Cross-entropy of telling codes from shuffled codes.

    .. math::
        -\tfrac12 \Big( \tfrac1B \sum_i \log \varsigma\big(l(z_i)\big)
        + \tfrac1{B'} \sum_j \log \big(1 - \varsigma(l(\tilde z_j))\big) \Big)

    with the logistic function :math:`\varsigma`, computed from the logits: a logarithm of a sigmoid underflows once
    the discriminator is sure.

    Parameters
    ----------
    logits_joint
        Logits of codes, tensor of shape (n_cells,).
    logits_permuted
        Logits of codes after :func:`permute_dimensions`, tensor of shape (n_permuted,); as many or not.

    Returns
    -------
    Scalar tensor, nats: log 2 = .693 for a discriminator that cannot tell, towards 0 for one that can.

    Raises
    ------
    ValueError
        If either is not a vector or is empty.

    References
    ----------
    :cite:p:`KimMnih2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import discriminator_loss
    >>> discriminator_loss(torch.zeros(4), torch.zeros(4))
    tensor(0.6931)
    """
    _check_logits(logits_joint=logits_joint, logits_permuted=logits_permuted)
    return 0.5 * (softplus(-logits_joint).mean() + softplus(logits_permuted).mean())


def discriminator_accuracy(logits_joint: Tensor, logits_permuted: Tensor) -> Tensor:
    """Share of codes and shuffled codes that the discriminator tells right, each kind counting half.

    Parameters
    ----------
    logits_joint, logits_permuted
        As for :func:`discriminator_loss`.

    Returns
    -------
    Scalar tensor from 0 to 1 without gradient; .5 for guessing. A logit of exactly 0 is half right.

    Raises
    ------
    ValueError
        If either is not a vector or is empty.

    References
    ----------
    :cite:p:`KimMnih2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import discriminator_accuracy
    >>> discriminator_accuracy(torch.tensor([2.0, 1.0]), torch.tensor([-1.0, 3.0]))
    tensor(0.7500)
    """
    _check_logits(logits_joint=logits_joint, logits_permuted=logits_permuted)
    agreement = logits_joint.sign().mean() - logits_permuted.sign().mean()
    return (0.5 + 0.25 * agreement).detach()


def _check_logits(**logits: Tensor) -> None:
    for name, tensor in logits.items():
        if tensor.ndim != 1 or len(tensor) == 0:
            msg = f"{name} has shape {tuple(tensor.shape)}; expected (n_cells,) with at least one cell."
            raise ValueError(msg)
