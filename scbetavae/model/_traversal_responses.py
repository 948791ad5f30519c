"""Fold changes of a traversal: summed over anchors as they are decoded, laid out as one long frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from ._traversal_inputs import Walk

COUNTS = 1e4
"""Counts of the cell in which expression is reported."""

_LINEAR_BELOW = -15.0


def log_expression(head: torch.nn.Sequential, hidden: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of normalized expression, finite where expression itself would round to 0."""
    logits = head[0](hidden)
    if isinstance(head[1], torch.nn.Softmax):
        return torch.log_softmax(logits, dim=-1)
    # log softplus(x) is x far below 0, where softplus rounds to nothing.
    return torch.where(logits > _LINEAR_BELOW, head[1](logits.clamp_min(_LINEAR_BELOW)).log(), logits)


class StepMoments:
    """Mean and spread over anchors of each step's fold changes, from several batches of anchors.

    Parameters
    ----------
    n_steps
        Steps of the steps.
    per_size_factor
        Whether expression has no fixed sum, so that it is left as it is.
    """

    def __init__(self, n_steps: int, per_size_factor: bool):
        self.counts = 1.0 if per_size_factor else COUNTS
        self.n_anchors = [0] * n_steps
        self.mean: list[torch.Tensor | None] = [None] * n_steps
        self.squares: list[torch.Tensor | None] = [None] * n_steps
        self.expression: list[torch.Tensor | None] = [None] * n_steps

    def add(self, step: int, logs: torch.Tensor, reference: torch.Tensor) -> None:
        """Take in anchors: log expression at the step and at the reference, both (anchors, genes). Uses up ``logs``."""
        n_new = len(logs)
        expression = logs.exp().mean(dim=0)
        variance, mean = torch.var_mean(logs.sub_(reference), dim=0, correction=0)
        squares = variance * n_new
        n_old = self.n_anchors[step]
        if n_old:  # the moments of two parts from those of each
            share = n_new / (n_old + n_new)
            shift = mean - self.mean[step]
            squares = self.squares[step] + squares + shift.square() * (n_old * share)
            mean = self.mean[step] + shift * share
            expression = self.expression[step] + (expression - self.expression[step]) * share
        self.n_anchors[step] = n_old + n_new
        self.mean[step], self.squares[step], self.expression[step] = mean, squares, expression

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean log2 fold change, its standard error (NaN for one anchor) and expression, each of shape (n_genes,)."""
        n_anchors = self.n_anchors[step]
        mean = self.mean[step] / math.log(2)
        error = (self.squares[step] / max(n_anchors - 1, 1) / n_anchors).sqrt() / math.log(2)
        error = error if n_anchors > 1 else torch.full_like(error, math.nan)
        return mean.cpu().numpy(), error.cpu().numpy(), (self.expression[step] * self.counts).cpu().numpy()


class Responses:
    """Room for all numbers of a traversal, filled one dimension at a time, so that nothing is held twice.

    Parameters
    ----------
    n_dims, n_steps, n_genes
        Sizes.
    """

    def __init__(self, n_dims: int, n_steps: int, n_genes: int):
        self.shape = (n_dims, n_steps, n_genes)
        self.columns = {
            name: np.empty(self.shape, dtype=np.float32) for name in ("log_fold_change", "standard_error", "expression")
        }

    def put(self, place: int, moments: StepMoments) -> None:
        for step in range(self.shape[1]):
            for column, values in zip(self.columns.values(), moments.rows(step), strict=True):
                column[place, step] = values

    def frame(self, dims: np.ndarray, searches: list[Walk], genes: np.ndarray) -> pd.DataFrame:
        """The long frame; its numbers are those held here, not copies."""
        n_dims, n_steps, n_genes = self.shape
        code_type = np.int16 if n_genes <= np.iinfo(np.int16).max else np.int32
        gene = pd.Categorical.from_codes(
            np.tile(np.arange(n_genes, dtype=code_type), n_dims * n_steps), dtype=pd.CategoricalDtype(list(genes))
        )
        columns = {
            "dimension": np.repeat(dims.astype(np.int32), n_steps * n_genes),
            "step": np.tile(np.repeat(np.arange(n_steps, dtype=np.int32), n_genes), n_dims),
            "value": np.repeat(np.concatenate([path.values for path in searches]), n_genes),
            "gene": gene,
            **{name: values.reshape(-1) for name, values in self.columns.items()},
            "in_range": np.repeat(np.concatenate([path.in_range for path in searches]), n_genes),
        }
        return pd.DataFrame(columns, copy=False)
