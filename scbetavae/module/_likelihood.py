r"""The negative binomial reconstruction loss, from decoder logits to gradient in one step.

Our own because it is several times faster on a CPU than composing it from :class:`scvi.distributions.NegativeBinomial`
(``benchmarks/likelihood_speed.py``), to which it is equal, :math:`\epsilon = 10^{-8}` included:

.. math::
    \mu_{cg} = e^{l_c}\, \mathrm{softmax}(a_c)_g, \qquad \theta_g = e^{r_g}, \qquad D = \theta + \mu + \epsilon, \\
    -\log p(x) = -\theta \log\frac{\theta + \epsilon}{D} - x \log\frac{\mu + \epsilon}{D}
                 - \log\frac{\Gamma(x + \theta)}{\Gamma(\theta)\,\Gamma(x + 1)}

Only the first term is not zero where the count is. With :math:`u = \mu / (\theta + \epsilon)` it is :math:`\theta \log(1 + u)`,
which keeps its digits when :math:`\theta` is large, and its gradients need only :math:`h = \mu / D = u / (1 + u)`. The others are
evaluated on non-zero counts.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._gamma_terms import gamma_terms

_EPSILON = 1e-8  # added to both parameters by scvi.distributions.NegativeBinomial


class NonzeroStructure(NamedTuple):
    """The non-zero counts of a minibatch, as the arrays of a compressed sparse row matrix; stored zeros are harmless."""

    offsets: Tensor
    columns: Tensor
    values: Tensor


def nonzero_structure(counts: Tensor) -> NonzeroStructure:
    """Non-zero entries of counts (n_cells, n_genes), dense or (faster) in compressed sparse rows; the values have no graph."""
    if counts.ndim != 2 or counts.layout not in (torch.strided, torch.sparse_csr):
        msg = (
            "Counts must be a matrix of cells by genes, dense or in the layout torch.sparse_csr, got shape "
            f"{tuple(counts.shape)} and layout {counts.layout}. Convert other layouts with `.to_sparse_csr()`."
        )
        raise ValueError(msg)
    if counts.layout == torch.sparse_csr:
        return NonzeroStructure(counts.crow_indices().long(), counts.col_indices().long(), counts.values().detach())
    counts = counts.detach().contiguous()
    n_cells, n_genes = counts.shape
    is_nonzero = counts != 0
    positions = is_nonzero.view(-1).nonzero().view(-1)
    offsets = positions.new_zeros(n_cells + 1)
    torch.cumsum(is_nonzero.sum(1), 0, out=offsets[1:])
    return NonzeroStructure(offsets, positions.remainder(n_genes), counts.view(-1).index_select(0, positions))


def fused_negative_binomial_loss(
    logits: Tensor, log_library: Tensor, *, log_theta: Tensor, counts: Tensor | NonzeroStructure
) -> Tensor:
    r"""Negative log-likelihood of each cell's counts, several times faster on a CPU than composing it.

    Value and gradients equal, to rounding, those of ::

        mu = torch.exp(log_library) * torch.softmax(logits, -1)
        -NegativeBinomial(mu=mu, theta=torch.exp(log_theta)).log_prob(counts).sum(-1)

    with ``scvi.distributions.NegativeBinomial``. The gradient is computed in the forward pass, where it is asked for. Half
    precision is computed in single precision.

    Parameters
    ----------
    logits
        Output of the decoder before the softmax, tensor of shape (n_cells, n_genes).
    log_library
        Natural logarithm of the library size (or of a size factor) in counts, (n_cells, 1) or (n_cells,).
    log_theta
        Natural logarithm of the inverse dispersion, per gene (n_genes,), or (slower) per entry (n_cells, n_genes).
    counts
        Counts (n_cells, n_genes) of at least 0, not necessarily integers, dense or (faster) in compressed sparse rows.

    Returns
    -------
    Negative log-likelihood :cite:p:`Lopez18` of shape (n_cells,) in nats. It can be differentiated once.

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Examples
    --------
    >>> import torch
    >>> from scbetavae.module import fused_negative_binomial_loss
    >>> counts = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    >>> loss = fused_negative_binomial_loss(
    ...     torch.zeros(2, 2), counts.sum(1, keepdim=True).log(), log_theta=torch.zeros(2), counts=counts
    ... )
    >>> [round(value, 3) for value in loss.tolist()]
    [3.365, 1.91]
    """
    _check_shapes(logits, log_library, log_theta, counts)
    dtype = torch.float32 if logits.dtype in (torch.float16, torch.bfloat16) else logits.dtype
    structure = _structure_of(counts, dtype)
    logits, *parameters = logits.to(dtype).contiguous(), log_library.to(dtype).reshape(-1, 1), log_theta.to(dtype)
    if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in (logits, *parameters)):
        return _FusedLoss.apply(logits, None, None, *parameters, *structure)
    logits, library, theta = (parameter.detach() for parameter in (logits, *parameters))
    return evaluate_loss(logits, library, theta, structure, for_logits=False, for_theta=False)[0]


def fused_output_loss(
    hidden: Tensor,
    output: torch.nn.Linear,
    log_library: Tensor,
    *,
    log_theta: Tensor,
    counts: Tensor | NonzeroStructure,
) -> Tensor:
    """:func:`fused_negative_binomial_loss` (n_cells,) of ``output(hidden)``, with the layer in the same step."""
    fused = hidden.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(hidden.device.type)
    if not (fused and torch.is_grad_enabled()):
        return fused_negative_binomial_loss(output(hidden), log_library, log_theta=log_theta, counts=counts)
    structure = _structure_of(counts, hidden.dtype)
    return _FusedLoss.apply(hidden, output.weight, output.bias, log_library, log_theta, *structure)


def _structure_of(counts: Tensor | NonzeroStructure, dtype: torch.dtype) -> NonzeroStructure:
    """Non-zero counts as numbers of ``dtype`` without a graph."""
    structure = counts if isinstance(counts, NonzeroStructure) else nonzero_structure(counts)
    return structure._replace(values=structure.values.detach().to(dtype))


def _check_shapes(logits: Tensor, log_library: Tensor, log_theta: Tensor, counts: Tensor | NonzeroStructure) -> None:
    """Refuse shapes that broadcasting would accept and turn into another likelihood."""
    if logits.ndim != 2:
        msg = (
            f"`logits` must have shape (n_cells, n_genes), got {tuple(logits.shape)}. With several samples of the "
            "latent space, use scvi.distributions.NegativeBinomial."
        )
        raise ValueError(msg)
    n_cells, n_genes = logits.shape
    allowed = {
        "log_library": (log_library, [(n_cells, 1), (n_cells,)], ""),
        "log_theta": (
            log_theta,
            [(n_genes,), (n_cells, n_genes)],
            " Select the row of a batch or label for every cell first.",
        ),
    }
    if isinstance(counts, NonzeroStructure):
        lengths = tuple(len(part) for part in counts)
        if lengths[0] != n_cells + 1 or lengths[1] != lengths[2]:
            msg = f"`counts` must have {n_cells + 1} offsets and as many columns as values, got {lengths} of the three."
            raise ValueError(msg)
    else:
        allowed["counts"] = (counts, [(n_cells, n_genes)], " Pass the shape of `logits`.")
    for name, (tensor, shapes, hint) in allowed.items():
        if tuple(tensor.shape) not in shapes:
            msg = f"`{name}` must have shape {' or '.join(map(str, shapes))}, got {tuple(tensor.shape)}.{hint}"
            raise ValueError(msg)


class _FusedLoss(torch.autograd.Function):
    """Forward computes value and gradient of every cell; backward weights the cells.

    The input is logits, or with a weight and a bias the hidden units of which the logits are a linear function.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, *others: Tensor) -> Tensor:
        log_library, log_theta, *nonzero = others
        for_library, for_theta = ctx.needs_input_grad[3:5]
        loss, *gradients = evaluate_loss(
            # Computed logits have no name here, so that they are freed as soon as possible.
            hidden if weight is None else torch.addmm(bias, hidden, weight.t()),
            log_library,
            log_theta,
            NonzeroStructure(*nonzero),
            for_logits=for_library or any(ctx.needs_input_grad[:3]),
            for_theta=for_theta,
        )
        ctx.save_for_backward(None if weight is None else hidden, weight, log_theta, *gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = upstream
        hidden, weight, log_theta, by_logits, by_library, by_theta = ctx.saved_tensors
        needs, column = ctx.needs_input_grad, weights.unsqueeze(1)
        by_hidden = by_log_theta = None
        with torch.no_grad():
            if needs[0]:
                by_hidden = by_logits * column if weight is None else torch.mm(by_logits, weight).mul_(column)
            if needs[4]:
                by_theta = torch.mv(by_theta.t(), weights) if log_theta.ndim == 1 else by_theta * column
                by_log_theta = by_theta.mul_(log_theta.exp())
            gradients = [
                by_hidden,
                torch.mm(by_logits.t(), hidden * column) if needs[1] else None,
                torch.mv(by_logits.t(), weights) if needs[2] else None,
                by_library * column if needs[3] else None,
                by_log_theta,
            ]
        if torch.is_grad_enabled():  # create_graph=True
            anchor = torch.zeros((), requires_grad=True)
            gradients = [None if gradient is None else _NotTwice.apply(gradient, anchor) for gradient in gradients]
        return *gradients, None, None, None


class _NotTwice(torch.autograd.Function):
    """A gradient that raises when it is differentiated, where torch's ``once_differentiable`` may take it for a constant."""

    @staticmethod
    def forward(_: Any, gradient: Tensor, __: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(_: Any, *__: Tensor) -> None:
        msg = (
            "The fused negative binomial loss can be differentiated once only. For second derivatives use log_prob of "
            "scvi.distributions.NegativeBinomial."
        )
        raise RuntimeError(msg)


def evaluate_loss(logits, log_library, log_theta, structure, *, for_logits, for_theta):
    """Loss (n_cells,), and its gradients by logits (n_cells, n_genes), log library (n_cells, 1) and theta (n_cells, n_genes).

    Gradients that are not asked for are None. Blocks of rows that fit the cache were slower at every size up to 1024 x 8000.
    """
    n_cells, n_genes = logits.shape
    library, theta = log_library.exp(), log_theta.exp()
    inverse_theta = (theta + _EPSILON).reciprocal_()
    scale = torch.softmax(logits, -1)
    del logits
    u = (scale * library).mul_(inverse_theta)
    log1p_u = torch.log1p(u)
    loss = torch.mv(log1p_u, theta) if theta.ndim == 1 else torch.mul(log1p_u, theta).sum(1)
    h = u.div_(u + 1)

    row_starts = torch.arange(n_cells, device=scale.device).mul_(n_genes)
    positions = row_starts.repeat_interleave(structure.offsets.diff(), output_size=structure.columns.shape[0])
    positions.add_(structure.columns)
    with_gradient = for_logits or for_theta
    value, *by = _nonzero_terms(h, theta, inverse_theta, positions, structure, with_gradient=with_gradient)
    loss.sub_(torch.segment_reduce(value, "sum", offsets=structure.offsets, initial=0))

    theta_gradient = logits_gradient = library_gradient = None
    if for_theta:
        theta_gradient = log1p_u.addcmul_(h, theta * inverse_theta, value=-1)
        theta_gradient.view(-1).scatter_add_(0, positions, by[1])
    if for_logits:
        logits_gradient = h.mul_(theta)  # by log mu, before the softmax is accounted for
        logits_gradient.view(-1).scatter_add_(0, positions, by[0])
        library_gradient = logits_gradient.sum(1, keepdim=True)
        logits_gradient.addcmul_(scale, library_gradient, value=-1)
    return loss, logits_gradient, library_gradient, theta_gradient


def _nonzero_terms(h, theta, inverse_theta, positions, structure, *, with_gradient):
    """What each non-zero count adds: log-likelihood, and loss gradients by log mu and by theta (or nothing)."""
    counts = structure.values
    h = h.view(-1).index_select(0, positions)
    where = structure.columns if theta.ndim == 1 else positions
    inverse_theta = inverse_theta.reshape(-1).index_select(0, where)
    inverse_total = (1 - h).mul_(inverse_theta)  # 1 / D
    ratio = torch.add(h, inverse_total, alpha=_EPSILON)  # (mu + epsilon) / D
    log_gamma, *digamma = gamma_terms(counts, theta, where, with_gradient=with_gradient)
    value = torch.log(ratio).mul_(counts).add_(log_gamma)
    if not with_gradient:
        return (value,)
    return value, (h - h / ratio).mul_(counts), inverse_total.mul_(counts).sub_(digamma[0])
