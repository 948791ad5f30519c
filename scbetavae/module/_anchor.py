r"""The anchor: posterior means start at independent components of the data, and are released during the run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scbetavae._core.checks import check_arguments, check_choice, check_number, check_whole_number

from ._likelihood import NonzeroStructure, nonzero_structure

SCALE = 1e4  # counts to which a cell is scaled before the logarithm
RELEASE = {"ica": 0.3, "programs": 1.0}  # kinds of anchors, and the share of the run over which each is released

TARGETS = ("", "independent component", "two-level factor shared by all classes", "program")
"""What a dimension is anchored to: nothing, or one of these."""

COMPONENT, FACTOR, PROGRAM = 1, 2, 3


class Anchor(torch.nn.Module):
    r"""Pulls posterior means towards targets that are linear in log-normalized counts.

    .. math:: S_i = \ln(1 + 10^4 x_i / \ell_i)\, A + c_{g(i)}, \qquad
              \frac{w}{2} \, a(u) \, \frac1B \sum_i \lVert \mu_i - S_i \rVert^2, \qquad a(u) = \max(0, 1 - u / h)

    with progress :math:`u` of the run in [0, 1], weight :math:`w` and release :math:`h`. Dimensions without a component have
    target 0, and start unused. The map is fitted before the first training step and is part of the model's state. Groups of
    cells with an offset of their own are the batches of a batch-conditioned decoder.
    """

    weights: Tensor
    offsets: Tensor
    stability: Tensor
    target_kinds: Tensor

    def __init__(
        self,
        n_input: int,
        n_latent: int,
        n_groups: int = 1,
        *,
        kind: str = "ica",
        weight: float = 10.0,
        release: float | None = None,
        n_components: int | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.weight = float(weight)
        self.release = RELEASE[kind] if release is None else float(release)
        self.n_wanted = n_components
        self.n_groups = n_groups
        self.register_buffer("weights", torch.zeros(n_input, n_latent))
        # Groups come last: scvi-tools appends the batches of a query to the last axis of what it loads.
        self.register_buffer("offsets", torch.zeros(n_latent, n_groups))
        self.register_buffer("stability", torch.full((n_latent,), -1.0))  # -1 is not known
        self.register_buffer("target_kinds", torch.zeros(n_latent, dtype=torch.int8))

    @property
    def n_components(self) -> int:
        """Dimensions with a component, which come first; 0 before the map is fitted."""
        return int((self.target_kinds > 0).sum())

    @property
    def target_names(self) -> list[str]:
        """What each dimension is anchored to, a member of ``TARGETS``."""
        return [TARGETS[kind] for kind in self.target_kinds.tolist()]

    @torch.no_grad()
    def set_map(self, weights: Tensor, offsets: Tensor, stability: Tensor) -> None:
        """Store a fitted map: (genes, components), (groups, components), and stability in [0, 1] or NaN, (components,)."""
        k = weights.shape[1]
        for buffer, unused in ((self.weights, 0), (self.offsets, 0), (self.stability, -1), (self.target_kinds, 0)):
            buffer.fill_(unused)
        self.weights[:, :k] = weights
        self.offsets[:k, : offsets.shape[0]] = offsets.T
        self.stability[:k] = torch.nan_to_num(stability, nan=-1.0)
        self.target_kinds[:k] = COMPONENT

    def share(self, progress: float) -> float:
        """Strength of the anchor at ``progress`` of the run, in [0, 1]."""
        return max(0.0, 1.0 - progress / self.release) if self.n_components else 0.0

    @torch.no_grad()
    def targets(self, counts: Tensor, groups: Tensor | None) -> Tensor:
        """Targets (cells, dims) of counts (cells, genes), dense or in sparse rows; ``groups`` (cells, 1), None for one group."""
        nonzero = nonzero_structure(counts)
        return self._linear(log_normalize_nonzero(nonzero), nonzero) + self._offsets_of(groups)

    def _linear(self, logs: Tensor, nonzero: NonzeroStructure) -> Tensor:
        """Products of the map and the entries of a minibatch, tensor of shape (cells, dims)."""
        options = {"mode": "sum", "per_sample_weights": logs.to(self.weights.dtype), "include_last_offset": True}
        return torch.nn.functional.embedding_bag(nonzero.columns, self.weights, nonzero.offsets, **options)

    def _offsets_of(self, groups: Tensor | None) -> Tensor:
        """Offset of the group of each cell."""
        return self.offsets[:, 0] if groups is None else self.offsets.t()[groups.reshape(-1)]

    def forward(self, mean: Tensor, counts: Tensor, groups: Tensor | None) -> Tensor:
        """Penalty of posterior means (cells, dims) at full strength, a scalar; the other arguments as for :meth:`targets`."""
        return 0.5 * self.weight * (mean - self.targets(counts, groups)).square().sum(dim=1).mean()


class ProgramAnchor(Anchor):
    r"""Pulls posterior means towards two-level factors that all cells share, and towards programs of genes.

    .. math::
        S_i = \big[\, y_i A + c, \;\; \max(0, \tilde y_i B) + e \,\big], \qquad
        \tilde y_{ig} = y_{ig} \, e^{a_g + \sum_d 1[S_{id} > t_d] \, b_{dg}}, \qquad y_{ig} = \ln(1 + 10^4 x_{ig} / \ell_i)

    The scales give a gene that is correlated with a factor the same mean on both of its sides. :math:`B` is the pseudoinverse of
    the programs, so that :math:`\max(0, \tilde y_i B)` is how much a cell uses each, by least squares.
    """

    thresholds: Tensor
    log_changes: Tensor
    log_scales: Tensor

    def __init__(self, n_input: int, n_latent: int, n_groups: int = 1, **kwargs: Any) -> None:
        super().__init__(n_input, n_latent, n_groups, **{"kind": "programs", **kwargs})
        self.register_buffer("thresholds", torch.zeros(n_latent))
        self.register_buffer("log_changes", torch.zeros(n_latent, n_input))
        self.register_buffer("log_scales", torch.zeros(n_input, n_groups))

    @torch.no_grad()
    def set_programs(self, weights: Tensor, offsets: Tensor, stability: Tensor, *scales: Tensor) -> None:
        """Store fitted factors and programs, factors first: the fields of ``train``'s ``Programs``."""
        thresholds, log_changes, log_scales = scales
        self.set_map(weights, offsets, stability)
        n_factors = len(thresholds)
        self.target_kinds[:n_factors] = FACTOR
        self.target_kinds[n_factors : weights.shape[1]] = PROGRAM
        for buffer in (self.thresholds, self.log_changes, self.log_scales):
            buffer.zero_()
        self.thresholds[:n_factors] = thresholds
        self.log_changes[:n_factors] = log_changes
        self.log_scales[:, : log_scales.shape[0]] = log_scales.T

    @torch.no_grad()
    def targets(self, counts: Tensor, groups: Tensor | None) -> Tensor:
        """Targets of a minibatch, see :meth:`Anchor.targets`."""
        nonzero = nonzero_structure(counts)
        logs, offsets = log_normalize_nonzero(nonzero), self._offsets_of(groups)
        factors = self._linear(logs, nonzero) + offsets
        above = (factors > self.thresholds).logical_and(self.target_kinds == FACTOR).to(self.log_changes.dtype)
        base = self.log_scales[:, 0] if groups is None else self.log_scales.t()[groups.reshape(-1)]
        scales = (above @ self.log_changes + base).exp_()
        rows = torch.arange(len(scales), device=scales.device).repeat_interleave(
            nonzero.offsets.diff(), output_size=nonzero.columns.shape[0]
        )
        use = self._linear(logs * scales[rows, nonzero.columns], nonzero).clamp_(min=0.0)
        return torch.where(torch.eq(self.target_kinds, PROGRAM), use + offsets, factors)


