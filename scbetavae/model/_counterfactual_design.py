"""Source and target cells by group, and the cells that the change is estimated from; refused before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scbetavae._core.checks import check_key
from scbetavae._core.columns import (
    ALL_CELLS,
    Small,
    class_name,
    class_texts,
    holds_fractions,
    names_in_order,
    tell_small,
)
from scbetavae._core.constants import MEAN_CELLS
from scbetavae._core.text import did_you_mean, listed


class Design(NamedTuple):
    """Source and target cells (boolean) by group (a string), and the cells and groups that the change is estimated from."""

    source: np.ndarray
    target: np.ndarray
    group: np.ndarray
    groups: list[str]
    """Groups that have source cells, in the order of the categories."""
    fitted: np.ndarray
    """Source and target cells of ``training_groups`` that are not excluded, boolean."""
    training_groups: list[str]
    names: tuple[str, str]
    """Source and target category."""

    def pair(self, group: str, *, fitted: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Source and target cells of a group, two boolean arrays."""
        here = self.group == group
        here = here & self.fitted if fitted else here
        return here & self.source, here & self.target

    def too_small(self, group: str) -> Small:
        """Why the prediction of a group cannot be scored: too few cells of it, or too few that the change is estimated from."""
        if not self.pair(group)[1].any():
            return Small("no target cells")
        for pool in (np.isin(self.group, self.training_groups) & self.fitted, self.group == group):
            sizes = [int((pool & cells).sum()) for cells in (self.source, self.target)]
            small = tell_small(dict(zip(self.names, sizes, strict=True)), "category")
            if small.text:
                return small
        return Small("")


def read_design(
    obs: pd.DataFrame, covariate: str, source: Any, target: Any, groupby: str | None, exclude: Any
) -> Design:
    """The design of a counterfactual: columns, categories and groups, checked."""
    labels = _read_labels(obs, covariate, "covariate")
    source = _check_category(source, labels, "source", covariate)
    target = _check_category(target, labels, "target", covariate)
    if source == target:
        names = listed(sorted(set(labels)))
        msg = f"source and target are both {source!r}. Name two categories of {covariate!r}: {names}."
        raise ValueError(msg)
    if groupby == covariate:
        msg = f"groupby={groupby!r} is the covariate itself. Name a column whose groups hold source and target cells."
        raise ValueError(msg)
    group = np.full(len(obs), ALL_CELLS, dtype=object)
    order = [ALL_CELLS]
    if groupby is not None:
        group = _read_labels(obs, groupby, "groupby")
        order = names_in_order(obs[groupby], group)
    is_source, is_target = labels == source, labels == target
    groups = [name for name in order if (is_source & (group == name)).any()]
    fitted = ~_read_exclude(obs, exclude, groupby, groups)
    counts = {n: min(int((cells & fitted & (group == n)).sum()) for cells in (is_source, is_target)) for n in order}
    training_groups = [n for n in order if counts[n] >= MEAN_CELLS] or [n for n in order if counts[n] >= 1]
    if not training_groups:
        once = "" if exclude is None else f" once exclude={exclude!r} is left out"
        msg = f"No {source!r} or no {target!r} cells remain{once}. Leave fewer out."
        if groupby is not None:
            msg = (
                f"No group of {groupby!r} holds both {source!r} and {target!r} cells from which the change could be "
                f"estimated{once}. Pass coarser groups, or leave fewer out."
            )
        raise ValueError(msg)
    fitted &= np.isin(group, training_groups) & (is_source | is_target)
    return Design(is_source, is_target, group, groups, fitted, training_groups, (source, target))


def read_levels(covariate: Any, source: Any, target: Any) -> dict[str, tuple[str, str]]:
    """Source and target category of each covariate."""
    if not isinstance(covariate, Mapping):
        return {covariate: (class_name(source), class_name(target))}
    if source is not None or target is not None or not covariate:
        msg = "A dict of covariates names its own categories: counterfactual({'condition': ('ctrl', 'stim')})."
        raise ValueError(msg)
    wrong = [name for name, pair in covariate.items() if not isinstance(pair, tuple | list) or len(pair) != 2]
    if wrong:
        msg = f"{listed(wrong)} has no pair of categories. Pass (source, target), for example ('ctrl', 'stim')."
        raise ValueError(msg)
    return {name: (class_name(first), class_name(second)) for name, (first, second) in covariate.items()}


def combine_covariates(obs: pd.DataFrame, levels: Mapping[str, tuple[str, str]]) -> tuple[pd.DataFrame, str, str, str]:
    """One column for all covariates: ``.obs`` with it, its name, and the categories to go from and to."""
    names = list(levels)
    if len(names) == 1:
        return obs, names[0], *levels[names[0]]
    for name in names:
        check_key(name, obs.columns, "covariate", "adata.obs")
    joint = " & ".join(names)
    column = obs[names].astype(object).map(class_name, na_action="ignore").agg(" & ".join, axis=1)
    source, target = (" & ".join(pair[i] for pair in levels.values()) for i in (0, 1))
    return obs.assign(**{joint: column}), joint, source, target


def describe_exclude(exclude: Any, groupby: str | None) -> str:
    """The excluded cells, as it is stored; empty for none."""
    return "; ".join(f"{column} = {', '.join(values)}" for column, values in _exclude_mapping(exclude, groupby).items())


def _read_labels(obs: pd.DataFrame, key: str, argument: str) -> np.ndarray:
    """Names of the categories of every cell."""
    check_key(key, obs.columns, argument, "adata.obs")
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


def _check_category(value: Any, labels: np.ndarray, argument: str, column: str) -> str:
    """The name of a category that some cell has."""
    present = sorted(set(labels))
    if class_name(value) in present:
        return class_name(value)
    hint = did_you_mean(value, present)
    msg = f"{argument}={value!r} is not a label of any cell in adata.obs[{column!r}].{hint} It has {listed(present)}."
    raise ValueError(msg)


def _exclude_mapping(exclude: Any, groupby: str | None) -> Mapping[str, list[str]]:
    """Excluded values by column."""
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
    several = (list, tuple, set, np.ndarray)
    values = {column: list(v) if isinstance(v, several) else [v] for column, v in exclude.items()}
    return {column: [class_name(value) for value in v] for column, v in values.items()}


def _read_exclude(obs: pd.DataFrame, exclude: Any, groupby: str | None, groups: list[str]) -> np.ndarray:
    """Cells that the change is not estimated from, boolean."""
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
