"""Checks of arguments, and what the data sets share: key strings and quiet construction of AnnData."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral, Real

import numpy as np

# The same strings as in scbetavae._core.keys, which this sub-package may not import; a test compares them.
UNS = "betavae"
SIMULATION = "simulation"
PLANTED_BATCH = "planted_batch"


def check_integer(name: str, value: object, *, minimum: int) -> int:
    """Return ``value`` as an ``int``, or raise if it is not a whole number of at least ``minimum``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        msg = f"{name} must be a whole number of at least {minimum}, got {value!r}."
        raise TypeError(msg)
    if value < minimum:
        msg = f"{name} must be at least {minimum}, got {value}."
        raise ValueError(msg)
    return int(value)


def check_real(name: str, value: object, *, low: float, high: float) -> float:
    """Return ``value`` as a ``float``, or raise if it is not a finite number from ``low`` to ``high``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        msg = f"{name} must be a number from {low:g} to {high:g}, got {value!r}."
        raise TypeError(msg)
    if not low <= value <= high:  # also false for NaN
        msg = f"{name} must be a finite number from {low:g} to {high:g}, got {value}."
        raise ValueError(msg)
    return float(value)


def check_name(what: str, value: object, allowed: Iterable[str]) -> str:
    """Return ``value``, or raise with the nearest allowed name if it is not one of ``allowed``."""
    names = list(allowed)
    if isinstance(value, str) and value in names:
        return value
    nearest = get_close_matches(value, names, n=1) if isinstance(value, str) else []
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    msg = f"{value!r} is not a {what}.{hint} Allowed: {', '.join(names)}."
    raise ValueError(msg)


@contextmanager
def pandas_options_quiet() -> Iterator[None]:
    """Silence what anndata 0.13 provokes under pandas 3.1: it reads pandas options that are on their way out."""
    with warnings.catch_warnings():
        for option in ("future.infer_string", "mode.chained_assignment"):
            warnings.filterwarnings("ignore", message=f".*'{option}' option", category=DeprecationWarning)
        yield
