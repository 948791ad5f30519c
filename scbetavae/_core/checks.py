"""Argument checks, each written once: the message says what was passed, what is allowed and what to do next."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scbetavae._core.text import did_you_mean, listed


def as_list(names: Any) -> list[Any]:
    """One name, several, or ``None``, as a list."""
    if names is None:
        return []
    return [names] if isinstance(names, (str, int, np.integer)) else list(names)


def check_choice(value: Any, allowed: Iterable[Any], argument: str, *, hint: str = "") -> None:
    """Raise a ValueError with the nearest allowed value, unless ``value`` is allowed."""
    allowed = list(allowed)
    if any(value is known or (type(value) is type(known) and value == known) for known in allowed):
        return
    msg = f"{argument}={value!r} is not allowed.{did_you_mean(value, allowed)} Choose from {listed(allowed, 40)}.{hint}"
    raise ValueError(msg)


def check_arguments(given: Iterable[str], allowed: Iterable[str], where: str) -> None:
    """Raise a TypeError with the nearest argument for one that ``where`` does not take."""
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            takes = f"It takes {listed(allowed, 40)}." if allowed else "It takes none."
            msg = f"{where} has no argument {name!r}.{did_you_mean(name, allowed)} {takes}"
            raise TypeError(msg)


def read_options(function: Callable[..., Any], given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The ``**options`` of a function with their defaults; a TypeError with the nearest name for one that does not exist."""
    if not given.keys() <= defaults.keys():
        named = [name for name, p in inspect.signature(function).parameters.items() if p.kind != p.VAR_KEYWORD]
        check_arguments(given, [name for name in [*named, *defaults] if name != "self"], f"{function.__name__}()")
    return {**defaults, **given}


def check_key(key: Any, present: Iterable[Any], argument: str, where: str) -> None:
    """Raise a KeyError with the nearest key, unless ``key`` is one of those present in ``where``."""
    present = [name for name in present if name is not None]  # anndata 0.13 lists .X among the layers, as None
    if key not in present:
        msg = f"{argument}={key!r} is not in {where}.{did_you_mean(key, present)} {where} has {listed(present)}."
        raise KeyError(msg)


def check_keys(keys: Mapping[str, Any], present: Iterable[Any], where: str) -> None:
    """`check_key` for several arguments; ``None`` is skipped."""
    present = list(present)
    for argument, key in keys.items():
        if key is not None:
            check_key(key, present, argument, where)


def check_whole_number(value: Any, argument: str, minimum: int = 0, maximum: int | None = None) -> int:
    """An integer within bounds; anything else, a boolean too, is a ValueError."""
    allowed = f"an integer of at least {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not is_whole or value < minimum or (maximum is not None and value > maximum):
        msg = f"{argument}={value!r} is not allowed: pass {allowed}."
        raise ValueError(msg)
    return int(value)


def check_number(
    value: Any, argument: str, low: float = -math.inf, high: float = math.inf, *, open_: str = ""
) -> float:
    """A finite number in [low, high]; ``open_`` names the ends that are excluded: "low", "high" or "both"."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) else math.nan
    open_low, open_high = open_ in ("low", "both"), open_ in ("high", "both")
    within = (number > low if open_low else number >= low) and (number < high if open_high else number <= high)
    if within and math.isfinite(number):
        return number
    allowed = f" in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    if math.isinf(high):
        allowed = "" if math.isinf(low) else f" {'above' if open_low else 'of at least'} {low:g}"
    elif math.isinf(low):
        allowed = f" {'below' if open_high else 'of at most'} {high:g}"
    msg = f"{argument}={value!r} is not allowed: pass a number{allowed}."
    raise ValueError(msg)


def check_adata(adata: Any, *, key_added: str | None = None, instead: str = "") -> None:
    """Raise unless results can be written to ``adata``: an AnnData, no view, and a name that AnnData can store."""
    if not isinstance(adata, AnnData):
        msg = f"adata is a {type(adata).__name__}, not an AnnData.{f' {instead}' if instead else ''}"
        raise TypeError(msg)
    if adata.is_view:
        msg = "adata is a view of another AnnData, so nothing can be stored in it. Run adata = adata.copy() first."
        raise ValueError(msg)
    if key_added is not None and (not isinstance(key_added, str) or not key_added or "/" in key_added):
        msg = f"key_added={key_added!r} cannot name a result. Pass a name that is not empty and contains no '/'."
        raise ValueError(msg)


def check_dimensions(
    dimensions: Any, n_dims: int, argument: str = "dimensions", names: Iterable[str] = ()
) -> list[int]:
    """Dimensions by number from 0, or by name, once each and in the order given."""
    by_name = {name: number for number, name in enumerate(names)}
    found: list[int] = []
    for given in as_list(dimensions):
        if isinstance(given, str) and given in by_name:
            number = by_name[given]
        elif isinstance(given, str):
            allowed = f"numbers from 0 to {n_dims - 1}" + (f" or {listed(by_name)}" if by_name else "")
            msg = f"{argument} has {given!r}, which names no dimension.{did_you_mean(given, by_name)} Pass {allowed}."
            raise KeyError(msg)
        elif isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, np.integer)) or not 0 <= given < n_dims:
            msg = f"{argument} has {given!r}, but dimensions are numbered from 0 to {n_dims - 1}."
            raise ValueError(msg)
        else:
            number = int(given)
        if number in found:
            msg = f"{argument} has dimension {number} twice. Pass each dimension once."
            raise ValueError(msg)
        found.append(number)
    if not found:
        msg = f"{argument} is empty: pass at least one dimension."
        raise ValueError(msg)
    return found


def finite_matrix(values: Any, name: str, *, rows: Iterable[Any] | None = None) -> np.ndarray:
    """Finite float64 numbers of shape (n_cells, n_dims), at least one dimension; ``rows`` are names of cells for messages."""
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    if sparse.issparse(values):
        values = values.toarray()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{name} does not hold numbers. Pass an array of shape (n_cells, n_dims)."
        raise TypeError(msg) from error
    if array.ndim != 2 or array.shape[1] == 0:
        hint = f" For a single dimension pass {name}[:, None]." if array.ndim == 1 else ""
        msg = f"{name} has shape {array.shape}; expected (n_cells, n_dims) with at least one dimension.{hint}"
        raise ValueError(msg)
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if broken.size:
        first = "" if rows is None else f", the first {list(rows)[broken[0]]!r}"
        msg = f"{name} holds NaN or infinite values in {broken.size} cells{first}. Remove these cells or recompute {name}."
        raise ValueError(msg)
    return array
