"""What one run leaves behind."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.sweep._plain import package_versions

if TYPE_CHECKING:
    from collections.abc import Iterable

SCORE_COLUMNS = {
    "metric": str,
    "covariate": str,
    "level": str,
    "value": float,
    "null": float,
    "p_value": float,
    "ceiling": float,
    "normalized": float,
    "ci_low": float,
    "ci_high": float,
    "n_cells": float,
    "n_classes": float,
    "flag": str,
}
"""Columns of the scores of a run, and what they hold."""


@dataclass(frozen=True)
class RunResult:
    """Scores and codes of a finished run, or the error of one that failed; small, and as plain as a file."""

    scores: pd.DataFrame
    codes: np.ndarray | None = None
    """Codes of all cells, (n_cells, n_dims), float32."""
    active: np.ndarray | None = None
    """Dimensions that take part in the agreement of seeds, boolean (n_dims,)."""
    history: pd.DataFrame | None = None
    model: bytes | None = None
    error: str = ""
    traceback: str = ""
    warnings: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=package_versions)

    @property
    def failed(self) -> bool:
        """Whether there is nothing but an error."""
        return bool(self.error)

    @classmethod
    def of_error(cls, error: BaseException) -> RunResult:
        """What is left of a run that raised."""
        text = " ".join(str(error).split())
        return cls(
            empty_scores(),
            error=f"{type(error).__name__}: {text}" if text else type(error).__name__,
            traceback="".join(traceback.format_exception(error)),
        )


def empty_scores() -> pd.DataFrame:
    """No scores, with their columns."""
    return pd.DataFrame(
        {name: pd.Series(dtype=object if kind is str else kind) for name, kind in SCORE_COLUMNS.items()}
    )


def stack_scores(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Frames of scores below each other, with every column of :data:`SCORE_COLUMNS`."""
    filled = []
    for frame in frames:
        columns = {}
        for name, kind in SCORE_COLUMNS.items():
            absent = "" if kind is str else np.nan
            column = frame[name] if name in frame else pd.Series(absent, index=frame.index)
            columns[name] = column.astype(object) if kind is str else column.astype(kind)
        filled.append(pd.DataFrame(columns))
    return pd.concat(filled, ignore_index=True) if filled else empty_scores()


def quantity_rows(values: dict[str, float], n_cells: float = np.nan) -> pd.DataFrame:
    """Rows of numbers that have no covariate, such as the likelihood over ``n_cells`` cells, or the cost of a run."""
    return pd.DataFrame({"metric": list(values), "value": [float(v) for v in values.values()], "n_cells": n_cells})
