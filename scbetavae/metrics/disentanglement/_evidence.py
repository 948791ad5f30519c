"""Everything the scores of the information family need, for the value, the null, the bootstrap and the ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from scbetavae._core import columns
from scbetavae.metrics import _binning, _contingency, _resampling
from scbetavae.metrics._checks import Covariate, take_groups
from scbetavae.metrics._contingency import Tables
from scbetavae.metrics._information import CodeBins, Confounded, LabeledCells, label_against_confounder, label_cells
from scbetavae.metrics._resampling import Blocks
from scbetavae.metrics.disentanglement._class_alignment import CLASS_SCORES, alignment_of_similarity, usable_classes
from scbetavae.metrics.disentanglement._dcimig import dcimig_of_matrix
from scbetavae.metrics.disentanglement._mig import top_gap
from scbetavae.metrics.disentanglement._mig_sup import mig_sup_of_matrix
from scbetavae.metrics.disentanglement._modularity import modularity_of_matrix

JOINT_SCORES = ("modularity", "dcimig", "mig_sup")


class Statistics(NamedTuple):
    """What the scores read, one row per replicate."""

    information: np.ndarray  # nats, bias removed, (n_replicates, n_dims)
    plug_in: np.ndarray  # nats, bias and all, (n_replicates, n_dims)
    entropy: np.ndarray  # nats, (n_replicates,)
    alignment: np.ndarray  # LMS, MSAS, MSGS, (n_replicates, 3)
    predictability: np.ndarray  # accuracy of one-dimension predictors, (n_replicates, n_dims)

    def without_information(self) -> Statistics:
        """NaN but for the predictability."""
        return self._replace(**{name: np.full_like(getattr(self, name), np.nan) for name in self._fields[:-1]})


@dataclass(frozen=True)
class Views:
    """One row before it is laid out: values of every view, NaN or empty where there are none."""

    value: float = np.nan
    null: np.ndarray = field(default_factory=lambda: np.zeros(0))
    bootstrap: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ceiling: float = np.nan
    flag: str = ""
    error: float = np.nan  # standard error, instead of ``bootstrap``, with ``n_blocks`` the number of jackknife blocks
    n_blocks: int = 0
    p_value: float | None = None  # instead of the rank among ``null``


@dataclass
class Evidence:
    """Statistics of one covariate, for ``"value"``, ``"null"``, ``"bootstrap"`` and ``"ceiling"``."""

    covariate: Covariate
    codes: CodeBins
    predictability: bool  # whether to compute it
    alignment: bool
    cells: LabeledCells
    problem: str  # why there are none
    confounded: Confounded | None = None
    usable: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))  # classes that count at class level
    views: dict[str, Statistics] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def confounder_problem(self) -> str:
        """Why cells cannot be weighted against the confounder, or an empty string."""
        return "" if self.confounded is None else self.confounded.problem

    @property
    def values(self) -> np.ndarray:
        """Dimensions of the cells that have the covariate, (n_dims, n_cells)."""
        return self.codes.values[:, self.cells.keep]

    @property
    def target(self) -> np.ndarray:
        """The covariate of these cells."""
        return self.covariate.values[self.cells.keep]

    @property
    def best(self) -> int:
        """Dimension with most information."""
        return int(np.nan_to_num(self.views["value"].information[0]).argmax())


def gather(codes: CodeBins, covariate: Covariate, confounder: Covariate | None, metrics: list[str]) -> Evidence:
    """Value of one covariate."""
    cells = label_cells(codes, covariate)
    alignment = not covariate.is_numeric and any(name in CLASS_SCORES for name in metrics)
    evidence = Evidence(covariate, codes, "sap" in metrics, alignment, cells, cells.problem)
    if not evidence.problem and not covariate.is_numeric:
        _note_small_classes(evidence)
    if evidence.problem:
        return evidence
    if confounder is not None and confounder.name != covariate.name:
        pair = evidence.confounded = label_against_confounder(codes, covariate, confounder)
        if not pair.problem:
            effective, total = pair.effective_cells, pair.cells.n_cells
            evidence.notes.append(f"adjusted for {confounder.name}: effective sample size {effective:.0f} of {total}")
    fine = cells.tables()
    if alignment:
        coarse = Tables(_contingency.coarsen(fine, cells.refinement))
        evidence.usable = usable_classes(_contingency.class_information(coarse, correct=True))
    weighted = (pair.tables() for pair in _weighable(evidence))
    evidence.views["value"] = _collect(
        evidence, [fine], weighted, lambda: _binning.spearman_squared(evidence.values, evidence.target)[None]
    )
    return evidence


def _note_small_classes(evidence: Evidence) -> None:
    """Say which classes are small, and whether that rules out a comparison."""
    sizes = dict(zip(evidence.cells.classes, np.bincount(evidence.cells.labels).tolist(), strict=True))
    small = columns.tell_small(sizes, "class")
    evidence.problem = "" if small.is_possible else small.text
    for count, words in ((1, "one cell"), (2, "two cells"), (3, "three cells")):
        few = [name for name, size in sizes.items() if size == count]
        if few:
            evidence.notes.append(f"class of {words}: {', '.join(few[:3])}{' ...' if len(few) > 3 else ''}")


def _weighable(evidence: Evidence) -> list[Confounded]:
    """The pair with the confounder, if cells can be weighted against it."""
    return [evidence.confounded] if evidence.confounded is not None and not evidence.confounder_problem else []


def add_bootstrap(evidence: Evidence, blocks: Blocks) -> None:
    """Bootstrap replicates; all covariates must see the same ``blocks``."""
    cells = evidence.cells
    of_cell = blocks.index[cells.keep]
    tables = cells.tables(blocks=of_cell, n_blocks=blocks.n_blocks)
    if not evidence.predictability or evidence.covariate.is_numeric:
        tables = _contingency.coarsen(tables, cells.refinement)
    weighted = (
        _contingency.weighted_tables(part, pair.n_strata)
        for pair in _weighable(evidence)
        for part in _resampling.bootstrap_tables(
            pair.joint_tables(blocks=blocks.index[pair.cells.keep], n_blocks=blocks.n_blocks), blocks.weights
        )
    )
    drawn = _resampling.bootstrap_tables(tables, blocks.weights)
    evidence.views["bootstrap"] = _collect(
        evidence, drawn, weighted, lambda: _bootstrap_spearman(evidence.values, evidence.target, of_cell, blocks)
    )


def add_null(evidence: Evidence, groups: np.ndarray | None, n_permutations: int, rng: np.random.Generator) -> None:
    """Statistics under permutation of the covariate; against a confounder within its strata, which keeps the weights."""
    cells = evidence.cells
    plain = _resampling.permuted_tables(cells, groups, n_permutations, rng)
    weighted = (pair.tables(_permute_within(pair, rng)) for pair in _weighable(evidence) for _ in range(n_permutations))

    def spearman() -> np.ndarray:
        members = take_groups(groups, cells.keep)
        ranks = _binning.rank_rows(evidence.values)
        target = _binning.rank_rows(evidence.target[None])[0]
        squared = np.empty((n_permutations, len(ranks)))
        for i in range(n_permutations):
            shuffled = _resampling.permute_values(target, members, rng, classes=False)
            shuffled = shuffled - shuffled.mean()
            squared[i] = (ranks @ shuffled) ** 2 / max((shuffled**2).sum(), 1e-300)
        return squared

    evidence.views["null"] = _collect(evidence, plain, weighted, spearman)


def _permute_within(pair: Confounded, rng: np.random.Generator) -> np.ndarray:
    """Joint labels, permuted within strata of the confounder."""
    order = np.argsort(pair.strata, kind="stable")
    shuffled = np.empty_like(pair.joint_labels)
    shuffled[order] = pair.joint_labels[np.lexsort((rng.random(len(order)), pair.strata))]
    return shuffled


def _collect(
    evidence: Evidence, plain: Iterable[np.ndarray], weighted: Iterable[Tables], spearman: Callable[[], np.ndarray]
) -> Statistics:
    """Read plain tables, fine or coarse; against a confounder information and alignment are those of the weighted ones.

    The predictability of a numeric covariate is the squared correlation of ranks.
    """
    cells, parts, accuracies = evidence.cells, [], []
    by_tables = evidence.predictability and not cells.covariate.is_numeric
    for table in plain:
        accuracies.append(_contingency.one_dimension_accuracy(table) if by_tables else np.full(table.shape[:2], np.nan))
        is_fine = table.shape[-2] == cells.n_bins
        coarse = _contingency.coarsen(table, cells.refinement) if is_fine else table
        parts.append(read_tables(Tables(coarse), evidence))
    by_ranks = evidence.predictability and cells.covariate.is_numeric
    predictability = spearman() if by_ranks else np.concatenate(accuracies)
    if _weighable(evidence):
        parts = [read_tables(tables, evidence) for tables in weighted]
    information, plug_in, entropy, alignment = map(np.concatenate, zip(*parts, strict=True))
    statistics = Statistics(information, plug_in, entropy, alignment, predictability)
    return statistics.without_information() if evidence.confounder_problem else statistics


def read_tables(tables: Tables, evidence: Evidence) -> tuple[np.ndarray, ...]:
    """Information with and without correction, entropy of the covariate, and alignment."""
    plug_in = _contingency.plug_in_information(tables.counts)
    alignment = np.full((len(plug_in), 3), np.nan)
    if evidence.alignment:
        # A class may be missing from a resampled table; it then has no information there.
        similarity = _contingency.class_information(tables, correct=True)[..., evidence.usable]
        alignment = alignment_of_similarity(np.nan_to_num(similarity))
    return _contingency.remove_bias(plug_in, tables), plug_in, _contingency.class_entropy(tables), alignment


def _bootstrap_spearman(values: np.ndarray, target: np.ndarray, of_cell: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Squared correlation of the ranks of all cells in every replicate, from sums over blocks."""
    ranks, aim = _binning.rank_rows(values), _binning.rank_rows(target[None])[0]
    order = np.argsort(of_cell, kind="stable")
    edges = np.searchsorted(of_cell[order], np.arange(blocks.n_blocks))

    def block_sums(rows: np.ndarray) -> np.ndarray:
        padded = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows[:, order], axis=1)], axis=1)
        ends = np.append(edges[1:], rows.shape[1])
        return blocks.weights @ (padded[:, ends] - padded[:, edges]).T

    n = block_sums(np.ones((1, len(aim))))
    n = np.where(n > 0, n, np.nan)
    mean, mean_aim = block_sums(ranks) / n, block_sums(aim[None]) / n
    covariance = block_sums(ranks * aim) / n - mean * mean_aim
    variance, variance_aim = block_sums(ranks**2) / n - mean**2, block_sums(aim[None] ** 2) / n - mean_aim**2
    product = variance * variance_aim
    return np.where(product > 1e-30, covariance**2 / np.where(product > 1e-30, product, 1.0), 0.0)


