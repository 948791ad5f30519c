"""What one run leaves behind; settings and versions as plain values, and the differences between two sets of them."""

import dataclasses
import importlib.metadata
import json
import platform
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

_PACKAGES = ("scbetavae", "scvi-tools", "torch", "lightning", "anndata", "numpy", "scikit-learn", "lightgbm")
_NUMBERS = ("value", "null", "p_value", "ceiling", "normalized", "ci_low", "ci_high", "n_cells", "n_classes")
SCORE_COLUMNS = {"metric": str, "covariate": str, "level": str, **dict.fromkeys(_NUMBERS, float), "flag": str}
"""Columns of the scores of a run, and their types."""


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on; "unknown" for a checkout that was not installed."""
    installed = {name: next(iter(importlib.metadata.distributions(name=name)), None) for name in _PACKAGES}
    versions = {name: "unknown" if found is None else found.version for name, found in installed.items()}
    return {"python": platform.python_version(), **versions}


@dataclasses.dataclass(frozen=True)
class RunResult:
    """Scores and embedding of a finished run, or the error of one that failed."""

    scores: pd.DataFrame
    latent: np.ndarray | None = None
    """Embedding of all cells, (n_cells, n_dims), float32."""
    active: np.ndarray | None = None
    """Dimensions that take part in the agreement of seeds, boolean (n_dims,); all where there is none."""
    history: pd.DataFrame | None = None
    model: bytes | None = None
    error: str = ""
    traceback: str = ""
    warnings: list[str] = dataclasses.field(default_factory=list)
    versions: dict[str, str] = dataclasses.field(default_factory=package_versions)

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


def to_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON would give them back; a TypeError for a value that can neither be stored nor compared."""
    return json.loads(json.dumps(dict(settings), default=_plain))


def _plain(value: Any) -> Any:
    """What JSON does not know: numbers of numpy, paths, other mappings, dataclasses such as a schedule of beta."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__} | fields
    if isinstance(value, Mapping):
        return dict(value)
    msg = (
        f"The arguments have a {type(value).__name__} ({_shorten(value)}), which a sweep can neither store nor compare. "
        "Pass numbers, strings, lists or mappings of them, or a schedule of scbetavae.train."
    )
    raise TypeError(msg)


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two nested settings, one phrase each; one that is missing equals ``None``."""
    stored, now = _flatten(stored), _flatten(now)
    return [
        f"{name} is {_shorten(now.get(name))}, there it was {_shorten(stored.get(name))}"
        for name in dict.fromkeys((*stored, *now))
        if stored.get(name) != now.get(name)
    ]


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    flat = {}
    for name, value in settings.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def _shorten(value: Any) -> str:
    """At most 60 characters of a value."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
