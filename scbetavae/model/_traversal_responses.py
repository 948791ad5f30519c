"""Fold changes of a traversal: summed over anchors as they are decoded, laid out as one long frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from ._traversal_inputs import Path

COLUMNS = ("log_fold_change", "standard_error", "expression")
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


class Moments:
    """Mean and spread over anchors of the fold changes of every step, (n_steps, n_genes), from several batches of anchors."""

    def __init__(self, n_steps: int, n_genes: int, device: torch.device) -> None:
        self.n_anchors = [0] * n_steps
        self.mean, self.squares, self.expression = (torch.zeros(n_steps, n_genes, device=device) for _ in range(3))

    def add(self, step: int, logs: torch.Tensor, reference: torch.Tensor) -> None:
        """Take in anchors: log expression at the step and at the reference, both (anchors, genes). Uses up ``logs``."""
        n_old, n_new = self.n_anchors[step], len(logs)
        share = n_new / (n_old + n_new)
        self.n_anchors[step] = n_old + n_new
        self.expression[step] += (logs.exp().mean(dim=0) - self.expression[step]) * share
        variance, mean = torch.var_mean(logs.sub_(reference), dim=0, correction=0)
        shift = mean - self.mean[step]
        self.squares[step] += variance * n_new + shift.square() * (n_old * share)
        self.mean[step] += shift * share

    def columns(self, counts: float) -> tuple[np.ndarray, ...]:
        """Mean log2 fold change, its standard error (NaN for one anchor) and expression, each (n_steps, n_genes)."""
        n_anchors = self.n_anchors[0]
        error = (self.squares / max(n_anchors - 1, 1) / n_anchors).sqrt() / math.log(2)
        error = error if n_anchors > 1 else torch.full_like(error, math.nan)
        return tuple(values.cpu().numpy() for values in (self.mean / math.log(2), error, self.expression * counts))


def long_frame(dims: np.ndarray, paths: list[Path], genes: np.ndarray, responses: np.ndarray) -> pd.DataFrame:
    """The long frame of responses of shape (n_columns, n_dims, n_steps, n_genes), which are not copied."""
    _, n_dims, n_steps, n_genes = responses.shape
    code_type = np.int16 if n_genes <= np.iinfo(np.int16).max else np.int32
    codes = np.tile(np.arange(n_genes, dtype=code_type), n_dims * n_steps)
    columns = {
        "dimension": np.repeat(dims.astype(np.int32), n_steps * n_genes),
        "step": np.tile(np.repeat(np.arange(n_steps, dtype=np.int32), n_genes), n_dims),
        "value": np.repeat(np.concatenate([path.values for path in paths]), n_genes),
        "gene": pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(genes))),
        **dict(zip(COLUMNS, responses.reshape(len(COLUMNS), -1), strict=True)),
        "in_range": np.repeat(np.concatenate([path.in_range for path in paths]), n_genes),
    }
    return pd.DataFrame(columns, copy=False)
