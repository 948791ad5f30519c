"""Fold changes of a traversal: summed over anchors as they are decoded, laid out as one long frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from ._traversal_inputs import Path

COUNTS = 1e4
"""Counts of the cell in which expression is reported."""

_LINEAR_BELOW = -15.0


def log_expression(head: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of normalized expression, finite where expression itself would round to 0."""
    logits = head[0](hidden)
    if isinstance(head[1], torch.nn.Softmax):
        return torch.log_softmax(logits, dim=-1)
    # log softplus(x) is x far below 0, where softplus rounds to nothing.
    return torch.where(logits > _LINEAR_BELOW, head[1](logits.clamp_min(_LINEAR_BELOW)).log(), logits)


class StepMoments:
    """Mean and spread over anchors of the fold changes of one step, from several batches of anchors."""

    def __init__(self) -> None:
        self.n_anchors = 0
        self.mean = self.squares = self.expression = torch.zeros(())

    def add(self, logs: torch.Tensor, reference: torch.Tensor) -> None:
        """Take in anchors: log expression at the step and at the reference, both (anchors, genes). Uses up ``logs``."""
        n_old, n_new = self.n_anchors, len(logs)
        expression = logs.exp().mean(dim=0)
        variance, mean = torch.var_mean(logs.sub_(reference), dim=0, correction=0)
        squares = variance * n_new
        if n_old:  # the moments of two parts from those of each
            share = n_new / (n_old + n_new)
            shift = mean - self.mean
            squares = self.squares + squares + shift.square() * (n_old * share)
            mean = self.mean + shift * share
            expression = self.expression + (expression - self.expression) * share
        self.n_anchors, self.mean, self.squares, self.expression = n_old + n_new, mean, squares, expression

    def columns(self, counts: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean log2 fold change, its standard error (NaN for one anchor) and expression, each of shape (n_genes,)."""
        error = (self.squares / max(self.n_anchors - 1, 1) / self.n_anchors).sqrt() / math.log(2)
        error = error if self.n_anchors > 1 else torch.full_like(error, math.nan)
        return (self.mean / math.log(2)).cpu().numpy(), error.cpu().numpy(), (self.expression * counts).cpu().numpy()


class Responses:
    """All numbers of a traversal, filled one dimension at a time, so that nothing is held twice."""

    def __init__(self, n_dims: int, n_steps: int, n_genes: int):
        self.shape = (n_dims, n_steps, n_genes)
        names = ("log_fold_change", "standard_error", "expression")
        self.columns = {name: np.empty(self.shape, dtype=np.float32) for name in names}

    def put(self, place: int, moments: list[StepMoments], counts: float) -> None:
        """Fill in one dimension."""
        for step, moment in enumerate(moments):
            for column, values in zip(self.columns.values(), moment.columns(counts), strict=True):
                column[place, step] = values

    def frame(self, dims: np.ndarray, paths: list[Path], genes: np.ndarray) -> pd.DataFrame:
        """The long frame; its numbers are those held here, not copies."""
        n_dims, n_steps, n_genes = self.shape
        code_type = np.int16 if n_genes <= np.iinfo(np.int16).max else np.int32
        codes = np.tile(np.arange(n_genes, dtype=code_type), n_dims * n_steps)
        columns = {
            "dimension": np.repeat(dims.astype(np.int32), n_steps * n_genes),
            "step": np.tile(np.repeat(np.arange(n_steps, dtype=np.int32), n_genes), n_dims),
            "value": np.repeat(np.concatenate([path.values for path in paths]), n_genes),
            "gene": pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(genes))),
            **{name: values.reshape(-1) for name, values in self.columns.items()},
            "in_range": np.repeat(np.concatenate([path.in_range for path in paths]), n_genes),
        }
        return pd.DataFrame(columns, copy=False)
