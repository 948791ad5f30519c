"""Total correlation of a latent representation, estimated in a minibatch, in nats."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scbetavae._core.checks import check_choice

ESTIMATORS = ("mss", "mws")

_LOG_2_PI = math.log(2.0 * math.pi)
_MAX_PAIRS = 2**22
"""Entries of the cells x cells x dimensions array held at once (16 MiB in float32)."""


class TotalCorrelationTerms(NamedTuple):
    """Parts of the KL divergence, scalar tensors in nats per cell."""

    mutual_information: Tensor
    total_correlation: Tensor
    dimension_kl: Tensor


def mss_log_weights(
    batch_size: int, n_obs: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    r"""Log importance weights of minibatch stratified sampling (MSS), tensor of shape (batch_size, batch_size).

    With :math:`B` cells in the minibatch, :math:`M = B - 1` and :math:`N` training cells, row :math:`i` has

    .. math::
        w_{ii} = \frac1N, \qquad w_{i,\,i+1 \bmod B} = \frac{N - M}{N M}, \qquad w_{ij} = \frac1M \text{ otherwise,}

    and sums to 1, so that :math:`\sum_j w_{ij}\, q(z_i \mid x_j)` is an unbiased estimate of
    :math:`q(z_i) = \frac1N \sum_n q(z_i \mid x_n)`: the cell that generated :math:`z_i` is always in the minibatch and
    must count as one cell of N. The weight :math:`1/N` therefore stands on the *diagonal*; in column 0, where much public
    code has it, the estimate is that of the plain minibatch average. N below B, which would make the second weight negative,
    is read as N = B.
    """
    n_obs = _population_size(batch_size, n_obs)
    n_others = batch_size - 1
    if n_others == 0:
        return torch.zeros(1, 1, device=device, dtype=dtype)
    weights = torch.full((batch_size, batch_size), -math.log(n_others), device=device, dtype=dtype)
    cells = torch.arange(batch_size, device=device)
    weights[cells, (cells + 1) % batch_size] = math.log((n_obs - n_others) / (n_obs * n_others))
    weights.fill_diagonal_(-math.log(n_obs))
    return weights


def total_correlation_terms(
    z: Tensor, mean: Tensor, variance: Tensor, n_obs: int, estimator: str = "mss"
) -> TotalCorrelationTerms:
    r"""Split the KL divergence into mutual information, total correlation and dimension-wise KL.

    .. math::
        \mathbb E_x \mathrm{KL}\big(q(z \mid x) \,\|\, p(z)\big)
        = \underbrace{\mathbb E \log \tfrac{q(z \mid x)}{q(z)}}_{I(x;\, z)}
        + \underbrace{\mathbb E \log \tfrac{q(z)}{\prod_d q(z_d)}}_{\mathrm{TC}(z)}
        + \underbrace{\mathbb E \log \tfrac{\prod_d q(z_d)}{p(z)}}_{\sum_d \mathrm{KL}(q(z_d) \| p(z_d))}

    with :math:`p(z) = \mathcal N(0, I)`. The aggregate :math:`q(z) = \frac1N \sum_n q(z \mid x_n)`
    is estimated from the minibatch, :math:`q(z_i) \approx \sum_j w_{ij}\, q(z_i \mid x_j)`, with the weights of

    - ``"mss"``, minibatch stratified sampling: with :math:`1 / N` for the cell itself;
    - ``"mws"``, minibatch weighted sampling: :math:`w_{ij} = 1 / (N B)`. It has the gradient of the plain minibatch
      average :math:`1 / B`, and its total correlation is larger than that by :math:`(D - 1) \log N`: a training
      signal, never a number to report.

    The three terms add up to the Monte Carlo KL, whatever the estimator. Each is a training signal: it can be
    negative, and it saturates once the KL is much larger than :math:`\log N`, because then no other cell of
    the minibatch has a density worth counting at :math:`z_i`.

    Parameters
    ----------
    z
        One sample of the posterior per cell, tensor of shape (n_cells, n_latent).
    mean, variance
        Moments of the posterior, the same shape; variances positive (not checked).
    n_obs
        Number of *training* cells, at least 1; below n_cells it is read as n_cells.
    estimator
        ``"mss"`` or ``"mws"``.

    Returns
    -------
    Named tuple ``(mutual_information, total_correlation, dimension_kl)`` of scalar tensors, nats, averaged over cells.
    Half-precision input is computed in float32. There is a first derivative only.

    Raises
    ------
    ValueError
        If the shapes are not one common (n_cells, n_latent), ``n_obs`` is below 1 or the estimator is unknown.

    References
    ----------
    :cite:p:`Chen2018`

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import total_correlation_terms
    >>> z = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> terms = total_correlation_terms(z, mean=z, variance=torch.full((2, 2), 0.1), n_obs=2)
    >>> [round(term.item(), 3) for term in terms]
    [0.693, 0.68, 1.43]
    """
    if z.ndim != 2 or 0 in z.shape or not z.shape == mean.shape == variance.shape:
        got = ", ".join(f"{name} {tuple(t.shape)}" for name, t in (("z", z), ("mean", mean), ("variance", variance)))
        msg = f"Shapes are {got}; expected one common (n_cells, n_latent) with at least one cell and one dimension."
        raise ValueError(msg)
    check_choice(estimator, ESTIMATORS, "estimator")
    # Densities of distant cells span hundreds of nats: half precision has not the digits.
    dtype = torch.promote_types(z.dtype, torch.float32)
    z, mean, variance = z.to(dtype), mean.to(dtype), variance.to(dtype)
    batch_size = z.shape[0]
    if estimator == "mss":
        log_weights = mss_log_weights(batch_size, n_obs, device=z.device, dtype=dtype)
    else:
        log_constant = -math.log(batch_size * _population_size(batch_size, n_obs))
        log_weights = torch.full((batch_size, batch_size), log_constant, device=z.device, dtype=dtype)

    log_posterior = -0.5 * ((z - mean).square() / variance + variance.log() + _LOG_2_PI).sum(dim=1)
    log_prior = -0.5 * (z.square() + _LOG_2_PI).sum(dim=1)
    log_aggregate, log_marginals = _log_aggregate(z, mean, variance, log_weights)
    return TotalCorrelationTerms(
        mutual_information=(log_posterior - log_aggregate).mean(),
        total_correlation=(log_aggregate - log_marginals).mean(),
        dimension_kl=(log_marginals - log_prior).mean(),
    )


def _log_aggregate(z: Tensor, mean: Tensor, variance: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Log density (n_cells,) of each sample under the aggregate posterior, and under the product of its marginals.

    Not by an expanded quadratic, whose cancellation (and TF32 on a GPU) would cost the digits of narrow posteriors.
    """
    chunk = max(1, _MAX_PAIRS // z.shape[0] ** 2)
    if chunk >= z.shape[1]:
        return _Aggregate.apply(z, mean, variance, log_weights)
    log_joint, log_marginals = _PairsInTurns.apply(z, mean, variance, log_weights, chunk)
    return torch.logsumexp(log_joint + log_weights, dim=1), log_marginals


class _Aggregate(torch.autograd.Function):
    r"""Both log densities at once, with the gradient in closed form.

    With :math:`l_{dij} = \log q(z_{id} \mid x_j)`, the gradient of the joint by :math:`l_{dij}` is a softmax over :math:`j` of
    the sum over dimensions, that of a marginal the softmax of its own dimension. One array of cells x cells x dimensions is kept,
    where autograd keeps one for every operation.
    """

    @staticmethod
    def forward(ctx, z, mean, variance, log_weights):
        # Copied, so that the last axis of what follows is the one that memory runs along: softmax is then several times faster.
        by_dimension = [tensor.T.contiguous() for tensor in (z, mean, variance.rsqrt())]
        inverse_sd = by_dimension[2][:, None, :]
        pairs = (by_dimension[0][:, :, None] - by_dimension[1][:, None, :]).mul_(inverse_sd)
        torch.addcmul(inverse_sd.log() - 0.5 * _LOG_2_PI, pairs, pairs, value=-0.5, out=pairs)
        log_joint = pairs.sum(dim=0).add_(log_weights)
        pairs.add_(log_weights)
        ctx.save_for_backward(z, mean, variance, torch.softmax(log_joint, dim=1), torch.softmax(pairs, dim=2))
        return torch.logsumexp(log_joint, dim=1), torch.logsumexp(pairs, dim=2).sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_aggregate, grad_marginals):
        z, mean, variance, joint, marginals = ctx.saved_tensors
        by_pair = torch.addcmul(joint * grad_aggregate[:, None], marginals, grad_marginals[:, None])
        precision = variance.reciprocal()
        # Sums over the cells whose posteriors they are, and over the samples.
        over_posteriors = by_pair @ torch.stack([precision, mean * precision], dim=2).transpose(0, 1)
        over_samples = torch.stack([torch.ones_like(z), z, z.square()], dim=0).permute(2, 0, 1) @ by_pair
        total, first, second = over_samples.permute(1, 2, 0)
        by_z = over_posteriors[:, :, 1].T - z * over_posteriors[:, :, 0].T
        by_mean = (first - mean * total) * precision
        squares = second - 2.0 * mean * first + mean.square() * total
        return by_z, by_mean, 0.5 * precision * (squares * precision - total), None


