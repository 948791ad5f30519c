r"""Mutual information of the free dimensions with guided covariates, estimated in a minibatch and a bank of earlier ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST_WEIGHT = 5.0
"""Largest weight of a cell of a rare level."""


class Pool(NamedTuple):
    """Posteriors that samples are compared with, and what is known of their cells.

    ``mean`` and ``variance`` (cells, dims); ``members`` (cells, levels), 1 where a cell has a level of a covariate, the levels of
    all covariates in a row; ``cell`` (cells,), a number of each cell.
    """

    mean: Tensor
    variance: Tensor
    members: Tensor
    cell: Tensor

    def detached(self) -> Pool:
        """The same without gradients."""
        return Pool(*(tensor.detach() for tensor in self))


def guided_information(
    z: Tensor, minibatch: Pool, bank: Pool | None, shares: list[Tensor], n_obs: int, n_permutations: int = 0
) -> Tensor:
    r"""Mutual information of each covariate with the free dimensions under the aggregate posterior, nats, shape (covariates,).

    With :math:`l_{ij} = \log q(z_i \mid x_j)` over the pool of minibatch and bank, n training cells of the level of cell i, and
    weights :math:`w = \min(N / (K n), 5)` of the K levels,

    .. math::
        \mathrm{within}_i &= \log\Big[\big(1 - \tfrac1n\big)\, \operatorname{mean}_{j \ne i,\, u_j = u_i} e^{l_{ij}}
            + \tfrac1n\, e^{l_{ii}}\Big] \\
        \mathrm{overall}_i &= \log\Big[(1 - p)\, \frac{\sum_{j \ne i} w_{u_j} e^{l_{ij}}}{\sum_{j \ne i} w_{u_j}}
            + p\, e^{l_{ii}}\Big], \qquad p = \frac{w_{u_i}}{\sum_k n_k w_k} \\
        I &= \operatorname{mean}_i\; w_{u_i} (\mathrm{within}_i - \mathrm{overall}_i)

    The mean is over cells with a partner of the same level and one of another; it is 0 without such cells and may be negative.
    A cell is never its own partner, not even as an older copy of itself in the bank. Cells of an unknown level take no part.

    Finitely many narrow posteriors have positive information even of a covariate that has nothing to do with them: each cell's
    own posterior is of its own level. With permutations, the estimate for permuted levels is subtracted, so that 0 is
    independence.

    Parameters
    ----------
    z
        One sample of the posterior of each cell of the minibatch, shape (cells, dims).
    minibatch, bank
        Posteriors and levels of the same cells, and of earlier minibatches; only the former have gradients.
    shares
        Share of the training cells that has each level, one tensor per covariate; they sum to 1.
    n_obs
        Number of training cells.
    n_permutations
        Permutations of the levels over the pool whose mean estimate is subtracted.
    """
    pool = minibatch if bank is None else Pool(*(torch.cat(pair) for pair in zip(minibatch, bank, strict=True)))
    # Densities of distant cells differ by hundreds of nats. MPS has no double precision.
    dtype = torch.float32 if z.device.type == "mps" else torch.float64
    other = pool.cell != minibatch.cell[:, None]
    levels, start = [], 0
    for share in shares:
        size = (share * n_obs).to(dtype).clamp(min=1.0)
        weight = torch.clamp(n_obs / (len(size) * size), max=LARGEST_WEIGHT)
        levels.append((slice(start, start + len(size)), size, weight))
        start += len(size)
    members = pool.members.to(dtype)
    orders = [torch.randperm(len(members), device=members.device) for _ in range(n_permutations)]
    members = torch.stack([members, *(members[order] for order in orders)], dim=1)
    densities = _LogDensities.apply(z.to(dtype), pool.mean.to(dtype), pool.variance.to(dtype))
    found = _Information.apply(densities, members, other.to(dtype), levels)
    return (found[0] - found[1:].mean(dim=0) if n_permutations else found[0]).to(z.dtype)


class _LogDensities(torch.autograd.Function):
    """Log q(z_i | x_j) up to a constant, (cells, pool): products of matrices, no cells x pool x dims array."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        precision = variance.reciprocal()
        scaled = mean * precision
        ctx.save_for_backward(z, mean, precision, scaled)
        constant = (mean * scaled - precision.log()).sum(dim=1)
        products = torch.cat([z.square(), z], dim=1) @ torch.cat([precision, -2.0 * scaled], dim=1).T
        return products.add_(constant).mul_(-0.5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = upstream
        z, mean, precision, scaled = ctx.saved_tensors
        n_dims = z.shape[1]
        over_pool = gradient @ torch.cat([precision, scaled], dim=1)
        by_z = over_pool[:, n_dims:] - z * over_pool[:, :n_dims]
        sums = gradient.T @ torch.cat([torch.ones_like(z), z, z.square()], dim=1)
        total, first, second = sums.split(n_dims, dim=1)
        by_mean = (first - mean * total) * precision
        squares = second - 2.0 * mean * first + mean.square() * total
        return by_z, by_mean, 0.5 * precision * (squares * precision - total)


class _Information(torch.autograd.Function):
    """Information (assignments, covariates) from log densities (cells, pool).

    ``members`` (pool, assignments, levels) are the levels as they are, and permuted. One exponential and one product serve all
    assignments and covariates.
    """

    @staticmethod
    def forward(ctx: Any, densities: Tensor, members: Tensor, other: Tensor, levels: list[Any]) -> Tensor:
        n_cells, shape = len(densities), members.shape[1:]
        own = densities.diagonal()
        # An older copy of a cell in the bank has no part in the maximum either.
        largest = densities.masked_fill(other == 0, -torch.inf).amax(dim=1).maximum(own)
        relative = torch.exp(densities - largest[:, None]).mul_(other)
        relative_own = torch.exp(own - largest)[:, None]
        flat = members.flatten(1)
        sums, partners = ((part @ flat).view(n_cells, *shape) for part in (relative, other))
        by_sums, by_own, values = torch.zeros_like(sums), [], []
        tiny = torch.finfo(sums.dtype).tiny
        for columns, size, weight in levels:  # tensors of (cells, assignments) unless said otherwise
            here, total, count = members[:n_cells, :, columns], sums[:, :, columns], partners[:, :, columns]
            n_same = (count * here).sum(dim=2)
            takes_part = (n_same > 0) & (count.sum(dim=2) > n_same)
            own_weight, n_others = here @ weight, n_same.clamp(min=1.0)
            own_share, p = (here @ size).clamp(min=1.0).reciprocal(), own_weight / (size @ weight)
            mean_same, weighted = (total * here).sum(dim=2) / n_others, (count @ weight).clamp(min=tiny)
            within = ((1.0 - own_share) * mean_same + own_share * relative_own).clamp(min=tiny)
            overall = ((1.0 - p) * (total @ weight) / weighted + p * relative_own).clamp(min=tiny)
            scale = torch.where(takes_part, own_weight, 0.0) / takes_part.sum(dim=0).clamp(min=1)
            values.append((scale * (within.log() - overall.log())).sum(dim=0))
            by_within, by_overall = scale / within, scale / overall
            same = (by_within * (1.0 - own_share) / n_others)[:, :, None] * here
            by_sums[:, :, columns] = same - (by_overall * (1.0 - p) / weighted)[:, :, None] * weight
            by_own.append((by_within * own_share - by_overall * p) * relative_own)
        ctx.columns = [columns for columns, _, _ in levels]
        ctx.save_for_backward(relative, flat, by_sums, torch.stack(by_own, dim=2))
        return torch.stack(values, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = upstream  # (assignments, covariates)
        relative, flat, by_sums, by_own = ctx.saved_tensors
        scaled = torch.cat([by_sums[:, :, c] * gradient[:, [k]] for k, c in enumerate(ctx.columns)], dim=2)
        by_densities = (scaled.flatten(1) @ flat.T).mul_(relative)
        by_densities.diagonal().add_((by_own * gradient).sum(dim=(1, 2)))
        return by_densities, None, None, None
