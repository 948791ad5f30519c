"""Columns of ``.obs``: only this file decides whether each holds classes or numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pandas as pd
from pandas.api import types

from scbetavae._core.checks import as_list, check_key, check_keys
from scbetavae._core.constants import MINIMUM_CELLS
from scbetavae._core.text import counted, listed

if TYPE_CHECKING:
    from anndata import AnnData

FEW_VALUES = 20  # distinct whole numbers up to which a column may hold codes of classes, such as Seurat's clusters
ALL_CELLS = "all cells"  # name of the one group where no groups are given


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
    """Columns of ``.obs`` that may hold classes or numbers, each as what it is.

    Classes are categories, texts or booleans, and the columns named in ``categorical`` (by the user) or ``registered`` (with a
    model). Other numbers stay numbers, with one warning where whole numbers take so few values that they may be codes. Anything
    but ``None`` for ``categorical``, also an empty list, says that no other column is one of classes, and there is no warning.
    ``argument`` named the columns, for messages. A KeyError names a column of ``categorical`` that does not exist, a TypeError
    a column of dates or complex numbers, a ValueError a column of classes that holds fractions.
    """
    named = as_list(categorical)
    for name in named:
        check_key(name, list(adata.obs.columns), "categorical", "adata.obs")
    classes = {*named, *registered}
    columns: dict[str, Any] = {name: adata.obs[name] for name in names}
    for name, column in columns.items():
        kind = column.dtype
        if types.is_datetime64_any_dtype(kind) or types.is_timedelta64_dtype(kind) or types.is_complex_dtype(kind):
            msg = f"{argument}={name!r} holds {kind}: dates, durations or complex numbers. Convert it to numbers or categories."
            raise TypeError(msg)
    doubtful = [name for name, column in columns.items() if name not in classes and _may_be_codes(column)]
    if doubtful and categorical is None:
        n_values = ", ".join(str(columns[name].nunique()) for name in doubtful)
        obs = f"adata.obs[{doubtful[0]!r}]"
        msg = (
            f"{argument} {doubtful} hold {n_values} distinct integers and are treated as numbers. If they are codes of classes, "
            f"pass categorical={doubtful} or set {obs} = {obs}.astype('category'); if they are amounts, pass categorical=[]."
        )
        warnings.warn(msg, UserWarning, stacklevel=4)
    columns = {name: as_classes(column, argument) if name in classes else column for name, column in columns.items()}
    return pd.DataFrame(columns, index=adata.obs_names)


def scored_columns(
    adata: AnnData,
    covariates: list[str],
    donor_key: str | None = None,
    confounder: str | None = None,
    *,
    categorical: str | Iterable[str] | None = None,
    registered: Iterable[str] = (),
) -> pd.DataFrame:
    """Covariates and a confounder as `read_factors`, after all checks of their names and of the column of donors."""
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
    if donor_key is not None:
        read_donors(adata, donor_key)
    names = list(dict.fromkeys([*covariates, *as_list(confounder)]))
    return read_factors(adata, names, "covariates", categorical, registered)


def read_donors(adata: AnnData, donor_key: str) -> pd.Series:
    """Donor of every cell; a KeyError for an unknown column, a ValueError where a donor is missing."""
    check_key(donor_key, adata.obs.columns, "donor_key", "adata.obs")
    donors = obs_of(adata)[donor_key]
    if donors.isna().any():
        msg = (
            f"donor_key={donor_key!r} is missing for {int(donors.isna().sum())} cells. "
            f"Leave them out: adata = adata[adata.obs[{donor_key!r}].notna()].copy()."
        )
        raise ValueError(msg)
    return donors


def class_columns(setup: Mapping[str, Any]) -> list[str]:
    """Columns that ``setup_anndata`` was given as labels, batch or categorical covariates: classes of any type."""
    named = [setup.get("labels_key"), setup.get("batch_key"), *(setup.get("categorical_covariate_keys") or ())]
    return [name for name in named if name is not None]


def as_classes(column: pd.Series, argument: str) -> pd.Series:
    """A column of class names: numbers as texts, ``"3"`` for 3 and for 3.0, a ValueError for fractions; others unchanged."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        if not types.is_numeric_dtype(column.cat.categories.dtype):
            return column
        return column.cat.rename_categories([class_name(value) for value in column.cat.categories])
    if column.dtype == object:
        column = column.infer_objects()
    if not holds_numbers(column):
        return column
    codes, values = pd.factorize(column)
    fractions = [value for value in values if value % 1 != 0]
    if fractions:
        msg = (
            f"{argument}={column.name!r} holds fractions such as {fractions[0]}, which are not class names. Cut it into "
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


def names_in_order(column: pd.Series, texts: Iterable[str]) -> list[str]:
    """Names among the texts of a column of classes, in the order of its categories or else of the alphabet."""
    present = {name for name in texts if isinstance(name, str)}
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [name for name in map(class_name, column.cat.categories) if name in present]
    return sorted(present)


def holds_fractions(column: pd.Series) -> bool:
    """Whether a column holds numbers of which some are not whole."""
    return holds_numbers(column) and bool((column.dropna() % 1 != 0).any())


def holds_numbers(column: pd.Series) -> bool:
    """Whether a column holds real numbers, not booleans."""
    kind = column.dtype
    return types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind) and not types.is_complex_dtype(kind)


def _may_be_codes(column: pd.Series) -> bool:
    """Whether numbers are whole and take so few values that they may stand for classes."""
    column = column.infer_objects() if column.dtype == object else column
    return holds_numbers(column) and 2 <= column.nunique() <= FEW_VALUES and not holds_fractions(column)


class Small(NamedTuple):
    """Classes that are too small to be compared with others."""

    text: str
    """Which they are, as a clause; empty if there are none, or only one class at all."""
    is_possible: bool = True
    """Whether a comparison is possible without them."""


def tell_small(sizes: Mapping[str, int], noun: str, of: str = "") -> Small:
    """Classes of these sizes that have fewer than ``MINIMUM_CELLS``.

    The text is ``"not possible: batch 'b1' has 1 cell, ..."`` if fewer than two classes are large enough, otherwise
    ``"left out: ..."``. Both name the small classes.
    """
    small = {name: size for name, size in sizes.items() if 0 < size < MINIMUM_CELLS}
    n_classes = sum(size > 0 for size in sizes.values())
    if not small or n_classes < 2:
        return Small("")
    each = [f"{noun} {name!r}{of} has {counted(size, 'cell')}" for name, size in small.items()]
    text = ", ".join(each[:3]) + (f" and {len(each) - 3} more are as small" if len(each) > 3 else "")
    if n_classes - len(small) < 2:
        return Small(f"not possible: {text}, and a comparison needs {MINIMUM_CELLS} cells of each of two", False)
    return Small(f"left out: {text}, fewer than {MINIMUM_CELLS}")


def leave_out_small(column: pd.Series, noun: str, of: str = "") -> tuple[pd.Series, Small]:
    """A column of classes, missing where the class is too small, and `tell_small` of it; numbers unchanged."""
    is_numeric = types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)
    sizes = pd.Series(dtype=int) if is_numeric else column.value_counts(sort=False)
    if not sizes.between(1, MINIMUM_CELLS - 1).any():
        return column, Small("")
    small = tell_small({str(name): int(size) for name, size in sizes.items()}, noun, of)
    return (column.where(~column.isin(sizes.index[sizes < MINIMUM_CELLS])) if small.text else column), small
