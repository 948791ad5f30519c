"""Whether cells can be written to an AnnData file, known before training: convert what loses nothing, refuse the rest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Set
from pathlib import PurePath
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scbetavae._core.columns import obs_of

_AS_TEXT = (dt.date, dt.time, dt.timedelta, np.datetime64, np.timedelta64, PurePath)
_SEQUENCES = (tuple, list, range, Set, np.ndarray)
_NAMES = (str, bool, int, float, tuple, np.generic)
# HDF5 takes these for a path, and anndata uses the last itself; a slash is the path of a group.
_RESERVED = {"": "unnamed", ".": "unnamed", "_index": "index"}
_PLAIN_KINDS = "biufcU"  # of numpy: booleans, numbers and text
_N_SHOWN = 5


def make_writable(adata: AnnData) -> Conversion:
    """Convert, in place, what ``write_h5ad`` would refuse and what can be converted without loss.

    Every entry is written to a file in memory, a few rows of numeric matrices and all of the rest. A ValueError names the entries
    that can neither be written nor be converted. Text columns that repeat become categories, as in every file of anndata.
    """
    check = Conversion()
    adata.strings_to_categoricals()
    check.frame(obs_of(adata), "obs")
    for slot in ("layers", "obsm", "obsp", "varp"):
        check.mapping(getattr(adata, slot), slot, _few_rows)
    check.mapping(adata.uns, "uns")
    genes_of: list[tuple[Any, str]] = [(adata, "")]
    if adata.raw is not None:
        adata.strings_to_categoricals(adata.raw.var)
        genes_of.append((adata.raw, "raw."))
    for genes, where in genes_of:
        check.frame(genes.var, f"{where}var")
        check.mapping(genes.varm, f"{where}varm", _few_rows)
        check.take(f"{where}X", genes.X, _refuse, _few_rows)
    if check.refused:
        more = len(check.refused) - _N_SHOWN
        msg = (
            "These entries cannot be written to an .h5ad file, so the results could not be saved: "
            f"{'; '.join(check.refused[:_N_SHOWN])}{f'; and {more} more' if more > 0 else ''}. "
            "Remove them, or convert them to text or numbers, such as adata.obs['x'] = adata.obs['x'].astype(str)."
        )
        raise ValueError(msg)
    return check


class Conversion:
    """Tries every entry; keeps a phrase per change and per refusal, and new names by slot (``"obs"``, ...) and old name."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.refused: list[str] = []
        self.renamed: dict[str, dict[Any, str]] = {}

    def frame(self, frame: pd.DataFrame, where: str) -> None:
        """Names, row names and columns of a table, in place."""
        repeated = frame.columns[frame.columns.duplicated()].unique()
        if len(repeated):
            self.refused.append(f"{where} (several columns are named {', '.join(map(repr, repeated[:3]))})")
            return
        renamed = self._rename(list(frame.columns), where)
        if renamed:
            frame.columns = [renamed.get(name, name) for name in frame.columns]
        self._index(frame, where)
        if _refusal(frame) is None:
            return
        for name in list(frame.columns):
            column = frame[name]
            plain = self.take(f"{where}[{name!r}]", column, _plain_column, lambda one: pd.DataFrame({"x": one.array}))
            if plain is not column:
                frame[name] = plain
        self._check_names(list(frame.columns), where)

    def mapping(self, mapping: MutableMapping[Any, Any], where: str, part: Callable[[Any], Any] | None = None) -> None:
        """Keys and values of ``.uns``, of a dict in it, of ``.obsm`` and the like, in place; ``part`` is what is tried."""
        names = [name for name in mapping if name is not None]  # newer versions of anndata have X as the layer None
        for old, new in self._rename(names, where).items():
            mapping[new] = mapping.pop(old)
            names[names.index(old)] = new
        for name in names:
            value, entry = mapping[name], f"{where}[{name!r}]"
            plain = value
            if isinstance(value, pd.DataFrame):
                self.frame(value, entry)
            elif isinstance(value, Mapping):
                plain = value if type(value) is dict else dict(value)
                self.mapping(plain, entry)
            else:
                plain = self.take(entry, value, _plain_value, part)
            if plain is not value:
                mapping[name] = plain
        self._check_names(names, where)

    def take(
        self, entry: str, value: Any, convert: Callable[[Any], Any], part: Callable[[Any], Any] | None = None
    ) -> Any:
        """The value, or what it was converted to."""
        tried = part or (lambda whole: whole)
        if value is None or _refusal(tried(value)) is None:
            return value
        try:
            plain = convert(value)
            reason = _refusal(plain if plain is None else tried(plain))
        except (TypeError, ValueError, OverflowError) as error:
            reason = _one_line(error)
        if reason is not None:
            self.refused.append(f"{entry}, {_describe(value)} ({reason})")
            return value
        self.changes.append(f"{entry} from {_describe(value)} to {_describe(plain)}")
        return plain

    def _check_names(self, names: list[Any], where: str) -> None:
        """Refuse texts that a file does not take as names."""
        for name in names:
            reason = _refusal({name: 0}) if isinstance(name, str) else None
            if reason is not None:
                self.refused.append(f"{where}[{name!r}] (the name: {reason})")

    def _rename(self, names: list[Any], where: str) -> dict[Any, str]:
        """New names of those that a file does not take; no name is given twice."""
        fit = {name for name in names if isinstance(name, str) and _plain_name(name) == name}
        renamed: dict[Any, str] = {}
        for name in names:
            if name not in fit and not isinstance(name, _NAMES):
                self.refused.append(f"{where}[{name!r}] (the name is {_describe(name)}, not text)")
            elif name not in fit:
                renamed[name] = _unused(_plain_name(name), fit | set(renamed.values()))
                self.changes.append(f"{where}[{name!r}] renamed to {renamed[name]!r}")
        if renamed:
            self.renamed[where] = renamed
        return renamed

    def _index(self, frame: pd.DataFrame, where: str) -> None:
        """Row names and their title, in place."""
        title = frame.index.name
        if title is not None:
            title = _plain_name(title)
            if title in frame.columns and not np.array_equal(frame[title].astype(str), frame.index.astype(str)):
                title = _unused(title, set(frame.columns))
            if title != frame.index.name:
                self.changes.append(f"names of {where}: title {frame.index.name!r} renamed to {title!r}")
                frame.index = frame.index.rename(title)
        index = self.take(
            f"names of {where}",
            frame.index,
            lambda names: pd.Index(_texts(names), dtype=object, name=names.name),
            lambda names: pd.DataFrame(index=names),
        )
        if index is not frame.index:
            frame.index = index


