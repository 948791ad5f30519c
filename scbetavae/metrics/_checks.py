"""What every score accepts: an embedding with its active dimensions, and covariates as columns of a data frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pandas.api import types

from scbetavae._core.checks import finite_matrix
from scbetavae._core.constants import ACTIVE_KL

MINIMUM_RELATIVE_SPREAD = 0.05

_SPREAD_AT_MINIMUM_KL = np.sqrt(2 * ACTIVE_KL)


def active_dimensions(codes: ArrayLike, *, kl: ArrayLike | None = None) -> np.ndarray:
    """Dimensions that carry information about the cells, a boolean array of shape (n_dims,).

    A variational autoencoder switches dimensions off: their posterior means shrink to about :math:`10^{-3}` but may
    still order the cells, so that a score based on ranks would give a dead dimension full marks.

    A dimension is active if its standard deviation exceeds 5% of the median over the active ones and, with ``kl``, its mean KL
    divergence exceeds 0.01 nats. The first condition is solved by iteration, from the dimensions with enough KL divergence or,
    without ``kl``, with a standard deviation above 0.14 (0.01 nats under a standard normal), or else all that vary.

    Parameters
    ----------
    codes
        Posterior means, or any embedding, of shape (n_cells, n_dims), finite, otherwise a ValueError is raised.
    kl
        Mean KL divergence per dimension, of shape (n_dims,), in nats.

    Examples
    --------
    >>> active_dimensions(np.random.default_rng(0).normal(size=(100, 3)) * [1.0, 0.8, 0.001]).tolist()
    [True, True, False]
    """
    array = finite_matrix(codes, "codes")
    if len(array) == 0:
        return np.zeros(array.shape[1], dtype=bool)
    varies = array.max(axis=0) > array.min(axis=0)
    if kl is not None:
        kl = np.asarray(kl, dtype=np.float64)
        if kl.shape != varies.shape:
            msg = f"`kl` has shape {kl.shape}; it needs one value per dimension, shape {varies.shape}."
            raise ValueError(msg)
        varies &= kl > ACTIVE_KL
    # Scaled first: squares of very large codes would overflow, squares of very small ones underflow.
    largest = np.abs(array).max(axis=0)
    spread = (array / np.where(largest > 0, largest, 1.0)).std(axis=0) * largest
    active = varies & (spread > _SPREAD_AT_MINIMUM_KL)
    active = active if active.any() and kl is None else varies
    while active.any():
        following = varies & (spread > MINIMUM_RELATIVE_SPREAD * np.median(spread[active]))
        if (following == active).all():
            break
        active = following
    return active


def resolve_active(codes: np.ndarray, active: ArrayLike | None) -> np.ndarray:
    """The mask the caller gave, checked, or `active_dimensions`."""
    return active_dimensions(codes) if active is None else check_mask(active, codes.shape[1], "active")


def check_mask(mask: ArrayLike | None, n: int, argument: str, *, part: bool = False) -> Any:
    """A boolean array of shape (n,), with ``part`` neither all nor none of them; ``None`` stays."""
    if mask is None:
        return None
    array = np.asarray(mask)
    if array.dtype != bool or array.shape != (n,):
        msg = f"`{argument}` has dtype {array.dtype} and shape {array.shape}: pass a boolean mask of shape ({n},)."
        raise ValueError(msg)
    if part and (array.all() or not array.any()):
        held = "all" if array.all() else "no"
        msg = f"`{argument}` holds {held} cells. Leave cells for training and cells for evaluation."
        raise ValueError(msg)
    return array


@dataclass(frozen=True)
class Covariate:
    """A column, encoded: class indices, -1 where the label is missing, or floats, NaN where it is missing."""

    name: str
    values: np.ndarray
    classes: tuple[str, ...] = ()
    is_numeric: bool = False
    integer: bool = False  # a numeric column held integers, which the parity modes read as classes

    @property
    def present(self) -> np.ndarray:
        """Boolean, one per cell: the label is not missing."""
        return ~np.isnan(self.values) if self.is_numeric else self.values >= 0

    def take(self, cells: np.ndarray) -> Covariate:
        """The same covariate on some cells."""
        return replace(self, values=self.values[cells])

    def observed(self) -> Covariate:
        """With the classes that its cells, none of which lack a label, have, numbered without gaps."""
        if self.is_numeric:
            return self
        kinds, labels = np.unique(self.values, return_inverse=True)
        return replace(self, values=labels.reshape(-1), classes=tuple(self.classes[k] for k in kinds))

    def as_classes(self) -> Covariate:
        """A numeric covariate as classes, one per distinct value."""
        return _encode(self.name, pd.Series(self.values), classes=True) if self.is_numeric else self


class Inputs(NamedTuple):
    """Checked arguments of a score."""

    codes: np.ndarray
    active: np.ndarray
    covariates: list[Covariate]
    groups: np.ndarray | None

    @property
    def values(self) -> np.ndarray:
        """Active dimensions as rows, (n_active, n_cells)."""
        return np.ascontiguousarray(self.codes[:, self.active].T)


def check_inputs(
    codes: ArrayLike,
    factors: pd.DataFrame,
    active: ArrayLike | None = None,
    groups: ArrayLike | pd.Series | None = None,
) -> Inputs:
    """All four, checked."""
    array = finite_matrix(codes, "codes")
    mask = resolve_active(array, active)
    return Inputs(array, mask, check_factors(factors, len(array)), check_groups(groups, len(array)))


def check_factors(factors: pd.DataFrame, n_cells: int, *, classes: bool = False) -> list[Covariate]:
    """Encoded columns of ``factors``, numbers also as ``classes``."""
    if isinstance(factors, pd.Series):
        factors = factors.to_frame(name="covariate" if factors.name is None else factors.name)
    elif not isinstance(factors, pd.DataFrame):
        factors = pd.DataFrame(factors)
    if len(factors) != n_cells:
        msg = f"`factors` has {len(factors)} rows and `codes` has {n_cells}. Both need one row per cell, in one order."
        raise ValueError(msg)
    if factors.shape[1] == 0:
        msg = "`factors` has no columns. Pass at least one covariate."
        raise ValueError(msg)
    names = [str(name) for name in factors.columns]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        msg = f"`factors` names some covariates twice: {twice}. Give every column its own name."
        raise ValueError(msg)
    return [_encode(name, factors.iloc[:, i], classes=classes) for i, name in enumerate(names)]


def check_column(column: ArrayLike | pd.Series, n_cells: int, name: str, *, classes: bool = False) -> Covariate:
    """One extra column (batch, a confounder), encoded."""
    series = column if isinstance(column, pd.Series) else pd.Series(np.asarray(column))
    return check_factors(series.to_frame(name if series.name is None else series.name), n_cells, classes=classes)[0]


def check_groups(groups: ArrayLike | pd.Series | None, n_cells: int) -> np.ndarray | None:
    """Group index of every cell; none may be missing."""
    if groups is None:
        return None
    series = groups if isinstance(groups, pd.Series) else pd.Series(np.asarray(groups))
    if len(series) != n_cells:
        msg = f"`groups` has {len(series)} values and `codes` has {n_cells} cells. Pass one group per cell."
        raise ValueError(msg)
    index, _ = pd.factorize(series, sort=False)
    if (index < 0).any():
        msg = f"`groups` is missing for {int((index < 0).sum())} cells. Drop these cells or give them a group."
        raise ValueError(msg)
    return index


def check_matrix(matrix: ArrayLike, name: str = "matrix") -> np.ndarray:
    """A non-negative, finite matrix (n_dims, n_covariates)."""
    array = np.asarray(matrix, dtype=np.float64)
    if array.ndim != 2 or not np.isfinite(array).all() or (array < 0).any():
        low, high = array.min(initial=0.0), array.max(initial=0.0)
        msg = f"`{name}` has shape {array.shape} and values from {low} to {high}: pass a matrix of finite numbers of at least 0."
        raise ValueError(msg)
    return array


def renumber(labels: np.ndarray) -> np.ndarray:
    """Labels, or rows of labels, numbered without gaps."""
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


def take_groups(groups: np.ndarray | None, cells: np.ndarray) -> np.ndarray | None:
    """Groups of some cells, numbered without gaps."""
    return None if groups is None else renumber(groups[cells])


def _encode(name: str, column: pd.Series, *, classes: bool) -> Covariate:
    if column.dtype == object:
        column = column.infer_objects()
    kind = column.dtype
    if types.is_complex_dtype(kind) or types.is_datetime64_any_dtype(kind) or types.is_timedelta64_dtype(kind):
        msg = f"Covariate {name!r} holds {kind}: dates, durations or complex numbers. Convert it to numbers or categories."
        raise TypeError(msg)
    if types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        n_infinite = int(np.isinf(values).sum())
        if n_infinite:
            msg = f"Covariate {name!r} has {n_infinite} infinite values. Replace them by NaN (the cell is left out) or a number."
            raise ValueError(msg)
        if not classes:
            return Covariate(name, values, is_numeric=True, integer=types.is_integer_dtype(kind))
        column = pd.Series(values)
    missing = column.isna().to_numpy()
    if isinstance(column.dtype, pd.CategoricalDtype):
        # Observed categories only, in the order the user gave them.
        index = column.cat.codes.to_numpy().astype(np.int64)
        observed = np.unique(index[~missing])
        names = tuple(str(column.cat.categories[i]) for i in observed)
        labels = np.searchsorted(observed, index)
    else:
        text = column.astype(object).where(~missing, "").map(str).to_numpy(dtype=object)
        distinct, of_labeled = np.unique(text[~missing].astype(str), return_inverse=True)
        names = tuple(str(label) for label in distinct)
        labels = np.zeros(len(column), dtype=np.int64)
        labels[~missing] = of_labeled
    return Covariate(name, np.where(missing, -1, labels).astype(np.int64), names)
