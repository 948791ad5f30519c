"""The anchor for one dimension per program: shared two-level factors, and programs in expression without them."""

from __future__ import annotations

from typing import Any

import torch

from ._anchor import FACTOR, PROGRAM, Anchor, log_normalize_nonzero
from ._likelihood import nonzero_structure


class ProgramAnchor(Anchor):
    r"""Pulls posterior means towards two-level factors that all cells share, and towards programs of genes.

    .. math::
        S_i = \big[\, y_i A + c, \;\; \max(0, \tilde y_i B) + e \,\big], \qquad
        \tilde y_{ig} = y_{ig} \, e^{a_g + \sum_d 1[S_{id} > t_d] \, b_{dg}}, \qquad y_{ig} = \ln(1 + 10^4 x_{ig} / \ell_i)

    The scales give a gene that is correlated with a factor the same mean on both of its sides. :math:`B` is the pseudoinverse of
    the programs, so that :math:`\max(0, \tilde y_i B)` is how much a cell uses each, by least squares.
    """

    def __init__(self, n_input: int, n_latent: int, n_groups: int = 1, **kwargs: Any) -> None:
        super().__init__(n_input, n_latent, n_groups, **{"kind": "programs", **kwargs})
        self.register_buffer("thresholds", torch.zeros(n_latent))
        self.register_buffer("log_changes", torch.zeros(n_latent, n_input))
        self.register_buffer("log_scales", torch.zeros(n_input, n_groups))

    @torch.no_grad()
    def set_programs(
        self,
        weights: torch.Tensor,
        offsets: torch.Tensor,
        stability: torch.Tensor,
        thresholds: torch.Tensor,
        log_changes: torch.Tensor,
        log_scales: torch.Tensor,
    ) -> None:
        """Store fitted factors and programs, factors first: the fields of ``train``'s ``Programs``."""
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
    def targets(self, counts: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        """Targets of a minibatch, see :meth:`Anchor.targets`."""
        nonzero = nonzero_structure(counts)
        logs, offsets = log_normalize_nonzero(nonzero), self._offsets_of(groups)
        factors = self._linear(logs, nonzero) + offsets
        above = ((factors > self.thresholds) & (self.target_kinds == FACTOR)).to(self.log_changes.dtype)
        base = self.log_scales[:, 0] if groups is None else self.log_scales.t()[groups.reshape(-1)]
        scales = (above @ self.log_changes + base).exp_()
        rows = torch.arange(len(scales), device=scales.device).repeat_interleave(
            nonzero.offsets.diff(), output_size=nonzero.columns.shape[0]
        )
        use = self._linear(logs * scales[rows, nonzero.columns], nonzero).clamp_(min=0.0)
        return torch.where(self.target_kinds == PROGRAM, use + offsets, factors)