def _refusal(value: Any) -> str | None:
    """Why anndata does not write this, or ``None`` if it does."""
    with h5py.File("check.h5", "w", driver="core", backing_store=False) as file:
        try:
            anndata.io.write_elem(file, "value", value)
        except Exception as error:  # noqa: BLE001 - the writers raise nearly anything
            return _one_line(error)
    return None


def _holds_objects(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") == "O"


def _few_rows(matrix: Any) -> Any:
    """Two rows stand for all where all are of one type."""
    return matrix if _holds_objects(matrix) or matrix.ndim == 0 else matrix[:2]


def _refuse(value: Any) -> Any:
    """In place of a conversion."""
    msg = "it holds objects, not numbers" if _holds_objects(value) else "its type is not supported"
    raise ValueError(msg)


def _plain_name(name: Any) -> str:
    text = str(name).replace("/", "_").replace("\0", "_")
    return _RESERVED.get(text, text)


def _unused(name: str, used: set[str]) -> str:
    """The name, or the first of ``name_1``, ``name_2``, ... that is free."""
    numbered = (f"{name}_{number}" for number in range(1, len(used) + 2))
    return name if name not in used else next(candidate for candidate in numbered if candidate not in used)


def _plain_column(column: pd.Series) -> pd.Series:
    """The same values in a type that files have: numbers, booleans, text, categories."""
    if isinstance(column.dtype, pd.SparseDtype):
        return column.sparse.to_dense()
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.rename_categories(pd.Index(_texts(column.cat.categories), dtype=object).to_list())
    kind, complete = pd.api.types.infer_dtype(column, skipna=True), not column.isna().any()
    if kind == "boolean":
        return column.astype("bool" if complete else "boolean")
    if kind == "integer":
        return column.astype("int64" if complete else "Int64")
    if kind in ("floating", "mixed-integer-float"):
        return pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan), index=column.index)
    texts = np.full(len(column), None, dtype=object)
    present = column.notna().to_numpy()
    texts[present] = _texts(column[present])
    plain = pd.Series(texts, index=column.index, dtype=object)
    return plain if complete and kind == "string" else plain.astype("category")


def _plain_value(value: Any) -> Any:
    """The same content as an array, a table or text."""
    if isinstance(value, pd.Series):
        return value.to_frame("value" if value.name is None else _plain_name(value.name))
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return _plain_column(pd.Series(value)).values
    if sparse.issparse(value):
        return value.tocsr()
    if isinstance(value, _AS_TEXT):
        return getattr(value, "isoformat", value.__str__)()
    if isinstance(value, Set):
        value = sorted(value, key=lambda item: (type(item).__name__, item))
    if isinstance(value, _SEQUENCES):
        return _plain_array(value)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return array if array.dtype.kind in _PLAIN_KINDS else _plain_array(array)
    msg = "no type of the file format fits"
    raise TypeError(msg)


def _plain_array(values: Any) -> np.ndarray:
    """Numbers, booleans or text as an array; a mixture would lose its types."""
    items = np.array(values, dtype=object)
    kinds = {bool if isinstance(i, bool | np.bool_) else str if isinstance(i, str) else float for i in items.ravel()}
    plain = np.array(items.tolist())
    if len(kinds) > 1 or plain.dtype.kind not in _PLAIN_KINDS or plain.shape != items.shape:
        msg = "it mixes types, or holds other than numbers and text"
        raise TypeError(msg)
    return plain


def _texts(values: Iterable[Any]) -> list[str]:
    """Values as text, if every text stands for one value."""
    values = list(values)
    if not all(pd.api.types.is_scalar(value) for value in values):
        msg = "it holds lists or other objects"
        raise TypeError(msg)
    texts = [str(value) for value in values]
    if len(set(texts)) < len(set(zip(texts, values, strict=True))):
        msg = "it holds different values with the same text, such as 1 and '1'"
        raise ValueError(msg)
    return texts


def _describe(value: Any) -> str:
    """The type of a value."""
    dtype: Any = getattr(value, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype):
        return f"categories ({_describe(dtype.categories)})"
    if isinstance(value, pd.Series | pd.Index) and _holds_objects(value):
        return f"object ({pd.api.types.infer_dtype(value, skipna=True)})"
    return str(dtype) if isinstance(value, pd.Series | pd.Index | np.ndarray) else type(value).__name__


def _one_line(error: Exception) -> str:
    """The message of an error without the end of its sentence."""
    return " ".join((str(error) or type(error).__name__).split()).rstrip(".")
