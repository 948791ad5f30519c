r"""The regularizers of the beta-VAE family: pure functions of tensors, one a regularizer.

All information quantities are in nats. Rows of ``z``, ``mean`` and ``variance`` are cells, columns are latent
dimensions; ``z`` holds one posterior sample a cell, drawn from a Gaussian with the mean and variance beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ._running_covariance import RunningCovariance

DIP_KINDS = ("i", "ii")


def gaussian_kl(mean: Tensor, variance: Tensor) -> Tensor:
    r"""KL divergence of a diagonal Gaussian posterior from the standard normal prior.

    .. math::
        \mathrm{KL}\big(\mathcal N(\mu, \sigma^2) \,\|\, \mathcal N(0, 1)\big)
        = \tfrac12 \big(\mu^2 + \sigma^2 - 1 - \log \sigma^2\big)

    The sum over dimensions is the KL of a cell, the regularizer of the VAE.

    Parameters
    ----------
    mean
        Posterior means, tensor of shape (n_cells, n_latent).
    variance
        Posterior variances, the same shape, positive (not checked).

    Returns
    -------
    Tensor of shape (n_cells, n_latent), nats, at least 0.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    :cite:p:`Higgins2017`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import gaussian_kl
    >>> gaussian_kl(torch.ones(1, 10), torch.ones(1, 10)).sum(dim=1)
    tensor([5.])
    """
    if mean.shape != variance.shape:
        msg = f"mean has shape {tuple(mean.shape)} and variance {tuple(variance.shape)}: pass two of the same shape."
        raise ValueError(msg)
    return 0.5 * (mean.square() + variance - 1.0 - variance.log())


def capacity_penalty(kl: Tensor, capacity: float, gamma: float) -> Tensor:
    r"""Distance of the mean KL divergence from a capacity.

    .. math::
        \gamma \, \Big| \tfrac1B \sum_i \mathrm{KL}_i - C \Big|

    The mean over the minibatch is held at :math:`C`, not the KL of each cell: a cell of 20 000 counts carries more
    information than one of 500, and may use more of the capacity.

    Parameters
    ----------
    kl
        KL of each cell, summed over dimensions, tensor of shape (n_cells,), nats.
    capacity
        Target :math:`C` of the mean KL, nats per cell, at least 0.
    gamma
        Weight of the penalty, at least 0: 10 to 100 for counts (the 1000 of the paper is for images).

    Returns
    -------
    Scalar tensor, nats per cell, at least 0.

    Raises
    ------
    ValueError
        If ``kl`` has another shape or no cells, or ``capacity`` or ``gamma`` is negative.

    References
    ----------
    :cite:p:`Burgess2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import capacity_penalty
    >>> capacity_penalty(torch.tensor([2.0, 6.0]), capacity=5.0, gamma=10.0)
    tensor(10.)
    """
    if kl.ndim != 1 or kl.shape[0] == 0:
        msg = f"kl has shape {tuple(kl.shape)}; expected (n_cells,). Sum the KL over dimensions and keep the cells."
        raise ValueError(msg)
    _check_non_negative(capacity=capacity, gamma=gamma)
    return gamma * (kl.mean() - capacity).abs()


def permute_dimensions(z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Shuffle every column independently across cells.

    .. math::
        \tilde z_{id} = z_{\pi_d(i),\, d}, \qquad \pi_1, \dots, \pi_D \text{ independent permutations of the cells}

    If the rows of ``z`` are samples of :math:`q(z)`, those of the result are, up to the finite minibatch, samples of
    :math:`\prod_d q(z_d)`: each column keeps its values, the dependence between columns is gone.
    Shuffling dimensions *within* a cell would mix the marginals, and is not this.

    Parameters
    ----------
    z
        Posterior samples, tensor of shape (n_cells, n_latent). Gradients pass: detach for the discriminator step.
    generator
        Source of randomness; torch's global one unless given. May live on another device than ``z``.

    Returns
    -------
    Tensor of the shape of ``z``; with one cell, ``z`` itself in value.

    Raises
    ------
    ValueError
        If ``z`` is not two-dimensional or has no cells.

    References
    ----------
    :cite:p:`KimMnih2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import permute_dimensions
    >>> z = torch.arange(6.0).reshape(3, 2)
    >>> permuted = permute_dimensions(z, torch.Generator().manual_seed(0))
    >>> permuted.sort(dim=0).values.equal(z)
    True
    """
    check_cells_by_dimensions(z=z)
    source = z.device if generator is None else generator.device
    order = torch.rand(z.shape, generator=generator, device=source).argsort(dim=0).to(z.device)
    return z.gather(0, order)


def dip_penalty(
    mean: Tensor,
    variance: Tensor,
    kind: str,
    lambda_od: float,
    lambda_d: float,
    *,
    running_covariance: RunningCovariance | None = None,
) -> Tensor:
    r"""Penalty of DIP-VAE-I and DIP-VAE-II: the covariance of the codes should be the identity.

    .. math::
        \lambda_{od} \sum_{a \ne b} C_{ab}^2 + \lambda_d \sum_a (C_{aa} - 1)^2

    with the covariance :math:`C` of :func:`dip_covariance`.

    Parameters
    ----------
    mean, variance
        Of the posterior, tensors of shape (n_cells, n_latent).
    kind
        ``"i"`` or ``"ii"``, see :func:`dip_covariance`.
    lambda_od, lambda_d
        Weights of the off-diagonal and diagonal part, at least 0. The paper takes ``lambda_d = 10 * lambda_od`` for I
        and ``lambda_d = lambda_od`` for II, ``lambda_od`` from 1 to 50.
    running_covariance
        Estimate carried over minibatches; the minibatch alone unless given.

    Returns
    -------
    Scalar tensor, at least 0.

    Raises
    ------
    ValueError
        If the shapes are not one common (n_cells, n_latent), the kind is unknown or a weight is negative.

    References
    ----------
    :cite:p:`Kumar2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import dip_penalty
    >>> mean, variance = torch.zeros(8, 10), torch.ones(8, 10)
    >>> dip_penalty(mean, variance, "i", 1.0, 1.0), dip_penalty(mean, variance, "ii", 1.0, 1.0)
    (tensor(10.), tensor(0.))
    """
    _check_non_negative(lambda_od=lambda_od, lambda_d=lambda_d)
    covariance = dip_covariance(mean, variance, kind, running_covariance=running_covariance)
    off_diagonal, diagonal = dip_parts(covariance)
    return lambda_od * off_diagonal + lambda_d * diagonal


def dip_covariance(
    mean: Tensor, variance: Tensor, kind: str, *, running_covariance: RunningCovariance | None = None
) -> Tensor:
    r"""Covariance that DIP-VAE holds to the identity.

    .. math::
        C^{\mathrm{I}} = \mathrm{Cov}_x[\mu(x)], \qquad
        C^{\mathrm{II}} = \mathrm{Cov}_x[\mu(x)] + \mathrm{diag}\, \mathbb E_x[\sigma^2(x)]

    Means are centered over cells and products averaged over them (divided by B, as in the paper, so that one cell has
    covariance 0). In kind II, the covariance of the sampled codes, the posterior variance enters the *diagonal* alone.

    Parameters
    ----------
    mean, variance
        Of the posterior, tensors of shape (n_cells, n_latent).
    kind
        ``"i"`` or ``"ii"``.
    running_covariance
        Estimate of the covariance of the means carried over minibatches; the minibatch alone unless given.

    Returns
    -------
    Tensor of shape (n_latent, n_latent), symmetric.

    Raises
    ------
    ValueError
        If the shapes are not one common (n_cells, n_latent) or the kind is unknown.

    References
    ----------
    :cite:p:`Kumar2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import dip_covariance
    >>> dip_covariance(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.full((2, 2), 0.5), "ii")
    tensor([[1.5000, 1.0000],
            [1.0000, 1.5000]])
    """
    check_cells_by_dimensions(mean=mean, variance=variance)
    if kind not in DIP_KINDS:
        msg = f"kind is {kind!r}; expected one of {', '.join(map(repr, DIP_KINDS))}."
        raise ValueError(msg)
    covariance = minibatch_covariance(mean) if running_covariance is None else running_covariance(mean)
    if kind == "ii":
        # The average variance has little noise in a minibatch: only the covariance is carried over.
        covariance = covariance + torch.diag(variance.mean(dim=0))
    return covariance


def dip_parts(covariance: Tensor) -> tuple[Tensor, Tensor]:
    r"""Off-diagonal and diagonal part of the DIP-VAE penalty, before their weights.

    .. math::
        \sum_{a \ne b} C_{ab}^2, \qquad \sum_a (C_{aa} - 1)^2

    Parameters
    ----------
    covariance
        Tensor of shape (n_latent, n_latent), see :func:`dip_covariance`.

    Returns
    -------
    Two scalar tensors, off-diagonal and diagonal, at least 0.

    Raises
    ------
    ValueError
        If the covariance is not a square matrix.

    References
    ----------
    :cite:p:`Kumar2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import dip_parts
    >>> dip_parts(torch.ones(10, 10))
    (tensor(90.), tensor(0.))
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        msg = f"covariance has shape {tuple(covariance.shape)}; expected a square matrix (n_latent, n_latent)."
        raise ValueError(msg)
    diagonal = covariance.diagonal()
    off_diagonal = covariance - torch.diag(diagonal)
    return off_diagonal.square().sum(), (diagonal - 1.0).square().sum()


def minibatch_covariance(mean: Tensor) -> Tensor:
    """Covariance within a minibatch, divided by its cells: (n_cells, n_latent) -> (n_latent, n_latent)."""
    centered = mean - mean.mean(dim=0)
    return centered.T @ centered / mean.shape[0]


def check_cells_by_dimensions(**tensors: Tensor) -> None:
    """Raise ValueError unless all tensors have one common shape (n_cells, n_latent), neither of them 0."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first = next(iter(shapes.values()))
    if len(first) != 2 or 0 in first or set(shapes.values()) != {first}:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        msg = f"Shapes are {got}; expected one common (n_cells, n_latent) with at least one cell and one dimension."
        raise ValueError(msg)


def _check_non_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number >= 0:
            msg = f"{name} is {number}; expected a number that is at least 0."
            raise ValueError(msg)
