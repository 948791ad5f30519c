"""Everything the scores of the information family need, for the value, the null, the bootstrap and the ceiling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from scbetavae._core import columns
from scbetavae.metrics import _binning, _contingency, _resampling
from scbetavae.metrics._checks import Covariate
from scbetavae.metrics._contingency import Tables
from scbetavae.metrics._information import (
    CodeBins,
    Confounded,
    Estimator,
    LabeledCells,
    confounded_tables,
    label_against_confounder,
    label_cells,
)
from scbetavae.metrics._resampling import Blocks
from scbetavae.metrics.disentanglement._class_alignment import alignment_of_similarity, usable_classes
from scbetavae.metrics.disentanglement._dcimig import dcimig_of_matrix
from scbetavae.metrics.disentanglement._mig import top_gap
from scbetavae.metrics.disentanglement._mig_sup import mig_sup_of_matrix
from scbetavae.metrics.disentanglement._modularity import modularity_of_matrix
from scbetavae.metrics.disentanglement._sap import rank_rows, spearman_squared

CLASS_METRICS = ("lms", "msas", "msgs")
JOINT_METRICS = ("modularity", "dcimig", "mig_sup")


class Statistics(NamedTuple):
    """What the scores read, one row per replicate."""

    information: np.ndarray
    """Nats, bias removed, (n_replicates, n_dims)."""
    plug_in: np.ndarray
    """Nats, bias and all, (n_replicates, n_dims)."""
    entropy: np.ndarray
    """Nats, (n_replicates,)."""
    predictability: np.ndarray
    """Accuracy of one-dimension predictors, (n_replicates, n_dims)."""
    alignment: np.ndarray
    """LMS, MSAS, MSGS, (n_replicates, 3)."""


@dataclass
class Evidence:
    """Statistics of one covariate; ``problem`` says why there are none."""

    covariate: Covariate
    cells: LabeledCells
    confounded: Confounded | None
    problem: str
    confounder_problem: str = ""
    usable: np.ndarray | None = None
    """Classes that count at class level."""
    value: Statistics | None = None
    null: Statistics | None = None
    bootstrap: Statistics | None = None
    ceiling: Statistics | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """Which statistics to compute."""

    predictability: bool
    alignment: bool
    estimator: Estimator = field(default_factory=Estimator)


def gather(codes: CodeBins, covariate: Covariate, confounder: Covariate | None, wanted: Wanted) -> Evidence:
    """Value of one covariate."""
    cells = label_cells(codes, covariate)
    evidence = Evidence(covariate, cells, None, cells.problem)
    if evidence.problem:
        return evidence
    if not covariate.is_numeric:
        sizes = np.bincount(cells.labels).tolist()
        told = columns.tell_small(dict(zip(cells.classes, sizes, strict=True)), "class")
        if told.startswith("not possible"):
            evidence.problem = told
            return evidence
        for count, words in ((1, "one cell"), (2, "two cells"), (3, "three cells")):
            few = [name for name, size in zip(cells.classes, sizes, strict=True) if size == count]
            if few:
                evidence.notes.append(f"class of {words}: {', '.join(few[:3])}{' ...' if len(few) > 3 else ''}")
    if confounder is not None and confounder.name != covariate.name:
        evidence.confounded = label_against_confounder(codes, covariate, confounder)
        evidence.confounder_problem = evidence.confounded.problem
        if not evidence.confounder_problem:
            effective, total = evidence.confounded.effective_cells, evidence.confounded.cells.n_cells
            evidence.notes.append(f"adjusted for {confounder.name}: effective sample size {effective:.0f} of {total}")
    evidence.value = _collect([cells.tables()], evidence, wanted)
    if covariate.is_numeric:
        present = covariate.present
        squared = spearman_squared(codes.values[:, present], covariate.values[present])
        evidence.value = evidence.value._replace(predictability=squared[None])
    if evidence.confounded is not None:
        _read_weighted(evidence, "value", [confounded_tables(evidence.confounded)], wanted)
    return evidence


def add_bootstrap(evidence: Evidence, codes: CodeBins, blocks: Blocks, wanted: Wanted) -> None:
    """Bootstrap replicates; all covariates must see the same ``blocks``."""
    cells = evidence.cells
    of_cell = blocks.index[cells.keep]
    tables = cells.tables(blocks=of_cell, n_blocks=blocks.n_blocks)
    if not wanted.predictability or evidence.covariate.is_numeric:
        tables = _contingency.coarsen(tables, cells.refinement)
    evidence.bootstrap = _collect(_resampling.bootstrap_tables(tables, blocks.weights), evidence, wanted)
    if evidence.covariate.is_numeric and wanted.predictability:
        present = evidence.covariate.present
        squared = _bootstrap_spearman(codes.values[:, present], evidence.covariate.values[present], of_cell, blocks)
        evidence.bootstrap = evidence.bootstrap._replace(predictability=squared)
    pair = evidence.confounded
    if pair is not None and not pair.problem:
        n_joint = len(pair.cells.classes) * pair.n_strata
        joint = _contingency.count_tables(
            pair.cells.bins // pair.cells.refinement,
            pair.joint_labels,
            pair.cells.n_bins // pair.cells.refinement,
            n_joint,
            blocks=blocks.index[pair.cells.keep],
            n_blocks=blocks.n_blocks,
        )
        replicates = _resampling.bootstrap_tables(joint, blocks.weights)
        weighted = (_contingency.weighted_tables(part, pair.n_strata) for part in replicates)
        _read_weighted(evidence, "bootstrap", weighted, wanted)


def add_null(
    evidence: Evidence,
    codes: CodeBins,
    groups: np.ndarray | None,
    n_permutations: int,
    rng: np.random.Generator,
    wanted: Wanted,
) -> None:
    """Statistics under permutation of the covariate."""
    cells, covariate = evidence.cells, evidence.covariate
    evidence.null = _collect(_resampling.permuted_tables(cells, groups, n_permutations, rng), evidence, wanted)
    if covariate.is_numeric and wanted.predictability:
        present = covariate.present
        members = None if groups is None else np.unique(groups[present], return_inverse=True)[1].reshape(-1)
        ranks = rank_rows(codes.values[:, present])
        target = rank_rows(covariate.values[None, present])[0]
        squared = np.empty((n_permutations, len(ranks)))
        for i in range(n_permutations):
            shuffled = _resampling.permute_values(target, members, rng, classes=False)
            shuffled = shuffled - shuffled.mean()
            squared[i] = (ranks @ shuffled) ** 2 / max((shuffled**2).sum(), 1e-300)
        evidence.null = evidence.null._replace(predictability=squared)
    pair = evidence.confounded
    if pair is not None and not pair.problem:
        # Within strata of the confounder: that keeps the weights and leaves nothing but the covariate to explain codes.
        order = np.argsort(pair.strata, kind="stable")
        permuted = (confounded_tables(pair, _permute_within(pair, order, rng)) for _ in range(n_permutations))
        _read_weighted(evidence, "null", permuted, wanted)


def _permute_within(pair: Confounded, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shuffled = np.empty_like(pair.joint_labels)
    within = np.lexsort((rng.random(len(order)), pair.strata))
    shuffled[order] = pair.joint_labels[within]
    return shuffled


def _collect(tables: Iterable[np.ndarray], evidence: Evidence, wanted: Wanted) -> Statistics:
    """Read unweighted tables. A fine table is recognized by its number of bins and merged for information."""
    cells, correct = evidence.cells, wanted.estimator.correct
    parts = []
    for table in tables:
        is_fine = table.shape[-2] == cells.n_bins
        coarse = Tables(_contingency.coarsen(table, cells.refinement) if is_fine else table)
        lead = table.shape[:2]
        accuracy = np.full(lead, np.nan)
        if wanted.predictability and not cells.covariate.is_numeric:
            accuracy = _contingency.one_dimension_accuracy(table)
        alignment = np.full((lead[0], 3), np.nan)
        if wanted.alignment and not cells.covariate.is_numeric:
            alignment = _alignment(coarse, evidence, correct)
        parts.append(Statistics(*read_information(coarse, correct), accuracy, alignment))
    return Statistics(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def read_information(tables: Tables, correct: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Information with and without correction, and entropy of the covariate."""
    plug_in = _contingency.plug_in_information(tables.counts)
    information = _contingency.remove_bias(plug_in, tables) if correct else plug_in
    return information, plug_in, _contingency.class_entropy(tables)


