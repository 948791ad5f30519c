"""How source cells move in the latent space to become target cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from scbetavae import metrics

if TYPE_CHECKING:
    from ._counterfactual_design import Design

METHODS = ("group_shift", "dimension", "nearest")

ENCODES = 0.1
"""Share of the covariate's entropy, given the group, from which on a dimension counts as encoding the covariate."""

N_NEIGHBORS = 15
"""Nearest cells of each category whose means ``"nearest"`` compares."""


def move_cells(
    means: np.ndarray, design: Design, method: str, named: list[int] | None, active: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moved posterior means of the source cells, the dimensions that moved, and those that encode the covariate.

    ``named`` are the dimensions that are said to encode the covariate, and alone move; ``None`` to find them.
    """
    encoding = _encoding(means, design, active) if named is None else np.isin(np.arange(len(active)), named)
    moved = encoding if named is not None or method == "dimension" else active
    shift = _nearest_shift(means, design, active & ~encoding) if method == "nearest" else _group_shift(means, design)
    return means[design.source] + np.where(moved, shift, 0.0), moved, encoding


def _encoding(means: np.ndarray, design: Design, active: np.ndarray) -> np.ndarray:
    """Dimensions with at least a tenth of the covariate's entropy given the group, and the best one."""
    total, entropy = np.zeros(means.shape[1]), 0.0
    for group in design.training_groups:
        source, target = design.pair(group, fitted=True)
        cells = source | target
        label = pd.DataFrame({"label": np.where(target[cells], "target", "source")})
        share = target[cells].mean()
        entropy -= cells.sum() * (share * np.log(share) + (1 - share) * np.log(1 - share))
        total += cells.sum() * metrics.mutual_information_matrix(means[cells], label)["label"].to_numpy()
    known = np.where(active, total / entropy, -1.0)
    encoding = known >= ENCODES
    encoding[known.argmax()] = True
    return encoding


def _group_shift(means: np.ndarray, design: Design) -> np.ndarray:
    """Difference of the means of target and source cells: a group's own or, where it has none, the mean over the others."""
    shifts = {}
    for group in design.training_groups:
        source, target = design.pair(group, fitted=True)
        shifts[group] = means[target].mean(axis=0) - means[source].mean(axis=0)
    pooled = np.mean(list(shifts.values()), axis=0)
    by_group = {group: shifts.get(group, pooled) for group in design.groups}
    return np.stack([by_group[group] for group in design.group[design.source]])


def _nearest_shift(means: np.ndarray, design: Design, free: np.ndarray) -> np.ndarray:
    """Difference of the means of the nearest target and source cells, nearest in the dimensions ``free``."""
    if not free.any():
        msg = (
            'method="nearest" matches cells in dimensions that do not encode the covariate, and every active dimension encodes '
            'it. Name those that should move, dimensions=[...], or use method="group_shift".'
        )
        raise ValueError(msg)
    queries = means[design.source][:, free]
    centers = []
    for cells in (design.source & design.fitted, design.target & design.fitted):
        pool = means[cells]
        search = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(pool))).fit(pool[:, free])
        centers.append(pool[search.kneighbors(queries, return_distance=False)].mean(axis=1))
    return centers[1] - centers[0]
