"""Donors as replicates: which take part in the comparison of two levels of a covariate, and their means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scbetavae._core.checks import as_list, check_choice, check_key, check_keys
from scbetavae._core.columns import ALL_CELLS, class_name, class_texts, names_in_order, obs_of, read_donors
from scbetavae._core.constants import MEAN_CELLS
from scbetavae._core.text import counted, listed

if TYPE_CHECKING:
    from anndata import AnnData

MINIMUM_DONORS = 3
"""Donors per level that a test needs."""

_REPLICATES = (
    "Cells of one donor are not independent replicates: testing them as if they were (pseudoreplication) gives small p-values "
    "without any effect (Squair et al. 2021, doi:10.1038/s41467-021-25960-2)."
)


class Design(NamedTuple):
    """Cells that are compared, as numbers of their group, donor and level, and how donors enter the test."""

    cells: np.ndarray
    """Positions of the cells with one of both levels and a group."""
    group: np.ndarray
    donor: np.ndarray
    level: np.ndarray
    """0 for the reference, 1 for the target."""
    levels: tuple[str, str]
    groups: list[str]
    counts: np.ndarray
    """Cells by group, donor and level."""
    paired: bool
    n_missing: int
    """Cells left out because covariate or group is missing."""

    def donors(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Donors of reference and target with enough cells: the same ones if paired, none in both otherwise."""
        enough = self.counts[group] >= MEAN_CELLS
        if self.paired:
            both = np.flatnonzero(enough.all(axis=-1))
            return both, both
        both = _with_enough_cells(self.counts).all(axis=-1)  # in any group
        return np.flatnonzero(enough[:, 0] & ~both), np.flatnonzero(enough[:, 1] & ~both)

    def is_tested(self, group: int) -> bool:
        """Whether a group has enough donors."""
        return min(map(len, self.donors(group))) >= MINIMUM_DONORS

    def n_donors_left_out(self) -> int:
        """Donors with enough cells in some group whose levels do not fit the design: one level if paired, both otherwise."""
        enough = _with_enough_cells(self.counts)
        return int((enough.any(axis=-1) & (enough.all(axis=-1) != self.paired)).sum())

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean of each dimension over the cells of group, donor and level; NaN without cells."""
        shape = self.counts.shape
        unit = np.ravel_multi_index((self.group, self.donor, self.level), shape)
        sums = [np.bincount(unit, weights=column, minlength=self.counts.size) for column in values[self.cells].T]
        with np.errstate(invalid="ignore"):
            return np.stack(sums, axis=-1).reshape(*shape, -1) / self.counts[..., None]


def read_design(adata: AnnData, covariate: str, donor_key: str, groupby: str | None, levels: Any) -> Design:
    """The design of a comparison over donors, checked."""
    obs = obs_of(adata)
    for argument, key in {"covariate": covariate, "donor_key": donor_key}.items():
        check_key(key, obs.columns, argument, "adata.obs")
    check_keys({"groupby": groupby}, obs.columns, "adata.obs")
    _check_distinct({"covariate": covariate, "donor_key": donor_key, "groupby": groupby})
    donors = class_texts(read_donors(adata, donor_key), "donor_key").to_numpy(dtype=object)
    label = class_texts(obs[covariate], "covariate")
    names = _choose_levels(levels, names_in_order(obs[covariate], label), covariate)
    group, groups = np.full(len(obs), ALL_CELLS, dtype=object), [ALL_CELLS]
    missing = label.isna().to_numpy()
    if groupby is not None:
        column = class_texts(obs[groupby], "groupby")
        group, groups = column.to_numpy(dtype=object), names_in_order(obs[groupby], column)
        missing = missing | column.isna().to_numpy()
    cells = np.flatnonzero(label.isin(names).to_numpy() & ~missing)
    is_target = (label.to_numpy(dtype=object)[cells] == names[1]).astype(np.int64)
    _check_donors(donors[cells], is_target, names, covariate, donor_key)
    found = set(group[cells])
    present = [name for name in groups if name in found]
    group_number = pd.Categorical(group[cells], categories=present).codes.astype(np.int64)
    donor_number, donor_names = pd.factorize(donors[cells], sort=True)
    shape = len(present), len(donor_names), 2
    unit = np.ravel_multi_index((group_number, donor_number, is_target), shape)
    counts = np.bincount(unit, minlength=np.prod(shape)).reshape(shape)
    paired = _are_paired(counts)
    design = Design(cells, group_number, donor_number, is_target, names, present, counts, paired, int(missing.sum()))
    _check_groups(design, donor_key)
    return design


def too_few(design: Design, group: int) -> str:
    """Why a group is not tested."""
    n_first, n_second = map(len, design.donors(group))
    if design.paired:
        found = f"{n_first} with at least {MEAN_CELLS} cells of both levels"
    else:
        found = (
            f"{n_first} of {design.levels[0]!r} and {n_second} of {design.levels[1]!r} with at least {MEAN_CELLS} cells"
        )
    return f"fewer than {MINIMUM_DONORS} donors: {found}"


def _check_distinct(keys: dict[str, str | None]) -> None:
    """Refuse one column in two roles."""
    given = [(argument, key) for argument, key in keys.items() if key is not None]
    for i, (argument, key) in enumerate(given):
        for earlier, other in given[:i]:
            if key == other:
                msg = f"{earlier} and {argument} are both {key!r}. Name a different column of adata.obs for each."
                raise ValueError(msg)


def _choose_levels(levels: Any, present: list[str], covariate: str) -> tuple[str, str]:
    """Reference and target."""
    if levels is None:
        if len(present) == 2:
            return present[0], present[1]
        found = f"has {counted(len(present), 'level')}: {listed(present)}"
        todo = "Choose two: levels=(reference, target)" if len(present) > 2 else "A comparison needs two"
        msg = f"covariate={covariate!r} {found}. {todo}."
        raise ValueError(msg)
    chosen = [class_name(level) for level in as_list(levels)]
    for level in chosen:
        check_choice(level, present, "levels", hint=f" These are the levels of {covariate!r}.")
    if len(chosen) != 2 or chosen[0] == chosen[1]:
        msg = f"levels={levels!r}: pass two different levels of {covariate!r}, (reference, target), from {listed(present)}."
        raise ValueError(msg)
    return chosen[0], chosen[1]


def _check_donors(
    donors: np.ndarray, is_target: np.ndarray, levels: tuple[str, str], covariate: str, donor_key: str
) -> None:
    """Refuse a comparison with too few donors of either level, of any number of cells."""
    numbers = [len(set(donors[is_target == side])) for side in (0, 1)]
    if min(numbers) >= MINIMUM_DONORS:
        return
    each = " and ".join(
        f"{counted(number, 'donor')} of {level!r}" for number, level in zip(numbers, levels, strict=True)
    )
    msg = (
        f"covariate={covariate!r} has {each} (donor_key={donor_key!r}), but a test needs at least {MINIMUM_DONORS} of each. "
        f"{_REPLICATES} Add donors, or describe these cells with scbetavae.tl.predict_condition."
    )
    raise ValueError(msg)


def _with_enough_cells(counts: np.ndarray) -> np.ndarray:
    """Whether a donor has enough cells of each level in some group, donors x 2."""
    return np.any(counts >= MEAN_CELLS, axis=0)


def _are_paired(counts: np.ndarray) -> bool:
    """Whether pairs leave at least as many donors per level as donors of a single level do."""
    enough = _with_enough_cells(counts)
    both = np.asarray(enough.all(axis=-1))
    return bool(both.any()) and int(both.sum()) >= int(enough[~both].sum(axis=0).min())


def _check_groups(design: Design, donor_key: str) -> None:
    """Refuse a comparison without a group that has enough donors."""
    numbers = range(len(design.groups))
    if any(map(design.is_tested, numbers)):
        return
    best = max(numbers, key=lambda group: min(map(len, design.donors(group))))
    msg = (
        f"No group can be tested. The best, {design.groups[best]!r}, has {too_few(design, best)} "
        f"(donor_key={donor_key!r}). {_REPLICATES} Pass coarser groups, or more donors or cells."
    )
    raise ValueError(msg)
