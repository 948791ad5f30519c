"""Ceilings: the same scores on oracle codes that know the covariates."""

from __future__ import annotations

import numpy as np

from scbetavae.metrics import _contingency
from scbetavae.metrics._contingency import Tables
from scbetavae.metrics._information import CodeBins, Confounded, confounded_tables, label_cells
from scbetavae.metrics.disentanglement import _evidence
from scbetavae.metrics.disentanglement._class_alignment import alignment_of_similarity
from scbetavae.metrics.disentanglement._evidence import Evidence, Statistics, Wanted
from scbetavae.metrics.disentanglement._sap import spearman_squared


def oracle_codes(evidences: list[Evidence], codes: CodeBins, rng: np.random.Generator) -> np.ndarray:
    """One oracle dimension per covariate, (n_covariates, n_cells).

    The oracle has the classes in the order in which the best real dimension has them, and is continuous within
    classes where that dimension is continuous: then it pays the same price for bins that straddle two classes. A cell
    without the label gets the code of a random labeled cell, which tells nothing.
    """
    n_cells = codes.values.shape[1]
    oracle = np.zeros((len(evidences), n_cells))
    for row, evidence in enumerate(evidences):
        cells = evidence.cells
        information = np.nan_to_num(evidence.value.information[0])
        best = int(information.argmax())
        discrete = _evidence.is_discrete(codes, best, cells.keep)
        covariate = evidence.covariate
        is_fine = covariate.is_numeric and len(np.unique(covariate.values[cells.keep])) > len(cells.classes)
        if is_fine:
            code = covariate.values[cells.keep]
        else:
            level = cells.labels
            if not covariate.is_numeric:
                mean = np.bincount(level, weights=cells.bins[best]) / np.bincount(level)
                level = np.argsort(np.argsort(mean))[level]
            code = level + (0.0 if discrete else 0.5) * rng.random(len(level))
        oracle[row, cells.keep] = code
        oracle[row, ~cells.keep] = rng.choice(code, size=int((~cells.keep).sum()))
    return oracle


def add_ceilings(evidences: list[Evidence], oracle: np.ndarray, codes: CodeBins, wanted: Wanted) -> None:
    """Statistics of the oracle, filled up with dimensions that know nothing to as many as there are codes."""
    binned = _evidence.refined_bins(oracle, codes.estimator, refine=wanted.predictability)
    n_idle = max(len(codes.values) - len(oracle), 0)
    for own, evidence in enumerate(evidences):
        covariate = evidence.covariate
        cells = label_cells(binned, covariate)
        tables = cells.tables()
        coarse = Tables(_contingency.coarsen(tables, cells.refinement))
        pair = evidence.confounded
        if pair is not None and not pair.problem:
            keep = pair.cells.keep
            bins = cells.bins if (keep == cells.keep).all() else binned.bins(keep)
            labeled = label_cells(binned, covariate, keep=keep)
            coarse = confounded_tables(Confounded(labeled, *pair[1:])) if len(bins) else coarse
        information, plug_in, entropy = _evidence.read_information(coarse, wanted.estimator.correct)
        if not wanted.predictability:
            predictability = np.full(information.shape, np.nan)
        elif covariate.is_numeric:
            keep = covariate.present
            predictability = spearman_squared(oracle[:, keep], covariate.values[keep])[None]
        else:
            predictability = _contingency.one_dimension_accuracy(tables)
        idle = np.zeros((1, n_idle))
        alignment = np.full((1, 3), np.nan)
        if wanted.alignment and not covariate.is_numeric:
            similarity = _contingency.class_information(coarse, correct=wanted.estimator.correct)[0][:, evidence.usable]
            alignment = _class_ceiling(evidence, codes, coarse.counts[0, 0].sum(axis=0), similarity, own)
        evidence.ceiling = Statistics(
            np.concatenate([information, idle], axis=1),
            np.concatenate([plug_in, idle], axis=1),
            entropy,
            np.concatenate([predictability, idle], axis=1),
            alignment,
        )
        if evidence.confounder_problem:
            blank = np.full(evidence.ceiling.information.shape, np.nan)
            evidence.ceiling = evidence.ceiling._replace(
                information=blank, plug_in=blank, alignment=np.full((1, 3), np.nan)
            )


def _class_ceiling(
    evidence: Evidence, codes: CodeBins, sizes: np.ndarray, similarity: np.ndarray, own: int
) -> np.ndarray:
    """LMS, MSAS, MSGS of the better of two oracles: one dimension per class, or one for the covariate.

    ``similarity`` (n_covariates, n_classes) is that of the oracles of all covariates; row ``own`` is this covariate's. The
    other covariates' oracles are there in both cases: a confounder caps the gap.
    """
    n_dims = len(codes.values)
    by_class = _one_per_class(evidence, codes, sizes)
    others = np.delete(similarity, own, axis=0)
    results = []
    for rows in (np.concatenate([by_class, others]), similarity):
        padded = np.concatenate([rows, np.zeros((max(n_dims - len(rows), 0), rows.shape[1]))])
        results.append(alignment_of_similarity(np.nan_to_num(padded)[None]))
    best = np.fmax(*results)
    if n_dims < by_class.shape[1]:
        # With fewer dimensions than classes even the best matching leaves classes out.
        best[:, 0] *= n_dims / by_class.shape[1]
    return best


def _one_per_class(evidence: Evidence, codes: CodeBins, sizes: np.ndarray) -> np.ndarray:
    """Similarity (n_usable, n_usable) of one oracle dimension per class with the classes, from class sizes alone.

    The oracle of a class has that class on top. With bins of equal size all bins above its share are pure, and one
    straddles; a discrete oracle has the class in one bin and the rest in another.
    """
    best = int(np.nan_to_num(evidence.value.information[0]).argmax())
    discrete = _evidence.is_discrete(codes, best, evidence.cells.keep)
    n_classes, total = len(sizes), sizes.sum()
    n_bins = 2 if discrete else evidence.cells.n_bins // evidence.cells.refinement
    tables = np.zeros((n_classes, n_bins, n_classes))
    for c, size in enumerate(sizes):
        edges = np.array([0.0, total - size, total]) if discrete else np.linspace(0, total, n_bins + 1)
        in_class = np.maximum(edges[1:] - np.maximum(edges[:-1], total - size), 0.0)
        others = sizes.astype(float)
        others[c] = 0.0
        tables[c] = np.outer(np.diff(edges) - in_class, others / max(others.sum(), 1e-300))
        tables[c, :, c] = in_class
    similarity = _contingency.class_information(Tables(tables), correct=False)
    return similarity[evidence.usable][:, evidence.usable]
