"""Where a traversal starts and which values it takes, refused before any work where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scbetavae._core.checks import as_list, check_choice, check_key, check_number, check_whole_number
from scbetavae._core.columns import obs_of
from scbetavae._core.text import did_you_mean

from ._cells import resolve_rows

if TYPE_CHECKING:
    from anndata import AnnData

SCALES = {"prior": (-3.0, 3.0), "quantile": (0.01, 0.99)}
"""Units of the values, and their default ends."""

RANGE = (0.005, 0.995)
"""Quantiles of the posterior means between which a value is within the observed range."""


class Anchors(NamedTuple):
    """Positions of the cells that a traversal starts from, and of the population that defines the observed range."""

    rows: np.ndarray
    population: np.ndarray
    is_mean: bool
    """Whether one point, the mean of the anchors, stands for them."""
    text: str
    """The choice of anchors, as it is stored."""


class Path(NamedTuple):
    """Values that one dimension takes."""

    values: np.ndarray
    reference: float
    in_range: np.ndarray


def read_range(low: Any, high: Any, n_steps: Any, scale: Any) -> tuple[float, float]:
    """Ends of a traversal in units of ``scale``."""
    check_choice(scale, SCALES, "scale")
    check_whole_number(n_steps, "n_steps", 2)
    low, high = (default if end is None else end for end, default in zip((low, high), SCALES[scale], strict=True))
    low, high = check_number(low, "low"), check_number(high, "high")
    if low >= high:
        msg = f"low={low!r} and high={high!r}: pass low below high."
        raise ValueError(msg)
    if scale == "quantile" and not 0 <= low < high <= 1:
        msg = f'low={low:g} and high={high:g} are not quantiles, which lie in [0, 1]. For units of the prior: scale="prior".'
        raise ValueError(msg)
    return low, high


def read_anchors(adata: AnnData, around: Any, n_anchors: Any, seed: int) -> Anchors:
    """Cells to start from: drawn from all or from a group, named, or their mean."""
    n_anchors = check_whole_number(n_anchors, "n_anchors", 1)
    everyone = np.arange(adata.n_obs)
    if isinstance(around, str):
        if around not in ("cells", "mean"):
            msg = (
                f'around={around!r} is not allowed. Pass "cells" or "mean", a group such as around={{"cell_type": "B cell"}}, '
                "or the cells themselves as a list of names or numbers."
            )
            raise ValueError(msg)
        rows = everyone if around == "mean" else _draw(everyone, n_anchors, seed)
        return Anchors(rows, everyone, around == "mean", around)
    if isinstance(around, Mapping):
        rows = _rows_of_group(adata, around)
        text = ", ".join(f"{key} = {value}" for key, value in around.items())
        return Anchors(_draw(rows, n_anchors, seed), rows, False, text)
    rows = resolve_rows(adata, around, "around", at_least_one=True)
    return Anchors(rows, everyone, False, f"{len(rows)} named cells")


def path_of(seen: np.ndarray, ends: tuple[float, float], n_steps: int, scale: str) -> Path:
    """Values of one dimension, given the posterior means of the cells that define the observed range.

    Values and their reference do not depend on the anchors, so that every anchor takes the same path: units of the standard
    normal prior, or from one quantile of the data to another, with their median as reference.
    """
    seen = seen.astype(np.float64)
    low, high = np.quantile(seen, RANGE)
    start, stop, reference = (*ends, 0.0) if scale == "prior" else (*np.quantile(seen, ends), np.median(seen))
    # The frame holds values in single precision; the range is judged on the same numbers.
    values = np.linspace(start, stop, n_steps).astype(np.float32)
    return Path(values, float(reference), (values >= np.float32(low)) & (values <= np.float32(high)))


def _draw(rows: np.ndarray, n_anchors: int, seed: int) -> np.ndarray:
    """Some of the rows, in their order."""
    if len(rows) <= n_anchors:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size=n_anchors, replace=False))


def _rows_of_group(adata: AnnData, group: Mapping[str, Any]) -> np.ndarray:
    """Cells with one of the values in every column."""
    if not group:
        msg = 'around is an empty dict: name a column of adata.obs and a value, for example {"cell_type": "B cell"}.'
        raise ValueError(msg)
    inside = np.ones(adata.n_obs, dtype=bool)
    for key, wanted in group.items():
        check_key(key, adata.obs.columns, "around", "adata.obs")
        column = obs_of(adata)[key]
        values = as_list(wanted) if isinstance(wanted, (str, list, tuple, set, np.ndarray, pd.Index)) else [wanted]
        present = (
            list(column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else list(column.unique())
        )
        for value in values:
            if value not in present:
                hint = did_you_mean(value, present) or f" It has, for example, {present[:8]}."
                msg = f"around={{{key!r}: {value!r}}}: adata.obs[{key!r}] has no such group.{hint}"
                raise ValueError(msg)
        inside &= column.isin(values).to_numpy()
    if not inside.any():
        msg = f"around={dict(group)!r}: no cell belongs to this group. Choose another, or fewer conditions."
        raise ValueError(msg)
    return np.flatnonzero(inside)