def read_scores(evidences: list[Evidence], view: str, metrics: list[str]) -> dict[tuple[str, str], np.ndarray]:
    """Scores of one view, an array over replicates per (metric, covariate)."""
    scores: dict[tuple[str, str], np.ndarray] = {}
    views = {evidence.covariate.name: evidence.views[view] for evidence in evidences if view in evidence.views}
    for name, statistics in views.items():
        entropy = np.where(statistics.entropy > 0, statistics.entropy, np.nan)
        scores["mig", name] = np.minimum(top_gap(statistics.information) / entropy, 1.0)
        scores["sap", name] = top_gap(statistics.predictability)
        scores |= {(metric, name): statistics.alignment[:, i] for i, metric in enumerate(CLASS_SCORES)}
    defined = [statistics for statistics in views.values() if not np.isnan(statistics.information).all()]
    if len(defined) > 1:
        matrix = np.stack([statistics.information for statistics in defined], axis=-1)
        # Where noise has its bias removed, zeros make it look modular.
        plug_in = np.stack([statistics.plug_in for statistics in defined], axis=-1)
        entropies = np.stack([statistics.entropy for statistics in defined], axis=-1)
        safe = np.where(entropies > 0, entropies, np.nan)[:, None, :]
        scores["modularity", "all"] = modularity_of_matrix(plug_in, weighted=True)
        scores["dcimig", "all"] = dcimig_of_matrix(matrix, entropies)
        scores["mig_sup", "all"] = mig_sup_of_matrix(matrix / safe, weighted=True)
    return {key: score for key, score in scores.items() if key[0] in metrics}
