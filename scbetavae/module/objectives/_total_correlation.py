"""Total correlation of a latent representation, estimated in a minibatch, in nats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scbetavae._core.checks import check_choice

ESTIMATORS = ("mss", "mws")

_LOG_2_PI = math.log(2.0 * math.pi)
_MAX_PAIRS = 2**22  # entries of the cells x cells x dimensions array held at once, 16 MiB in float32


class TotalCorrelationTerms(NamedTuple):
    """Parts of the KL divergence, scalar tensors in nats per cell."""

    mutual_information: Tensor
    total_correlation: Tensor
    dimension_kl: Tensor


def mss_log_weights(batch_size: int, n_obs: int, **options: Any) -> Tensor:
    r"""Log importance weights of minibatch stratified sampling (MSS), tensor of shape (batch_size, batch_size).

    With :math:`B` cells in the minibatch, :math:`M = B - 1` and :math:`N` training cells, at least :math:`B`, row :math:`i` is

    .. math:: w_{ii} = \frac1N, \qquad w_{i,\,i+1 \bmod B} = \frac{N - M}{N M}, \qquad w_{ij} = \frac1M \text{ otherwise,}

    and sums to 1, so that :math:`\sum_j w_{ij}\, q(z_i \mid x_j)` is an unbiased estimate of :math:`q(z_i)`: the cell that
    generated :math:`z_i` is always in the minibatch and must count as one of N. So :math:`1/N` stands on the *diagonal*; in
    column 0, where much public code has it, the estimate is that of the plain minibatch average.
    """
    n_obs = _population_size(batch_size, n_obs)
    n_others = batch_size - 1
    if n_others == 0:
        return torch.zeros(1, 1, **options)
    weights = torch.full((batch_size, batch_size), -math.log(n_others), **options)
    cells = torch.arange(batch_size, device=weights.device)
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

    with :math:`p(z) = \mathcal N(0, I)`. The aggregate :math:`q(z) = \frac1N \sum_n q(z \mid x_n)` is estimated from the
    minibatch, :math:`q(z_i) \approx \sum_j w_{ij}\, q(z_i \mid x_j)`, with the weights of minibatch stratified sampling
    (``"mss"``, :math:`1 / N` for the cell itself) or minibatch weighted sampling (``"mws"``, :math:`w_{ij} = 1 / (N B)`: the
    gradient of the plain minibatch average, but a total correlation that is larger by :math:`(D - 1) \log N`).

    The three terms add up to the Monte Carlo KL for both. Each is a training signal, not a number to report: it can be negative,
    and it saturates once the KL is much larger than :math:`\log N`.

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
    Named tuple ``(mutual_information, total_correlation, dimension_kl)`` of scalar tensors, nats, averaged over cells
    :cite:p:`Chen2018`. Half-precision input is computed in float32. There is a first derivative only.

    Raises
    ------
    ValueError
        If the shapes are not one common (n_cells, n_latent), ``n_obs`` is below 1 or the estimator is unknown.

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
    chunk = max(1, _MAX_PAIRS // batch_size**2)
    log_aggregate, log_marginals = _LogAggregate.apply(z, mean, variance, log_weights, chunk)
    return TotalCorrelationTerms(
        mutual_information=(log_posterior - log_aggregate).mean(),
        total_correlation=(log_aggregate - log_marginals).mean(),
        dimension_kl=(log_marginals - log_prior).mean(),
    )


class _LogAggregate(torch.autograd.Function):
    r"""Log density (n_cells,) of each sample under the aggregate posterior and under the product of its marginals.

    With :math:`l_{dij} = \log q(z_{id} \mid x_j)`, the gradient of the joint by :math:`l_{dij}` is a softmax over :math:`j` of
    the sum over dimensions, that of a marginal the softmax of its own dimension. One array of cells x cells x dimensions is kept,
    where autograd keeps one for every operation; with several chunks of dimensions none, and each is computed again.
    An expanded quadratic would lose the digits of narrow posteriors by cancellation (and TF32 on a GPU).
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, mean: Tensor, variance: Tensor, log_weights: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        log_joint, log_marginals, pairs = torch.zeros_like(log_weights), z.new_zeros(len(z)), z
        for part in _chunks(chunk, z, mean, variance):
            pairs = _log_densities(*part)
            log_joint = log_joint + pairs.sum(dim=0)
            pairs.add_(log_weights)
            log_marginals = log_marginals + torch.logsumexp(pairs, dim=2).sum(dim=0)
        log_joint.add_(log_weights)
        kept = torch.softmax(pairs, dim=2) if chunk >= z.shape[1] else None
        ctx.chunk = chunk
        ctx.save_for_backward(z, mean, variance, log_weights, torch.softmax(log_joint, dim=1), kept)
        return torch.logsumexp(log_joint, dim=1), log_marginals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        grad_aggregate, grad_marginals = upstream
        *posterior, log_weights, joint, kept = ctx.saved_tensors
        by_joint, gradients = joint * grad_aggregate[:, None], []
        for z, mean, variance in _chunks(ctx.chunk, *posterior):
            marginals: Any = kept
            if kept is None:
                marginals = torch.softmax(_log_densities(z, mean, variance).add_(log_weights), dim=2)
            by_pair = torch.addcmul(by_joint, marginals, grad_marginals[:, None])
            precision = variance.reciprocal()
            # Sums over the cells whose posteriors they are, and over the samples.
            over_posteriors = by_pair @ torch.stack([precision, mean * precision], dim=2).transpose(0, 1)
            over_samples = torch.stack([torch.ones_like(z), z, z.square()], dim=0).permute(2, 0, 1) @ by_pair
            total, first, second = over_samples.permute(1, 2, 0)
            by_z = over_posteriors[:, :, 1].T - z * over_posteriors[:, :, 0].T
            squares = second - 2.0 * mean * first + mean.square() * total
            by_variance = 0.5 * precision * (squares * precision - total)
            gradients.append((by_z, (first - mean * total) * precision, by_variance))
        if len(gradients) == 1:
            return *gradients[0], None, None
        return *(torch.cat(parts, dim=1) for parts in zip(*gradients, strict=True)), None, None


def _log_densities(z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log q(z_id | x_j) of all pairs of cells, (dims, n_cells, n_cells)."""
    # Copied, so that the last axis of what follows is contiguous in memory: softmax is then several times faster.
    z, mean, inverse_sd = (tensor.T.contiguous() for tensor in (z, mean, variance.rsqrt()))
    pairs = (z[:, :, None] - mean[:, None, :]).mul_(inverse_sd[:, None, :])
    return torch.addcmul(inverse_sd.log()[:, None, :] - 0.5 * _LOG_2_PI, pairs, pairs, value=-0.5, out=pairs)


def _chunks(size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors (n_cells, dims) of ``size`` dimensions at a time."""
    return zip(*(tensor.split(size, dim=1) for tensor in tensors), strict=True)


def _population_size(batch_size: int, n_obs: int) -> int:
    """Training cells, at least those of the minibatch."""
    if n_obs is None or n_obs < 1:
        msg = f"n_obs is {n_obs}; expected the number of training cells, at least 1."
        raise ValueError(msg)
    return max(n_obs, batch_size)
