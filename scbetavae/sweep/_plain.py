"""Settings as plain values that JSON holds, and the differences between two sets of them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("scbetavae", "scvi-tools", "torch", "lightning", "anndata", "numpy", "scikit-learn", "lightgbm")


def to_plain(value: Any, where: str) -> Any:
    """A value as JSON would give it back.

    Parameters
    ----------
    value
        Number, string, boolean, ``None``, path, dataclass (such as a schedule of beta), or a list or mapping of them.
    where
        Name of the value, for the message.

    Raises
    ------
    TypeError
        For anything else: it could neither be written down nor be compared with what a folder was made with.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__} | to_plain(fields, where)
    if isinstance(value, Mapping):
        return {str(name): to_plain(item, f"{where}[{name!r}]") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item, f"{where}[{position}]") for position, item in enumerate(value)]
    msg = (
        f"{where} is a {type(value).__name__}, which a sweep can neither write down nor compare. "
        "Give numbers, strings, lists or mappings of them, or a schedule of scbetavae.train."
    )
    raise TypeError(msg)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two nested settings, one phrase each."""
    there, now = flatten(there), flatten(now)
    phrases = []
    for name in dict.fromkeys((*there, *now)):
        old, new = there.get(name), now.get(name)
        if old != new and not (name not in there and new is None) and not (name not in now and old is None):
            phrases.append(f"{name} is {_shorten(new)}, there it was {_shorten(old)}")
    return phrases


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
            versions[name] = "unknown"
    return versions


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