def _alignment(tables: Tables, evidence: Evidence, correct: bool) -> np.ndarray:
    similarity = _contingency.class_information(tables, correct=correct)
    if evidence.usable is None:
        evidence.usable = usable_classes(similarity)
    # A class may be missing from a resampled table; it then has nothing to tell there.
    return alignment_of_similarity(np.nan_to_num(similarity[..., evidence.usable]))


def _read_weighted(evidence: Evidence, view: str, tables: Iterable[Tables], wanted: Wanted) -> None:
    """Replace information and alignment of a view by the weighted ones, NaN where weighting was refused."""
    plain: Statistics = getattr(evidence, view)
    if evidence.confounder_problem:
        blank = {
            name: np.full_like(getattr(plain, name), np.nan) for name in Statistics._fields if name != "predictability"
        }
        setattr(evidence, view, plain._replace(**blank))
        return
    correct, parts, alignments = wanted.estimator.correct, [], []
    for weighted in tables:
        parts.append(read_information(weighted, correct))
        if wanted.alignment and not evidence.covariate.is_numeric:
            alignments.append(_alignment(weighted, evidence, correct))
    information, plug_in, entropy = (np.concatenate(column) for column in zip(*parts, strict=True))
    alignment = np.concatenate(alignments) if alignments else plain.alignment
    normalized = plain._replace(information=information, plug_in=plug_in, entropy=entropy, alignment=alignment)
    setattr(evidence, view, normalized)


