"""Ceilings: the same scores on oracle dimensions that know the covariates."""

from dataclasses import replace

import numpy as np

from scbetavae.metrics import _binning, _contingency
from scbetavae.metrics._contingency import Tables
from scbetavae.metrics._information import CodeBins, label_cells
from scbetavae.metrics.disentanglement._class_alignment import alignment_of_similarity
from scbetavae.metrics.disentanglement._evidence import Evidence, Statistics, read_tables


def oracle_codes(evidences: list[Evidence], n_cells: int, rng: np.random.Generator) -> np.ndarray:
    """One oracle dimension per covariate, (n_covariates, n_cells), with the classes in the order of the best real dimension."""
    # Continuous within classes where that dimension is continuous: it then pays the same price for bins that straddle two
    # classes. A cell without the label gets the value of a random labeled cell, which carries no information.
    oracle = np.zeros((len(evidences), n_cells))
    for row, evidence in enumerate(evidences):
        cells, covariate = evidence.cells, evidence.covariate
        level = cells.labels
        if not covariate.is_numeric:
            mean = np.bincount(level, weights=cells.bins[evidence.best]) / np.bincount(level)
            level = np.argsort(np.argsort(mean))[level]
        if covariate.is_numeric and len(np.unique(evidence.target)) > len(cells.classes):
            code = evidence.target
        else:
            code = level + (0.0 if _is_discrete(evidence) else 0.5) * rng.random(len(level))
        oracle[row, cells.keep] = code
        oracle[row, ~cells.keep] = rng.choice(code, size=int((~cells.keep).sum()))
    return oracle


def _is_discrete(evidence: Evidence) -> bool:
    """Whether the values of the best dimension are its bins."""
    values = evidence.values[evidence.best]
    return len(np.unique(values)) <= evidence.codes.estimator.count(len(values))


def add_ceilings(evidences: list[Evidence], oracle: np.ndarray) -> None:
    """Statistics of the oracle, filled up with dimensions that know nothing to as many as there are real ones."""
    binned = CodeBins(oracle, refinement=evidences[0].codes.refinement if evidences else 1)
    for own, evidence in enumerate(evidences):
        covariate, pair = evidence.covariate, evidence.confounded
        idle = np.zeros((1, max(len(evidence.codes.values) - len(oracle), 0)))
        cells = label_cells(binned, covariate)
        tables = cells.tables()
        coarse = Tables(_contingency.coarsen(tables, cells.refinement))
        if pair is not None and not pair.problem:
            coarse = replace(pair, cells=label_cells(binned, covariate, keep=pair.cells.keep)).tables()
        information, plug_in, entropy, alignment = read_tables(coarse, evidence)
        predictability = np.full(information.shape, np.nan)
        if evidence.predictability and covariate.is_numeric:
            predictability = _binning.spearman_squared(oracle[:, covariate.present], evidence.target)[None]
        elif evidence.predictability:
            predictability = _contingency.one_dimension_accuracy(tables)
        if evidence.alignment:
            similarity = _contingency.class_information(coarse, correct=True)[0][:, evidence.usable]
            alignment = _class_ceiling(evidence, coarse.counts[0, 0].sum(axis=0), similarity, own)
        padded = [np.concatenate([part, idle], axis=1) for part in (information, plug_in, predictability)]
        ceiling = Statistics(padded[0], padded[1], entropy, alignment, padded[2])
        evidence.views["ceiling"] = ceiling.without_information() if evidence.confounder_problem else ceiling


def _class_ceiling(evidence: Evidence, sizes: np.ndarray, similarity: np.ndarray, own: int) -> np.ndarray:
    """LMS, MSAS, MSGS of the better of two oracles: one dimension per class, or one for the covariate (row ``own``)."""
    # The oracles of the other covariates are there in both cases: a confounder caps the gap.
    n_dims = len(evidence.codes.values)
    by_class = _one_per_class(evidence, sizes)
    results = []
    for rows in (np.concatenate([by_class, np.delete(similarity, own, axis=0)]), similarity):
        padded = np.concatenate([rows, np.zeros((max(n_dims - len(rows), 0), rows.shape[1]))])
        results.append(alignment_of_similarity(np.nan_to_num(padded)[None]))
    best = np.fmax(*results)
    if n_dims < by_class.shape[1]:
        # With fewer dimensions than classes even the best matching leaves classes out.
        best[:, 0] *= n_dims / by_class.shape[1]
    return best


def _one_per_class(evidence: Evidence, sizes: np.ndarray) -> np.ndarray:
    """Similarity (n_usable, n_usable) of one oracle dimension per class, which has that class on top, with the classes."""
    # With bins of equal size all bins above the share of the class are pure, and one straddles.
    discrete = _is_discrete(evidence)
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