def log_normalize_nonzero(nonzero: NonzeroStructure) -> Tensor:
    """Counts per 10 000 of each cell, plus 1, in logarithms: tensor of shape (n_nonzero,)."""
    library = torch.segment_reduce(nonzero.values, "sum", offsets=nonzero.offsets, initial=0)
    scale = (SCALE / library).repeat_interleave(nonzero.offsets.diff(), output_size=nonzero.values.shape[0])
    return torch.log1p(nonzero.values * scale)


def check_anchor(anchor: str | None, anchor_kwargs: dict[str, Any] | None, n_latent: int) -> None:
    """Refuse an anchor that does not exist, and arguments that it does not take or values out of range."""
    check_choice(anchor, [*RELEASE, None], "anchor")
    given = anchor_kwargs or {}
    check_arguments(given, ("n_components", "release", "weight"), "anchor_kwargs")
    for name, value in given.items():
        argument = f"anchor_kwargs[{name!r}]"
        if name == "n_components":
            check_whole_number(value, argument, 1, n_latent)
        else:
            check_number(value, argument, 0, 1 if name == "release" else math.inf, open_="low")
    if anchor is None and given:
        msg = f"anchor_kwargs={given!r} was given, but anchor=None. Omit it, or choose one of {sorted(RELEASE)}."
        raise ValueError(msg)
