"""Columns of ``.obs``: whether each holds classes or numbers is decided here alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from pandas.api import types

from scbetavae._core.checks import as_list, check_key, check_keys
from scbetavae._core.constants import MINIMUM_CELLS
from scbetavae._core.text import listed

if TYPE_CHECKING:
    from anndata import AnnData

FEW_VALUES = 20
"""Distinct whole numbers up to which a column may hold codes of classes, such as Seurat's clusters, rather than amounts."""


def obs_of(adata: AnnData) -> pd.DataFrame:
    """``adata.obs``, which is a DataFrame unless the AnnData was opened lazily."""
    return cast("pd.DataFrame", adata.obs)


def read_factors(
    adata: AnnData,
    names: list[str],
    argument: str,
    categorical: str | Iterable[str] | None = None,
    registered: Iterable[str] = (),
) -> pd.DataFrame:
    """Columns that may hold classes or numbers, each as what it is. Here alone is decided which.

    Classes are what came as categories, texts or booleans, and the columns that are named in ``categorical`` or
    ``registered``. Other numbers stay numbers, with one warning where whole numbers take so few values that they may be codes.

    Parameters
    ----------
    adata
        Annotated data; all ``names`` are there.
    names
        Columns of ``.obs``.
    argument
        Argument that named them, for messages.
    categorical
        Columns that the user calls classes. Anything but ``None``, also an empty list, says that no other is, and there is no
        warning.
    registered
        Columns that a model was set up with as classes.

    Raises
    ------
    KeyError
        If ``categorical`` names a column that is not there, with the nearest that is.
    ValueError
        If a column of classes holds fractions.
    """
    told = as_list(categorical)
    for name in told:
        check_key(name, list(adata.obs.columns), "categorical", "adata.obs")
    classes = {*told, *registered}
    columns = {name: adata.obs[name] for name in names}
    for name, column in columns.items():
        kind = column.dtype
        if types.is_datetime64_any_dtype(kind) or types.is_timedelta64_dtype(kind) or types.is_complex_dtype(kind):
            msg = f"{argument}={name!r} holds {kind}: dates, durations or complex numbers. Convert it to numbers or categories."
            raise TypeError(msg)
    doubtful = (
        {} if categorical is not None else {n: c for n, c in columns.items() if n not in classes and _may_be_codes(c)}
    )
    if doubtful:
        n_values = ", ".join(str(column.nunique()) for column in doubtful.values())
        first = next(iter(doubtful))
        msg = (
            f"{argument} {list(doubtful)} hold {n_values} distinct integers and are treated as numbers. If they are codes of "
            f"classes, pass categorical={list(doubtful)} or set adata.obs[{first!r}] = adata.obs[{first!r}].astype('category'); "
            "if they are amounts, pass categorical=[]."
        )
        warnings.warn(msg, UserWarning, stacklevel=4)
    return pd.DataFrame(
        {name: as_classes(column, argument) if name in classes else column for name, column in columns.items()},
        index=adata.obs_names,
    )


def scored_columns(
    adata: AnnData,
    covariates: list[str],
    donor_key: str | None = None,
    confounder: str | None = None,
    *,
    categorical: str | Iterable[str] | None = None,
    registered: Iterable[str] = (),
) -> pd.DataFrame:
    """Covariates and a confounder as `read_factors`; refused where a column, also that of the donors, does not fit."""
    present = list(adata.obs.columns)
    if not covariates:
        msg = f"covariates is empty. Pass at least one column of adata.obs, which has {listed(present)}."
        raise ValueError(msg)
    for name in covariates:
        check_key(name, present, "covariates", "adata.obs")
    check_keys({"donor_key": donor_key, "confounder": confounder}, present, "adata.obs")
    twice = sorted({name for name in covariates if covariates.count(name) > 1})
    if twice:
        msg = f"covariates has {listed(twice)} twice. Pass every column once."
        raise ValueError(msg)
    if donor_key is not None and adata.obs[donor_key].isna().any():
        msg = (
            f"donor_key={donor_key!r} is missing for {int(adata.obs[donor_key].isna().sum())} cells. "
            f"Leave them out: adata = adata[adata.obs[{donor_key!r}].notna()].copy()."
        )
        raise ValueError(msg)
    names = list(dict.fromkeys([*covariates, *as_list(confounder)]))
    return read_factors(adata, names, "covariates", categorical, registered)


