"""Where a traversal starts and which way it goes, refused before any work where it does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scbetavae._core.checks import check_key

from ._cells import resolve_rows

if TYPE_CHECKING:
    from anndata import AnnData

SCALES = {"prior": (-3.0, 3.0), "quantile": (0.01, 0.99)}
"""What steps are measured in, and from where to where they go by default."""

SUPPORT = (0.005, 0.995)
"""Quantiles of the cells' codes between which a value counts as seen."""


class Anchors(NamedTuple):
    """Cells that a traversal starts from."""

    rows: np.ndarray
    """Places of the anchors in the data."""
    population: np.ndarray
    """Places of the cells that say where the data lie."""
    is_mean: bool
    """Whether one point, the mean of the anchors, stands in for them."""
    words: str
    """What was asked for, as it is stored."""


class Walk(NamedTuple):
    """Values that one dimension takes."""

    values: np.ndarray
    reference: float
    in_range: np.ndarray


def read_range(low: Any, high: Any, n_steps: Any, scale: Any) -> tuple[float, float]:
    """Ends of a traversal in units of ``scale``."""
    if scale not in SCALES:
        msg = f"scale={scale!r} is unknown. Take one of {list(SCALES)}."
        raise ValueError(msg)
    low, high = (default if end is None else end for end, default in zip((low, high), SCALES[scale], strict=True))
    numbers = all(isinstance(end, (int, float, np.number)) and np.isfinite(end) for end in (low, high))
    if not numbers or low >= high:
        msg = f"low={low!r} and high={high!r}: both must be finite numbers, low below high."
        raise ValueError(msg)
    if scale == "quantile" and not 0 <= low < high <= 1:
        msg = f'low={low:g} and high={high:g} are no quantiles, which lie in [0, 1]. For units of the prior: scale="prior".'
        raise ValueError(msg)
    if not isinstance(n_steps, (int, np.integer)) or n_steps < 2:
        msg = f"n_steps={n_steps!r}: a traversal needs a whole number of at least 2 steps."
        raise ValueError(msg)
    return float(low), float(high)


def read_dims(dims: Any, n_latent: int) -> np.ndarray | None:
    """Dimensions by number, each once; ``None`` for all active ones."""
    if dims is None:
        return None
    wanted = np.atleast_1d(np.asarray(dims))
    if wanted.size == 0 or wanted.ndim != 1 or wanted.dtype.kind not in "iu":
        msg = (
            f"dims={dims!r}: name dimensions by number, from 0 to {n_latent - 1}, or leave it out for all active ones."
        )
        raise ValueError(msg)
    unknown = [int(d) for d in wanted if not 0 <= d < n_latent]
    if unknown:
        msg = f"dims names {unknown}, but the model has dimensions 0 to {n_latent - 1}."
        raise ValueError(msg)
    if len(set(wanted.tolist())) < len(wanted):
        msg = f"dims={dims!r} names a dimension twice. Name each once."
        raise ValueError(msg)
    return wanted


def read_anchors(adata: AnnData, around: Any, n_anchors: Any, seed: int) -> Anchors:
    """Cells to start from: drawn of all or of a group, named, or their mean."""
    if not isinstance(n_anchors, (int, np.integer)) or n_anchors < 1:
        msg = f"n_anchors={n_anchors!r}: a traversal starts from a whole number of at least 1 cell."
        raise ValueError(msg)
    everyone = np.arange(adata.n_obs)
    if isinstance(around, str):
        if around not in ("cells", "mean"):
            msg = (
                f'around={around!r} is unknown. Take "cells" or "mean", a group, for example around={{"cell_type": "B cell"}}, '
                "or the cells themselves as a list of names or numbers."
            )
            raise ValueError(msg)
        rows = everyone if around == "mean" else _draw(everyone, n_anchors, seed)
        return Anchors(rows, everyone, around == "mean", around)
    if isinstance(around, Mapping):
        rows = _rows_of_group(adata, around)
        words = ", ".join(f"{key} = {value}" for key, value in around.items())
        return Anchors(_draw(rows, n_anchors, seed), rows, False, words)
    rows = resolve_rows(adata, around, "around", at_least_one=True)
    return Anchors(rows, everyone, False, f"{len(rows)} named cells")


def steps(
    codes: np.ndarray, dimension: int, ends: tuple[float, float], n_steps: int, scale: str, prior: tuple[float, float]
) -> Walk:
    """Values of one dimension, given the codes of the cells that say where the data lie.

    Steps and their reference are places that do not depend on the anchors, so that every anchor takes the same path: units of
    the prior around its mean, or the way from one quantile of the data to another, seen from their median.
    """
    seen = codes[:, dimension].astype(np.float64)
    low, high = np.quantile(seen, SUPPORT)
    if scale == "prior":
        mean, spread = prior
        values, reference = mean + spread * np.linspace(*ends, n_steps), mean
    else:
        values, reference = np.linspace(*np.quantile(seen, ends), n_steps), np.median(seen)
    # The frame holds values in single precision; the support is judged on the same numbers.
    values = values.astype(np.float32)
    return Walk(values, float(reference), (values >= np.float32(low)) & (values <= np.float32(high)))


def _draw(rows: np.ndarray, n_anchors: int, seed: int) -> np.ndarray:
    if len(rows) <= n_anchors:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size=n_anchors, replace=False))


def _rows_of_group(adata: AnnData, group: Mapping[str, Any]) -> np.ndarray:
    if not group:
        msg = 'around is an empty dict: name a column of adata.obs and a value, for example {"cell_type": "B cell"}.'
        raise ValueError(msg)
    inside = np.ones(adata.n_obs, dtype=bool)
    for key, wanted in group.items():
        check_key(key, list(adata.obs.columns), "around", "adata.obs")
        column = adata.obs[key]
        values = list(wanted) if isinstance(wanted, (list, tuple, set, np.ndarray, pd.Index)) else [wanted]
        there = list(column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else list(column.unique())
        for value in values:
            if value not in there:
                near = difflib.get_close_matches(str(value), [str(name) for name in there], n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]!r}?" if near else f" It has, for example, {there[:8]}."
                msg = f"around={{{key!r}: {value!r}}}: adata.obs[{key!r}] has no such group.{hint}"
                raise ValueError(msg)
        inside &= column.isin(values).to_numpy()
    if not inside.any():
        msg = f"around={dict(group)!r}: no cell belongs to this group. Choose another, or fewer conditions."
        raise ValueError(msg)
    return np.flatnonzero(inside)
