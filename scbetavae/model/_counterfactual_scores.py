"""Error of predicted cells against the real cells of the target category, next to baselines that need no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from scbetavae import metrics

from ._count_transport import transport_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._counterfactual_design import Design

N_TOP = 50
"""Differential genes that are scored on their own."""
CELLS_AT_ONCE = 1024

_PER_TEN_THOUSAND = 1e4


class Predicted(NamedTuple):
    """Counts of the source cells, in the order of the design: before, predicted, and under the mean-shift baseline."""

    observed: sparse.csr_matrix
    predicted: sparse.csr_matrix
    mean_shift: sparse.csr_matrix


def mean_shift_counts(counts: sparse.csr_matrix, design: Design, rng: np.random.Generator | None) -> sparse.csr_matrix:
    """Counts of the source cells under the mean-shift baseline."""
    observed = counts[design.source]
    of_source = design.group[design.source]
    order, parts = [], []
    for group, (before, after) in _mean_shifts(counts, design).items():
        here = np.flatnonzero(of_source == group)
        for start in range(0, len(here), CELLS_AT_ONCE):
            rows = here[start : start + CELLS_AT_ONCE]
            expected, draw = transport_counts(observed[rows], before[None], after[None], rng)
            order.append(rows)
            parts.append(sparse.csr_matrix(expected) if draw is None else draw)
    return sparse.csr_matrix(sparse.vstack(parts))[np.argsort(np.concatenate(order))]


def _mean_shifts(counts: sparse.csr_matrix, design: Design) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Shares of every group, before and after the mean change of log(1 + shares x 10 000).

    As in the latent space, a group changes by its own mean or, where it has none, by the mean over the groups that have one.
    """
    changes = {}
    for group in design.training_groups:
        source, target = (
            np.log1p(_PER_TEN_THOUSAND * _mean_shares(counts[cells])) for cells in design.pair(group, fitted=True)
        )
        changes[group] = target - source
    pooled = np.mean(list(changes.values()), axis=0)
    shifts = {}
    for group in design.groups:
        before = _mean_shares(counts[design.pair(group)[0]])
        after = np.expm1(np.maximum(np.log1p(_PER_TEN_THOUSAND * before) + changes.get(group, pooled), 0.0))
        # A profile that falls to 0 in every gene has no shares: it stays.
        shifts[group] = before, after / after.sum() if after.sum() > 0 else before
    return shifts


def score_prediction(
    counts: sparse.csr_matrix, cells: Predicted, design: Design, method: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Errors, one row per group, method and set of genes; and means, one row per group and gene (``gene`` is its position)."""
    scores, genes = [], []
    of_source = design.group[design.source]
    for group in design.groups:
        here = np.flatnonzero(of_source == group)
        profiles = {name: metrics.log_profile(matrix[here]) for name, matrix in cells._asdict().items()}
        real = counts[design.pair(group)[1]]
        target = metrics.log_profile(real) if real.shape[0] else None
        facts = {
            "n_source_cells": len(here),
            "n_target_cells": real.shape[0],
            "held_out": group not in design.training_groups,
            "flag": design.too_small(group).text,
        }
        rows = _score_group(profiles, None if facts["flag"] else target, real, method, seed)
        scores += [{"group": group} | row | facts for row in rows]
        genes.append(_gene_rows(group, profiles, target).assign(held_out=facts["held_out"]))
    return pd.DataFrame(scores), pd.concat(genes, ignore_index=True)


def _score_group(
    profiles: dict[str, np.ndarray], target: np.ndarray | None, real: Any, method: str, seed: int
) -> Iterator[dict[str, Any]]:
    """Errors of the prediction, of the baselines and of half of the target cells; missing without a target."""
    source = profiles["observed"]
    everything = np.arange(len(source))
    top = everything[:N_TOP] if target is None else metrics.differential_genes(source, target, N_TOP)
    rows = {
        method: ("prediction", profiles["predicted"]),
        "no_change": ("baseline", source),
        "mean_shift": ("baseline", profiles["mean_shift"]),
        "split_half": ("ceiling", None),
    }
    for name, (kind, profile) in rows.items():
        for label, genes in (("all", everything), (f"top_{N_TOP}", top)):
            error = correlation = float("nan")
            if target is not None and profile is None:
                error, correlation = metrics.split_half_error(source, real, genes=genes, seed=seed)
            elif target is not None and profile is not None:
                error = metrics.relative_error(profile[genes], source[genes], target[genes])
                correlation = metrics.squared_correlation(profile[genes], target[genes])
            errors = {"n_genes": len(genes), "relative_error": error, "r2": correlation}
            yield {"method": name, "kind": kind, "genes": label, **errors}


def _gene_rows(group: str, profiles: dict[str, np.ndarray], target: np.ndarray | None) -> pd.DataFrame:
    """Means of every gene; rank 1 for the gene that differs most between source and target, 0 without a target."""
    n_genes = len(profiles["observed"])
    rank = np.zeros(n_genes, dtype=np.int64)
    if target is not None:
        rank[metrics.differential_genes(profiles["observed"], target, n_genes)] = np.arange(1, n_genes + 1)
    return pd.DataFrame(
        {
            "group": group,
            "gene": np.arange(n_genes),
            "source": profiles["observed"],
            "target": np.full(n_genes, np.nan) if target is None else target,
            "predicted": profiles["predicted"],
            "mean_shift": profiles["mean_shift"],
            "rank": rank,
        }
    )


def _mean_shares(counts: Any) -> np.ndarray:
    """Mean over cells of each gene's share of a cell's counts."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    weights = np.divide(1.0, totals, out=np.zeros_like(totals, dtype=np.float64), where=totals > 0)
    return np.asarray(weights @ counts).ravel() / max(len(totals), 1)