def _bootstrap_spearman(values: np.ndarray, target: np.ndarray, of_cell: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Squared correlation of the ranks of all cells in every replicate, from sums over blocks."""
    ranks, aim = rank_rows(values), rank_rows(target[None])[0]
    one_hot_order = np.argsort(of_cell, kind="stable")
    edges = np.searchsorted(of_cell[one_hot_order], np.arange(blocks.n_blocks))

    def block_sums(rows: np.ndarray) -> np.ndarray:
        padded = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows[:, one_hot_order], axis=1)], axis=1)
        ends = np.append(edges[1:], rows.shape[1])
        return blocks.weights @ (padded[:, ends] - padded[:, edges]).T

    n = block_sums(np.ones((1, len(aim))))
    n = np.where(n > 0, n, np.nan)
    mean, mean_aim = block_sums(ranks) / n, block_sums(aim[None]) / n
    covariance = block_sums(ranks * aim) / n - mean * mean_aim
    variance, variance_aim = block_sums(ranks**2) / n - mean**2, block_sums(aim[None] ** 2) / n - mean_aim**2
    product = variance * variance_aim
    return np.where(product > 1e-30, covariance**2 / np.where(product > 1e-30, product, 1.0), 0.0)


def read_scores(
    views: list[Statistics | None], names: list[str], metrics: list[str]
) -> dict[tuple[str, str], np.ndarray]:
    """Scores of one view (value, null, bootstrap or ceiling), an array over replicates per (metric, covariate)."""
    scores: dict[tuple[str, str], np.ndarray] = {}
    for name, view in zip(names, views, strict=True):
        if view is None:
            continue
        entropy = np.where(view.entropy > 0, view.entropy, np.nan)
        if "mig" in metrics:
            scores["mig", name] = np.minimum(top_gap(view.information) / entropy, 1.0)
        if "sap" in metrics:
            scores["sap", name] = top_gap(view.predictability)
        for column, metric in enumerate(CLASS_METRICS):
            if metric in metrics:
                scores[metric, name] = view.alignment[:, column]
    defined = [view for view in views if view is not None and not np.isnan(view.information).all()]
    if len(defined) > 1:
        matrix = np.stack([view.information for view in defined], axis=-1)
        # Where noise has its bias removed, zeros make it look modular.
        plug_in = np.stack([view.plug_in for view in defined], axis=-1)
        entropies = np.stack([view.entropy for view in defined], axis=-1)
        safe = np.where(entropies > 0, entropies, np.nan)[:, None, :]
        joint = {
            "modularity": lambda: modularity_of_matrix(plug_in, weighted=True),
            "dcimig": lambda: dcimig_of_matrix(matrix, entropies),
            "mig_sup": lambda: mig_sup_of_matrix(matrix / safe, weighted=True),
        }
        scores |= {(metric, "all"): joint[metric]() for metric in JOINT_METRICS if metric in metrics}
    return scores


def is_discrete(codes: CodeBins, dimension: int, keep: np.ndarray) -> bool:
    """Whether the values of a dimension are its bins."""
    values = codes.values[dimension, keep]
    return len(np.unique(values)) <= codes.estimator.count(int(keep.sum()))


def refined_bins(values: np.ndarray, estimator: Estimator, *, refine: bool) -> CodeBins:
    """Codes ready to be binned, fine enough for one-dimension predictors where these are wanted."""
    return CodeBins(values, estimator, refinement=_binning.REFINEMENT if refine else 1)
