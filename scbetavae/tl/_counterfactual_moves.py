"""How source cells move in the latent space to become target cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from scbetavae import metrics

if TYPE_CHECKING:
    from scbetavae.tl._counterfactual_design import Design

METHODS = ("group_shift", "dimension", "nearest")

CARRIES = 0.1
"""Share of the covariate's entropy, given the group, from which on a dimension is said to carry the covariate."""

N_NEIGHBORS = 15
"""Cells of each category among which "nearest" looks for a partner."""


class Move(NamedTuple):
    """Moved codes, and how they came about."""

    codes: np.ndarray
    """Moved codes of the source cells, shape (n_source, n_dims)."""
    moved: np.ndarray
    """Dimensions that moved, boolean, shape (n_dims,)."""
    carrying: np.ndarray
    """Dimensions that carry the covariate, boolean."""


def read_dimensions(dimensions: Any, n_dims: int) -> np.ndarray | None:
    """Mask of the dimensions that a user named, or ``None``.

    Raises
    ------
    ValueError
        If one does not exist or none is named.
    """
    if dimensions is None:
        return None
    named = [dimensions] if isinstance(dimensions, (int, np.integer)) else list(dimensions)
    whole = all(isinstance(d, (int, np.integer)) and not isinstance(d, (bool, np.bool_)) for d in named)
    if not named or not whole or not all(0 <= d < n_dims for d in named):
        msg = f"dimensions={dimensions!r}: name at least one dimension by its number, from 0 to {n_dims - 1}."
        raise ValueError(msg)
    mask = np.zeros(n_dims, dtype=bool)
    mask[[int(d) for d in named]] = True
    return mask


def move_codes(codes: np.ndarray, design: Design, method: str, named: np.ndarray | None, active: np.ndarray) -> Move:
    """Move the source cells by one of :data:`METHODS`.

    Parameters
    ----------
    codes
        Codes of all cells, shape (n_cells, n_dims).
    design
        Who is moved, and from whom the move is learnt.
    method
        One of :data:`METHODS`.
    named
        Dimensions that are said to carry the covariate, and alone move; ``None`` to find them.
    active
        Dimensions that the model uses.

    Raises
    ------
    ValueError
        For ``"nearest"``, if no active dimension is left to match cells in.
    """
    carrying = _carrying(codes, design, active) if named is None else named
    moved = carrying if named is not None or method == "dimension" else active
    free = active & ~carrying
    shift = _nearest_shift(codes, design, free) if method == "nearest" else _group_shift(codes, design)
    return Move(codes[design.source] + np.where(moved, shift, 0.0), moved, carrying)


def _carrying(codes: np.ndarray, design: Design, active: np.ndarray) -> np.ndarray:
    """Dimensions with at least a tenth of what there is to know of the covariate given the group, and the best one."""
    total, entropy = np.zeros(codes.shape[1]), 0.0
    for group in design.teachers:
        source, target = design.pair(group, learnt=True)
        cells = source | target
        label = pd.DataFrame({"label": np.where(target[cells], "target", "source")})
        share = target[cells].mean()
        entropy -= cells.sum() * (share * np.log(share) + (1 - share) * np.log(1 - share))
        total += cells.sum() * metrics.mutual_information_matrix(codes[cells], label)["label"].to_numpy()
    known = np.where(active, total / entropy, -1.0)
    carrying = known >= CARRIES
    carrying[known.argmax()] = True
    return carrying


def _group_shift(codes: np.ndarray, design: Design) -> np.ndarray:
    """Difference of mean codes: a group's own or, where it has none, the mean of those of the groups that have one."""
    shifts = {}
    for group in design.teachers:
        source, target = design.pair(group, learnt=True)
        shifts[group] = codes[target].mean(axis=0) - codes[source].mean(axis=0)
    pooled = np.mean(list(shifts.values()), axis=0)
    by_group = {group: shifts.get(group, pooled) for group in design.groups}
    return np.stack([by_group[group] for group in design.group[design.source]])


def _nearest_shift(codes: np.ndarray, design: Design, free: np.ndarray) -> np.ndarray:
    """Difference of the mean codes of the nearest target and source cells, near in the dimensions ``free``."""
    if not free.any():
        msg = (
            'method="nearest" matches cells in dimensions that do not carry the covariate, and every active dimension carries '
            'it. Name those that should move, dimensions=[...], or use method="group_shift".'
        )
        raise ValueError(msg)
    queries = codes[design.source][:, free]
    means = []
    for cells in (design.source & design.learnt, design.target & design.learnt):
        pool = codes[cells]
        search = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(pool))).fit(pool[:, free])
        means.append(pool[search.kneighbors(queries, return_distance=False)].mean(axis=1))
    return means[1] - means[0]
