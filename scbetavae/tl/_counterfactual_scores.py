"""How near predicted cells come to the real cells of the target category, beside what needs no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from scbetavae import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scbetavae.tl._counterfactual_design import Design

N_TOP = 50
"""Differential genes that are compared on their own."""

ALL_GENES, TOP_GENES = "all", f"top_{N_TOP}"
DO_NOTHING, MEAN_SHIFT, SPLIT_HALF = "do_nothing", "mean_shift", "split_half"

_PER_TEN_THOUSAND = 1e4


class MeanShift(NamedTuple):
    """The baseline that knows no model: gene shares of a group before and after."""

    before: np.ndarray
    after: np.ndarray


class Predicted(NamedTuple):
    """Counts of the source cells, in the order of the design."""

    observed: sparse.csr_matrix
    predicted: sparse.csr_matrix
    mean_shift: sparse.csr_matrix


def mean_shifts(counts: sparse.csr_matrix, design: Design) -> dict[str, MeanShift]:
    r"""Shares of every group, moved by the mean change of log(1 + shares x 10 000).

    As the codes: a group moves by its own change or, where it has none, by the mean of those of the groups that have one.
    """
    changes = {}
    for group in design.teachers:
        source, target = (
            np.log1p(_PER_TEN_THOUSAND * _mean_shares(counts[cells])) for cells in design.pair(group, learnt=True)
        )
        changes[group] = target - source
    pooled = np.mean(list(changes.values()), axis=0)
    shifts = {}
    for group in design.groups:
        before = _mean_shares(counts[design.pair(group)[0]])
        after = np.expm1(np.maximum(np.log1p(_PER_TEN_THOUSAND * before) + changes.get(group, pooled), 0.0))
        # A profile that falls to nothing everywhere leaves nowhere to go: it stays.
        shifts[group] = MeanShift(before, after / after.sum() if after.sum() > 0 else before)
    return shifts


def score_prediction(
    counts: sparse.csr_matrix, cells: Predicted, design: Design, method: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of errors and of gene-wise means.

    Parameters
    ----------
    counts
        Counts of all cells, shape (n_cells, n_genes).
    cells
        Predicted counts of the source cells, and the baselines.
    design
        Who was moved, and from whom the move was learnt.
    method
        Name of the method, for the table.
    seed
        Seed of the split halves.

    Returns
    -------
    Errors: a row a group, method and set of genes. Genes: a row a group and gene, without names: ``gene`` is its position.
    """
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
            "held_out": design.is_held_out(group),
            "flag": design.too_small(group),
        }
        judged = None if facts["flag"] else target
        scores += [{"group": group} | row | facts for row in _score_group(profiles, judged, real, method, seed)]
        genes.append(_gene_rows(group, profiles, target, held_out=facts["held_out"]))
    return pd.DataFrame(scores), pd.concat(genes, ignore_index=True)


def _score_group(
    profiles: dict[str, np.ndarray], target: np.ndarray | None, real: sparse.csr_matrix, method: str, seed: int
) -> Iterator[dict]:
    source = profiles["observed"]
    everything = np.arange(len(source))
    top = everything[:N_TOP] if target is None else metrics.differential_genes(source, target, N_TOP)
    contestants = {
        method: ("prediction", profiles["predicted"]),
        DO_NOTHING: ("baseline", source),
        MEAN_SHIFT: ("baseline", profiles["mean_shift"]),
        SPLIT_HALF: ("ceiling", None),
    }
    for name, (kind, profile) in contestants.items():
        for label, genes in ((ALL_GENES, everything), (TOP_GENES, top)):
            error = correlation = float("nan")
            if target is not None and profile is None:
                error, correlation = metrics.split_half_error(source, real, genes=genes, seed=seed)
            elif target is not None:
                error = metrics.relative_error(profile[genes], source[genes], target[genes])
                correlation = metrics.squared_correlation(profile[genes], target[genes])
            yield {
                "method": name,
                "kind": kind,
                "genes": label,
                "n_genes": len(genes),
                "relative_error": error,
                "r2": correlation,
            }


def _gene_rows(
    group: str, profiles: dict[str, np.ndarray], target: np.ndarray | None, *, held_out: bool
) -> pd.DataFrame:
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
            "held_out": held_out,
        }
    )


def _mean_shares(counts: sparse.csr_matrix) -> np.ndarray:
    """Mean over cells of each gene's share of a cell's counts."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    weights = np.divide(1.0, totals, out=np.zeros_like(totals, dtype=np.float64), where=totals > 0)
    return np.asarray(weights @ counts).ravel() / max(len(totals), 1)
