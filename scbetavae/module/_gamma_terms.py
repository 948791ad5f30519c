"""The gamma functions of the negative binomial likelihood, from a table for small counts."""

import torch
from torch import Tensor

# Counts up to the number of non-zeros per gene, within these bounds, are read from a table. A level of the table
# costs per gene as much as the gamma functions of a twentieth of a count.
_SMALLEST_TABLE, _LARGEST_TABLE = 4, 64


def gamma_terms(counts: Tensor, theta: Tensor, where: Tensor, *, with_gradient: bool) -> list[Tensor]:
    r"""Of each count, :math:`\log \Gamma(x + \theta) / (\Gamma(\theta) x!)` and, if asked for, its derivative by theta.

    Small integers are read from a table if theta is given per gene: :math:`\sum_{k<x} \log\frac{\theta + k}{k + 1}`.
    """
    per_gene = counts.shape[0] // max(theta.shape[0], 1)
    # On an accelerator gamma functions are cheap, and finding the small counts would wait for the device.
    if theta.ndim > 1 or per_gene == 0 or counts.device.type != "cpu":
        return _gamma_functions(counts, theta.reshape(-1).index_select(0, where), with_gradient=with_gradient)
    tables = _gamma_tables(theta, min(max(per_gene, _SMALLEST_TABLE), _LARGEST_TABLE), with_gradient=with_gradient)
    # Integers of 32 bits are three times as fast here as those of 64. A count that is huge or NaN
    # is clamped into the table and then recognized.
    level = counts.int().clamp_(0, tables[0].shape[0] - 1)
    rest = (level.to(counts.dtype) != counts).nonzero().view(-1)
    keys = level.mul_(theta.shape[0]).add_(where)
    terms = [table.view(-1).index_select(0, keys) for table in tables]
    if rest.shape[0]:
        rest_theta = theta.index_select(0, where.index_select(0, rest))
        exact = _gamma_functions(counts.index_select(0, rest), rest_theta, with_gradient=with_gradient)
        for term, values in zip(terms, exact, strict=True):
            term.index_copy_(0, rest, values)
    return terms


def _gamma_functions(counts: Tensor, theta: Tensor, *, with_gradient: bool) -> list[Tensor]:
    """The terms of ``gamma_terms``, of counts and inverse dispersions of one shape."""
    log_gamma = torch.lgamma(counts + theta).sub_(torch.lgamma(theta)).sub_(torch.lgamma(counts + 1))
    return [log_gamma, torch.digamma(counts + theta).sub_(torch.digamma(theta))] if with_gradient else [log_gamma]


def _gamma_tables(theta: Tensor, size: int, *, with_gradient: bool) -> list[Tensor]:
    """The terms of ``gamma_terms`` for counts 0 to ``size``: arrays of shape (size + 1, n_genes)."""
    k = torch.arange(size, dtype=theta.dtype).unsqueeze(1)
    shifted = theta + k
    tables = theta.new_zeros(1 + with_gradient, size + 1, theta.shape[0])
    torch.cumsum((shifted / (k + 1)).log_(), 0, out=tables[0, 1:])
    if with_gradient:
        torch.cumsum(shifted.reciprocal_(), 0, out=tables[1, 1:])
    return list(tables)
