"""What every metric accepts: a matrix of codes, and covariates as columns of a data frame."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api import types

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Covariate:
    """One column of ``factors``, encoded.

    ``labels`` holds class indices (-1 where the label is missing) and is ``None`` for a numeric
    covariate, whose ``values`` hold floats (NaN where missing). ``integer`` says that a numeric
    column held integers, which the parity modes read as classes.
    """

    name: str
    labels: np.ndarray | None
    classes: tuple[str, ...]
    values: np.ndarray | None
    integer: bool = False

    @property
    def is_numeric(self) -> bool:
        return self.values is not None

    @property
    def present(self) -> np.ndarray:
        """Boolean, one per cell: the label is not missing."""
        return ~np.isnan(self.values) if self.is_numeric else self.labels >= 0

    def without_labels(self) -> Covariate:
        """The same covariate, missing in every cell."""
        labels = None if self.labels is None else np.full_like(self.labels, -1)
        return replace(self, labels=labels, values=None if self.values is None else np.full_like(self.values, np.nan))

    def as_classes(self) -> Covariate:
        """Read a numeric covariate as classes, one per distinct value."""
        if not self.is_numeric:
            return self
        return _categorical(self.name, pd.Series(self.values))


def take_cells(covariate: Covariate, index: np.ndarray) -> Covariate:
    """A covariate on some cells."""
    labels = None if covariate.labels is None else covariate.labels[index]
    return replace(covariate, labels=labels, values=None if covariate.values is None else covariate.values[index])


def check_codes(codes: ArrayLike) -> np.ndarray:
    """Codes as a finite float array of shape (n_cells, n_dims)."""
    if hasattr(codes, "toarray"):
        codes = codes.toarray()
    try:
        array = np.asarray(codes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = (
            f"`codes` must be numbers, but they could not be read as floats: {error}. Pass an array (n_cells, n_dims)."
        )
        raise TypeError(msg) from error
    if array.ndim != 2:
        msg = (
            f"`codes` must have two dimensions (n_cells, n_dims), but it has shape {array.shape}. "
            "For a single code pass `codes[:, None]`."
        )
        raise ValueError(msg)
    if array.shape[1] == 0:
        msg = "`codes` has no columns. Pass at least one dimension."
        raise ValueError(msg)
    broken = ~np.isfinite(array).all(axis=0)
    if broken.any():
        n_rows = int((~np.isfinite(array)).any(axis=1).sum())
        msg = (
            f"`codes` holds NaN or infinite values in {n_rows} cells, dimensions {np.flatnonzero(broken).tolist()}. "
            "Remove these cells, or find out why the model gave no finite code for them."
        )
        raise ValueError(msg)
    return array


def check_factors(factors: pd.DataFrame, n_cells: int) -> list[Covariate]:
    """Encode the columns of ``factors``; see `Covariate`."""
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
    return [_encode(name, factors.iloc[:, i]) for i, name in enumerate(names)]


def check_column(column: ArrayLike | pd.Series, n_cells: int, name: str) -> Covariate:
    """Encode one extra column (a confounder, a group), one value per cell."""
    series = column if isinstance(column, pd.Series) else pd.Series(np.asarray(column))
    return check_factors(series.to_frame(name if series.name is None else series.name), n_cells)[0]


def check_groups(groups: ArrayLike | pd.Series | None, n_cells: int) -> np.ndarray | None:
    """Group index of every cell; a missing group is an error, because such a cell belongs to no donor."""
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


def check_choice(value: str | None, allowed: Iterable[str | None], argument: str) -> None:
    """Raise if ``value`` is not allowed, naming the nearest that is."""
    allowed = list(allowed)
    if value in allowed:
        return
    by_lower = {str(a).lower(): a for a in allowed}
    nearest = difflib.get_close_matches(str(value).lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[nearest[0]]!r}?" if nearest else ""
    msg = f"`{argument}={value!r}` is not known. Allowed: {', '.join(repr(a) for a in allowed)}.{hint}"
    raise ValueError(msg)


def check_positive_integer(value: int, argument: str, minimum: int = 1) -> int:
    """An integer of at least ``minimum``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < minimum:
        msg = f"`{argument}` must be an integer of at least {minimum}, but it is {value!r}."
        raise ValueError(msg)
    return int(value)


def _encode(name: str, column: pd.Series) -> Covariate:
    if column.dtype == object:
        column = column.infer_objects()
    if types.is_complex_dtype(column.dtype):
        msg = f"Covariate {name!r} holds complex numbers. Pass its real part or its absolute value."
        raise TypeError(msg)
    if types.is_datetime64_any_dtype(column.dtype) or types.is_timedelta64_dtype(column.dtype):
        msg = f"Covariate {name!r} holds dates or durations. Convert it to numbers (days, say) or to categories."
        raise TypeError(msg)
    if types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        n_infinite = int(np.isinf(values).sum())
        if n_infinite:
            msg = (
                f"Covariate {name!r} has {n_infinite} infinite values. "
                "Replace them by NaN (the cell is then left out for this covariate) or by a finite number."
            )
            raise ValueError(msg)
        return Covariate(name, None, (), values, integer=types.is_integer_dtype(column.dtype))
    return _categorical(name, column)


def _categorical(name: str, column: pd.Series) -> Covariate:
    missing = column.isna().to_numpy()
    if isinstance(column.dtype, pd.CategoricalDtype):
        # Observed categories only, in the order the user gave them.
        index = column.cat.codes.to_numpy().astype(np.int64)
        observed = np.unique(index[~missing])
        classes = tuple(str(column.cat.categories[i]) for i in observed)
        labels = np.searchsorted(observed, index)
    else:
        text = column.astype(object).where(~missing, "").map(str).to_numpy(dtype=object)
        distinct, labels = np.unique(text[~missing].astype(str), return_inverse=True)
        classes = tuple(str(label) for label in distinct)
        full = np.zeros(len(column), dtype=np.int64)
        full[~missing] = labels
        labels = full
    labels = labels.astype(np.int64)
    labels[missing] = -1
    return Covariate(name, labels, classes, None)
