"""Who is moved, where to, and from whom the move is learnt; refused before any work where it cannot be done."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scbetavae._core.checks import check_key
from scbetavae._core.columns import class_name, class_texts, holds_fractions, tell_small

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_CELLS = "all cells"
"""Name of the one group where none are named."""

MINIMUM_CELLS = 10
"""Source and target cells that a group needs for its own mean to be trusted, if any group has as many."""


class Design(NamedTuple):
    """Source and target cells by group."""

    source: np.ndarray
    """Cells to predict, boolean, shape (n_cells,)."""
    target: np.ndarray
    """Cells of the target category, boolean."""
    group: np.ndarray
    """Group of every cell, a string."""
    groups: list[str]
    """Groups that have source cells, in the order of the categories."""
    learnt: np.ndarray
    """Cells from which the move is learnt, boolean: source and target cells of ``teachers`` that are not excluded."""
    teachers: list[str]
    """Groups from which the move is learnt."""
    names: tuple[str, str]
    """Source and target category."""

    def pair(self, group: str, *, learnt: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Source and target cells of a group, two boolean arrays."""
        here = self.group == group
        here = here & self.learnt if learnt else here
        return here & self.source, here & self.target

    def too_small(self, group: str) -> str:
        """Why the prediction of a group cannot be judged: too few cells of it, or too few from which the move is learnt."""
        if not self.pair(group)[1].any():
            return "no target cells"
        pools = (np.isin(self.group, self.teachers) & self.learnt, self.group == group)
        for pool in pools:
            sizes = [int((pool & cells).sum()) for cells in (self.source, self.target)]
            told = tell_small(dict(zip(self.names, sizes, strict=True)), "category")
            if told:
                return told
        return ""

    def is_held_out(self, group: str) -> bool:
        """Whether no target cell of the group took part in learning the move."""
        return group not in self.teachers


def read_design(
    obs: pd.DataFrame, covariate: str, source: Any, target: Any, groupby: str | None, exclude: Any
) -> Design:
    """Read and check what a counterfactual asks for.

    Parameters
    ----------
    obs
        Annotation of the cells.
    covariate
        Column to change, of categories.
    source, target
        Its categories: of the cells to predict, and the one to predict.
    groupby
        Column of the groups within which cells are comparable; ``None`` for one group.
    exclude
        Categories of ``groupby``, or values of columns, whose cells do not take part in learning the move.

    Raises
    ------
    KeyError
        For a column that is not there, with the nearest that is.
    TypeError
        If a column holds numbers with fractions.
    ValueError
        For missing labels, unknown or equal categories, and groups without the cells that are needed.
    """
    labels = _read_labels(obs, covariate, "covariate")
    source, target = (
        _check_category(value, labels, name, covariate) for name, value in (("source", source), ("target", target))
    )
    if source == target:
        msg = f"source and target are both {source!r}. Name two categories of {covariate!r}: {_list(sorted(set(labels)))}."
        raise ValueError(msg)
    if groupby == covariate:
        msg = f"groupby={groupby!r} is the covariate itself. Name a column whose groups hold source and target cells."
        raise ValueError(msg)
    group = np.full(len(obs), ALL_CELLS, dtype=object)
    order = [ALL_CELLS]
    if groupby is not None:
        group = _read_labels(obs, groupby, "groupby")
        order = _in_order(obs[groupby], group)
    is_source, is_target = labels == source, labels == target
    groups = [name for name in order if (is_source & (group == name)).any()]
    learnt = ~_read_exclude(obs, exclude, groupby, groups)
    counts = {n: [int((cells & learnt & (group == n)).sum()) for cells in (is_source, is_target)] for n in order}
    teachers = [n for n in order if min(counts[n]) >= MINIMUM_CELLS] or [n for n in order if min(counts[n]) >= 1]
    if not teachers:
        msg = (
            f"No group of {groupby!r} holds both {source!r} and {target!r} cells from which the move could be learnt"
            f"{'' if exclude is None else f' once exclude={exclude!r} is left out'}. "
            "Take coarser groups, or leave fewer out."
            if groupby is not None
            else f"No {source!r} or no {target!r} cells are left once exclude={exclude!r} is left out. Leave fewer out."
        )
        raise ValueError(msg)
    learnt &= np.isin(group, teachers) & (is_source | is_target)
    return Design(is_source, is_target, group, groups, learnt, teachers, (source, target))


def describe_exclude(exclude: Any, groupby: str | None) -> str:
    """What was left out, in words; empty for nothing."""
    return "; ".join(f"{column} = {', '.join(values)}" for column, values in _exclude_mapping(exclude, groupby).items())


def _read_labels(obs: pd.DataFrame, key: str, argument: str) -> np.ndarray:
    check_key(key, list(obs.columns), argument, "adata.obs")
    column = obs[key]
    if holds_fractions(column):
        msg = (
            f"{argument}={key!r} holds numbers with fractions; a counterfactual goes from one category to another. Cut it into "
            f"categories: pd.cut(adata.obs[{key!r}], 3).astype(str)."
        )
        raise TypeError(msg)
    missing = int(column.isna().sum())
    if missing:
        msg = (
            f"{argument}={key!r} is missing for {missing} of {len(obs)} cells. "
            f"Leave them out, adata = adata[adata.obs[{key!r}].notna()].copy(), or give them a label of their own."
        )
        raise ValueError(msg)
    return class_texts(column, argument).to_numpy(dtype=object)


def _in_order(column: pd.Series, labels: np.ndarray) -> list[str]:
    """Labels that occur, in the order of the categories where there is one."""
    there = set(labels)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [name for name in map(class_name, column.cat.categories) if name in there]
    return sorted(there)


def _check_category(value: Any, labels: np.ndarray, argument: str, column: str) -> str:
    there = sorted(set(labels))
    if class_name(value) in there:
        return class_name(value)
    nearest = difflib.get_close_matches(str(value), there, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    msg = f"{argument}={value!r} is no label of any cell in adata.obs[{column!r}].{hint} It has {_list(there)}."
    raise ValueError(msg)


def _exclude_mapping(exclude: Any, groupby: str | None) -> Mapping[str, list[str]]:
    if exclude is None:
        return {}
    if not isinstance(exclude, dict):
        if groupby is None:
            msg = (
                f"exclude={exclude!r} names a group, but groupby is None. "
                "Name its column: groupby=..., or exclude={column: value}."
            )
            raise ValueError(msg)
        exclude = {groupby: exclude}
    return {
        column: [class_name(v) for v in (list(value) if isinstance(value, (list, tuple, set, np.ndarray)) else [value])]
        for column, value in exclude.items()
    }


def _read_exclude(obs: pd.DataFrame, exclude: Any, groupby: str | None, groups: list[str]) -> np.ndarray:
    """Cells that are left out of learning, boolean."""
    mapping = _exclude_mapping(exclude, groupby)
    excluded = np.full(len(obs), bool(mapping))
    for column, values in mapping.items():
        labels = _read_labels(obs, column, "exclude")
        for value in values:
            _check_category(value, labels, "exclude", column)
            if column == groupby and value not in groups:
                msg = f"exclude={value!r} is a group without source cells, so nothing would be predicted for it. Leave it in."
                raise ValueError(msg)
        excluded &= np.isin(labels, values)
    return excluded


def _list(names: list[str], most: int = 8) -> str:
    text = ", ".join(repr(name) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")
