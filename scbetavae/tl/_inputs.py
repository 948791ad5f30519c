"""What a verb reads from an AnnData, refused before any work where it does not fit."""

from __future__ import annotations

import difflib
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from pandas.api import types
from scipy import sparse

from scbetavae import _stored, metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


FEW_VALUES = 20
"""Distinct whole numbers up to which a column may hold codes of classes, such as Seurat's clusters, rather than amounts."""


class ScoredColumns(NamedTuple):
    """Columns of ``.obs`` that take part in scoring."""

    factors: pd.DataFrame
    association: pd.DataFrame
    """How the factors relate to each other."""
    groups: pd.Series | None
    confounder: pd.Series | None

    def put_into(self, obs: pd.DataFrame) -> pd.DataFrame:
        """The columns of cells, with these as they are scored."""
        confounder = {} if self.confounder is None else {str(self.confounder.name): self.confounder}
        return obs.assign(**{**confounder, **self.factors})


def check_writable(adata: AnnData, key_added: str) -> None:
    """Refuse what no result can be stored in.

    Parameters
    ----------
    adata
        Annotated data.
    key_added
        Name under which results will be stored.

    Raises
    ------
    TypeError
        If ``adata`` is no AnnData.
    ValueError
        For a view, and for a name that is empty or holds a ``/``.
    """
    if not isinstance(adata, AnnData):
        msg = f"adata is a {type(adata).__name__}, not an AnnData. For arrays use scbetavae.metrics.score_frame."
        raise TypeError(msg)
    if adata.is_view:
        msg = "adata is a view of another AnnData, so nothing can be stored in it. Run adata = adata.copy() first."
        raise ValueError(msg)
    if not isinstance(key_added, str) or not key_added or "/" in key_added:
        msg = f"key_added={key_added!r} cannot be stored: give a name that is not empty and has no '/'."
        raise ValueError(msg)


def read_columns(
    adata: AnnData,
    covariates: str | Iterable[str],
    group_key: str | None = None,
    adjust_for: str | None = None,
    *,
    categorical: str | Iterable[str] | None = None,
    registered: Iterable[str] = (),
) -> ScoredColumns:
    """Columns of ``.obs`` by name.

    Parameters
    ----------
    adata
        Annotated data.
    covariates
        One column or several.
    group_key
        Column with the donor of every cell.
    adjust_for
        Column of a confounder.
    categorical, registered
        As :func:`read_factors`.

    Raises
    ------
    KeyError
        For a column that is not there, with the nearest that is.
    ValueError
        If no covariate is named, one is named twice or holds infinite values, or a cell has no group.
    TypeError
        If a covariate holds dates, durations or complex numbers.
    """
    names = [covariates] if isinstance(covariates, str) else list(covariates)
    there = list(adata.obs.columns)
    if not names:
        msg = f"covariates is empty: name at least one column of adata.obs, which has {_shorten(there)}."
        raise ValueError(msg)
    for argument, wanted in (("covariates", names), ("group_key", [group_key]), ("adjust_for", [adjust_for])):
        for name in wanted:
            if name is not None or argument == "covariates":
                check_key(name, there, argument, "adata.obs")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"covariates names {_shorten(twice)} twice. Name every column once."
        raise ValueError(msg)
    groups = None if group_key is None else adata.obs[group_key]
    if groups is not None and groups.isna().any():
        msg = (
            f"group_key={group_key!r} is missing for {int(groups.isna().sum())} cells. "
            f"Leave them out: adata = adata[adata.obs[{group_key!r}].notna()].copy()."
        )
        raise ValueError(msg)
    wanted = list(dict.fromkeys([*names, *([] if adjust_for is None else [adjust_for])]))
    factors = read_factors(adata, wanted, "covariates", categorical, registered)
    association = metrics.covariate_association(factors[names])  # refuses what no score can read
    confounder = None if adjust_for is None else factors[adjust_for]
    return ScoredColumns(factors[names], association, groups, confounder)


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
    told = [] if categorical is None else [categorical] if isinstance(categorical, str) else list(categorical)
    for name in told:
        check_key(name, list(adata.obs.columns), "categorical", "adata.obs")
    classes = {*told, *registered}
    columns = {name: adata.obs[name] for name in names}
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


def read_embedding(adata: AnnData, obsm_key: str, argument: str = "obsm_key") -> np.ndarray:
    """An entry of ``.obsm`` as finite numbers.

    Parameters
    ----------
    adata
        Annotated data.
    obsm_key
        Name of the entry: an array, sparse matrix or data frame of shape (n_cells, n_dims).
    argument
        Name of the argument that named it, for messages.

    Returns
    -------
    Array of shape (n_cells, n_dims).

    Raises
    ------
    KeyError
        If it is not there, with the nearest that is.
    TypeError
        If it does not hold numbers.
    ValueError
        If it is not a matrix with a column, holds NaN or infinite values, or is that of a model before its last training
        (unless it is one of several, which may well be of several models).
    """
    check_key(obsm_key, list(adata.obsm), argument, "adata.obsm")
    if argument == "obsm_key":
        _stored.check_embedding(adata, obsm_key)
    where = f"adata.obsm[{obsm_key!r}]"
    entry = adata.obsm[obsm_key]
    if sparse.issparse(entry):
        entry = entry.toarray()
    try:
        codes = np.asarray(entry, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{where} does not hold numbers. Store an array of shape (n_cells, n_dims)."
        raise TypeError(msg) from error
    if codes.ndim != 2 or codes.shape[1] == 0:
        msg = f"{where} has shape {codes.shape}; scores need (n_cells, n_dims) with at least one dimension."
        raise ValueError(msg)
    broken = np.flatnonzero(~np.isfinite(codes).all(axis=1))
    if len(broken):
        msg = (
            f"{where} holds NaN or infinite values in {len(broken)} cells, the first {adata.obs_names[broken[0]]!r}. "
            "Leave these cells out, or find out why the embedding has no finite value for them."
        )
        raise ValueError(msg)
    return codes


def check_key(key: str, there: list[str], argument: str, where: str) -> None:
    """Raise a KeyError that names the nearest key, unless ``key`` is there."""
    if key in there:
        return
    nearest = difflib.get_close_matches(str(key), [str(name) for name in there], n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    msg = f"{argument}={key!r} is not in {where}. {hint}{where} has {_shorten(there)}."
    raise KeyError(msg)


def _shorten(names: Iterable[str], most: int = 8) -> str:
    names = [repr(name) for name in names]
    return (", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")) or "nothing"
