"""What one run leaves behind."""

import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd

from scbetavae.sweep._plain import package_versions

_NUMBERS = ("value", "null", "p_value", "ceiling", "normalized", "ci_low", "ci_high", "n_cells", "n_classes")
SCORE_COLUMNS = {"metric": str, "covariate": str, "level": str, **dict.fromkeys(_NUMBERS, float), "flag": str}
"""Columns of the scores of a run, and their types."""


@dataclass(frozen=True)
class RunResult:
    """Scores and embedding of a finished run, or the error of one that failed."""

    scores: pd.DataFrame
    codes: np.ndarray | None = None
    """Embedding of all cells, (n_cells, n_dims), float32."""
    active: np.ndarray | None = None
    """Dimensions that take part in the agreement of seeds, boolean (n_dims,); all where there is none."""
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
    def of_error(cls, error: BaseException) -> Self:
        """What is left of a run that raised."""
        text = " ".join(str(error).split())
        return cls(
            stack_scores([]),
            error=f"{type(error).__name__}: {text}" if text else type(error).__name__,
            traceback="".join(traceback.format_exception(error)),
        )


def stack_scores(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Frames of scores in one, with every column of :data:`SCORE_COLUMNS`."""
    blank = pd.DataFrame(
        {name: pd.Series(dtype=object if kind is str else kind) for name, kind in SCORE_COLUMNS.items()}
    )
    filled = []
    for frame in frames:
        texts = {name: frame.get(name, "") for name, kind in SCORE_COLUMNS.items() if kind is str}
        filled.append(frame.assign(**texts).reindex(columns=blank.columns).astype(blank.dtypes))
    return pd.concat([frame for frame in filled if len(frame)] or [blank], ignore_index=True)


def quantity_rows(values: dict[str, float], n_cells: float = np.nan) -> pd.DataFrame:
    """Rows of numbers without a covariate, such as the likelihood over ``n_cells`` cells, or the cost of a run."""
    return pd.DataFrame({"metric": list(values), "value": [float(v) for v in values.values()], "n_cells": n_cells})
