"""Settings as plain values for JSON, and the differences between two sets of them."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("scbetavae", "scvi-tools", "torch", "lightning", "anndata", "numpy", "scikit-learn", "lightgbm")


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


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on; "unknown" for a checkout that was not installed."""
    installed = {name: next(iter(importlib.metadata.distributions(name=name)), None) for name in PACKAGES}
    versions = {name: "unknown" if found is None else found.version for name, found in installed.items()}
    return {"python": platform.python_version(), **versions}


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