def _log_density_of_pairs(z: Tensor, mean: Tensor, variance: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Log q(z_i | x_j) summed over dimensions, (n_cells, n_cells), and log marginals summed, (n_cells,)."""
    inverse_sd = variance.rsqrt().T[:, None, :]
    standardized = (z.T[:, :, None] - mean.T[:, None, :]) * inverse_sd
    log_density = torch.addcmul(inverse_sd.log() - 0.5 * _LOG_2_PI, standardized, standardized, value=-0.5)
    log_marginals = torch.logsumexp(log_density + log_weights, dim=2)
    return log_density.sum(dim=0), log_marginals.sum(dim=0)


class _PairsInTurns(torch.autograd.Function):
    """:func:`_log_density_of_pairs`, ``chunk`` dimensions at a time, each computed again for its gradient.

    Only matrices of cells x cells outlive a turn. (torch's checkpointing frees the turns later, and imports its compiler.)
    """

    @staticmethod
    def forward(ctx, z, mean, variance, log_weights, chunk):
        ctx.save_for_backward(z, mean, variance, log_weights)
        ctx.chunk = chunk
        log_joint, log_marginals = torch.zeros_like(log_weights), torch.zeros_like(log_weights[0])
        for part in zip(*(tensor.split(chunk, dim=1) for tensor in (z, mean, variance)), strict=True):
            joint_part, marginals_part = _log_density_of_pairs(*part, log_weights)
            log_joint += joint_part
            log_marginals += marginals_part
        return log_joint, log_marginals

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_joint, grad_marginals):
        *posterior, log_weights = ctx.saved_tensors
        gradients = []
        for part in zip(*(tensor.split(ctx.chunk, dim=1) for tensor in posterior), strict=True):
            inputs = [tensor.detach().requires_grad_() for tensor in part]
            with torch.enable_grad():
                outputs = _log_density_of_pairs(*inputs, log_weights)
            gradients.append(torch.autograd.grad(outputs, inputs, (grad_joint, grad_marginals)))
        return *(torch.cat(parts, dim=1) for parts in zip(*gradients, strict=True)), None, None


def _population_size(batch_size: int, n_obs: int) -> int:
    """Training cells, at least those of the minibatch."""
    if n_obs is None or n_obs < 1:
        msg = f"n_obs is {n_obs}; expected the number of training cells, at least 1."
        raise ValueError(msg)
    return max(n_obs, batch_size)