def class_columns(setup: Mapping[str, Any]) -> list[str]:
    """Columns that ``setup_anndata`` was given as labels, batch or categorical covariates: classes, whatever their type."""
    named = [setup.get("labels_key"), setup.get("batch_key"), *(setup.get("categorical_covariate_keys") or ())]
    return [name for name in named if name is not None]


def as_classes(column: pd.Series, argument: str) -> pd.Series:
    """A column whose values are names, whatever their type: numbers as texts, ``"3"`` for 3 and for 3.0; others as they are.

    Raises
    ------
    ValueError
        If it holds fractions.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        if not types.is_numeric_dtype(column.cat.categories.dtype):
            return column
        return column.cat.rename_categories([class_name(value) for value in column.cat.categories])
    if column.dtype == object:
        column = column.infer_objects()
    if not _holds_numbers(column):
        return column
    codes, values = pd.factorize(column)
    fractions = [value for value in values if value % 1 != 0]
    if fractions:
        msg = (
            f"{argument}={column.name!r} holds fractions such as {fractions[0]}, which are no names of classes. Cut it into "
            f"categories: adata.obs[{column.name!r}] = pd.cut(adata.obs[{column.name!r}], 3).astype(str)."
        )
        raise ValueError(msg)
    texts = np.array([*map(class_name, values), np.nan], dtype=object)  # a missing value has the code -1
    return pd.Series(texts[codes], index=column.index, name=column.name, dtype=object)


def class_texts(column: pd.Series, argument: str) -> pd.Series:
    """Names of classes as texts, NaN where they are missing."""
    names = as_classes(column, argument).astype(object)
    return names.map(class_name, na_action="ignore").where(names.notna(), np.nan)


def class_name(value: Any) -> str:
    """Text of one value of a column of classes: whole numbers without a decimal point."""
    is_whole = isinstance(value, (float, np.floating)) and value % 1 == 0
    return str(int(value)) if is_whole else str(value)


def holds_fractions(column: pd.Series) -> bool:
    """Whether a column holds numbers of which some are not whole."""
    return _holds_numbers(column) and bool((column.dropna() % 1 != 0).any())


def _holds_numbers(column: pd.Series) -> bool:
    kind = column.dtype
    return types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind) and not types.is_complex_dtype(kind)


def _may_be_codes(column: pd.Series) -> bool:
    """Whether numbers are whole and take so few values that they may stand for classes."""
    column = column.infer_objects() if column.dtype == object else column
    return _holds_numbers(column) and 2 <= column.nunique() <= FEW_VALUES and not holds_fractions(column)


def tell_small(sizes: Mapping[str, int], noun: str, of: str = "") -> str:
    """Why classes of these sizes cannot all be compared; empty if they can, or if there is one class anyway.

    ``"not possible: batch 'b1' has 1 cell, ..."`` if fewer than two classes have ``MINIMUM_CELLS``, otherwise
    ``"left out: ..."``. Both name the small classes.
    """
    small = {name: size for name, size in sizes.items() if 0 < size < MINIMUM_CELLS}
    n_classes = sum(size > 0 for size in sizes.values())
    if not small or n_classes < 2:
        return ""
    told = [f"{noun} {name!r}{of} has {size} cell{'s' if size > 1 else ''}" for name, size in small.items()]
    text = ", ".join(told[:3]) + (f" and {len(told) - 3} more are as small" if len(told) > 3 else "")
    if n_classes - len(small) < 2:
        return f"not possible: {text}, and a comparison needs {MINIMUM_CELLS} cells of each of two"
    return f"left out: {text}, fewer than {MINIMUM_CELLS}"


def leave_out_small(column: pd.Series, noun: str, of: str = "") -> tuple[pd.Series, str]:
    """A column of classes, missing where the class is too small, and what `tell_small` says; numbers as they are."""
    if types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        return column, ""
    sizes = column.value_counts(sort=False)
    told = tell_small({str(name): int(size) for name, size in sizes.items()}, noun, of)
    if not told:
        return column, ""
    return column.where(~column.isin(sizes.index[sizes < MINIMUM_CELLS])), told
