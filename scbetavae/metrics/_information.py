"""From an embedding and covariates to contingency tables and the matrix of mutual information."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_choice, check_whole_number
from scbetavae.metrics import _binning, _contingency
from scbetavae.metrics._checks import Covariate, check_column, check_inputs, renumber
from scbetavae.metrics._contingency import Tables

MINIMUM_EFFECTIVE_CELLS, MINIMUM_EFFECTIVE_SHARE = 200, 0.1
"""Weighting against a confounder is refused below the larger of this many cells and this share of the cells."""

MAXIMUM_MISSING_OVERLAP = 0.05
"""... and where pairs of classes without any cell would carry more than this share under independence."""


@dataclass(frozen=True)
class Estimator:
    """How dimensions are binned, and whether the bias of the plug-in information is removed."""

    binning: str = "quantile"
    n_bins: int | None = None
    correction: str | None = "miller_madow"

    def __post_init__(self) -> None:
        check_choice(self.binning, ("quantile", "width"), "binning")
        check_choice(self.correction, ("miller_madow", None), "correction")
        if self.n_bins is not None:
            check_whole_number(self.n_bins, "n_bins", 2)

    def count(self, n_cells: int) -> int:
        if self.n_bins is not None:
            return self.n_bins
        return 20 if self.binning == "width" else _binning.default_bin_count(n_cells)

    def classes(self, covariate: Covariate, keep: np.ndarray) -> np.ndarray:
        """Classes of some cells, numbered without gaps; a numeric covariate is binned."""
        values = covariate.values[keep]
        if not covariate.is_numeric:
            return renumber(values)
        n_bins = self.count(len(values))
        if self.binning == "width":
            return renumber(_binning.width_bins(values[None], n_bins)[0])
        return _binning.bin_covariate(values, n_bins)


@dataclass
class CodeBins:
    """Active dimensions, sorted once, binned once for every set of labeled cells."""

    values: np.ndarray  # shape (n_dims, n_cells)
    estimator: Estimator = field(default_factory=Estimator)
    refinement: int = 1
    _order: np.ndarray | None = None
    _binned: dict[bytes, np.ndarray] = field(default_factory=dict)

    def bins(self, keep: np.ndarray) -> np.ndarray:
        """Fine bins of the kept cells, (n_dims, n_kept)."""
        key = np.packbits(keep).tobytes()
        if key in self._binned:
            return self._binned[key]
        values = self.values if keep.all() else self.values[:, keep]
        n_bins = self.estimator.count(values.shape[1])
        if self.estimator.binning == "width":
            bins = _binning.width_bins(values, n_bins) * self.refinement
        else:
            self._order = np.argsort(self.values, axis=1) if self._order is None else self._order
            order = _binning.restrict_order(self._order, keep)
            bins = _binning.quantile_bins(values, n_bins, refinement=self.refinement, order=order)
        self._binned = {key: bins}  # the last set only: the bins of 100 000 cells are large
        return bins


@dataclass(frozen=True)
class LabeledCells:
    """One covariate on the cells that have it: their bins and classes."""

    covariate: Covariate
    keep: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    bins: np.ndarray
    n_bins: int  # fine bins
    refinement: int = 1

    @property
    def n_cells(self) -> int:
        return len(self.labels)

    @property
    def problem(self) -> str:
        """Why no score is defined, or an empty string."""
        if self.n_cells < 2:
            return f"{self.n_cells} labeled cells" if self.n_cells != 1 else "1 labeled cell"
        return "one class" if len(self.classes) < 2 else ""

    def tables(
        self, labels: np.ndarray | None = None, *, blocks: np.ndarray | None = None, n_blocks: int = 1
    ) -> np.ndarray:
        """Fine tables (n_blocks, n_dims, n_bins, n_classes), for other labels if given."""
        labels, n_classes = self.labels if labels is None else labels, len(self.classes)
        return _contingency.count_tables(self.bins, labels, self.n_bins, n_classes, blocks=blocks, n_blocks=n_blocks)


def label_cells(codes: CodeBins, covariate: Covariate, keep: np.ndarray | None = None) -> LabeledCells:
    """Classes of a covariate and bins of the dimensions, on the cells that have the label (and are in ``keep``)."""
    if codes.estimator.binning == "width" and covariate.integer:
        covariate = covariate.as_classes()
    present = covariate.present if keep is None else covariate.present & keep
    labels = codes.estimator.classes(covariate, present)
    if covariate.is_numeric:
        classes = tuple(f"bin {i}" for i in range(labels.max(initial=-1) + 1))
    else:
        classes = tuple(covariate.classes[i] for i in np.unique(covariate.values[present]))
    fine = codes.estimator.count(int(present.sum())) * codes.refinement
    return LabeledCells(covariate, present, labels, classes, codes.bins(present), fine, codes.refinement)


@dataclass(frozen=True)
class Confounded:
    """The joint class of (covariate, confounder) of the cells that have both."""

    cells: LabeledCells
    joint_labels: np.ndarray
    strata: np.ndarray
    n_strata: int
    effective_cells: float
    problem: str

    def tables(self, joint_labels: np.ndarray | None = None) -> Tables:
        """Weighted coarse tables of all cells, (1, n_dims, n_bins, n_classes)."""
        return _contingency.weighted_tables(self.joint_tables(joint_labels), self.n_strata)

    def joint_tables(
        self, joint_labels: np.ndarray | None = None, *, blocks: np.ndarray | None = None, n_blocks: int = 1
    ) -> np.ndarray:
        """Coarse tables (n_blocks, n_dims, n_bins, n_classes * n_strata)."""
        cells, joint = self.cells, self.joint_labels if joint_labels is None else joint_labels
        n_joint, n_bins = len(cells.classes) * self.n_strata, cells.n_bins // cells.refinement
        bins = cells.bins // cells.refinement
        return _contingency.count_tables(bins, joint, n_bins, n_joint, blocks=blocks, n_blocks=n_blocks)


def label_against_confounder(codes: CodeBins, covariate: Covariate, confounder: Covariate) -> Confounded:
    """Pair a covariate with the confounder it is weighted against, and judge the overlap."""
    cells = label_cells(codes, covariate, keep=confounder.present)
    strata = codes.estimator.classes(confounder, cells.keep)
    n_strata = int(strata.max(initial=0)) + 1
    joint = cells.labels * n_strata + strata
    pairs = np.bincount(joint, minlength=max(len(cells.classes), 1) * n_strata).reshape(-1, n_strata).astype(float)
    if cells.problem:
        return Confounded(cells, joint, strata, n_strata, 0.0, cells.problem)
    weights, total = _contingency.overlap_weights(pairs), pairs.sum()
    effective = float((weights * pairs).sum() ** 2 / (weights**2 * pairs).sum())
    missing = (np.outer(pairs.sum(axis=1), pairs.sum(axis=0)) / total**2)[pairs == 0].sum()
    needed, problem = max(MINIMUM_EFFECTIVE_CELLS, MINIMUM_EFFECTIVE_SHARE * total), ""
    if missing > MAXIMUM_MISSING_OVERLAP:
        problem = f"not adjusted for {confounder.name}: pairs without cells would hold {missing:.0%} of them"
    elif effective < needed:
        problem = f"not adjusted for {confounder.name}: effective sample size {effective:.0f} is below {needed:.0f}"
    return Confounded(cells, joint, strata, n_strata, effective, problem)


@dataclass(frozen=True)
class Information:
    """Mutual information of the active dimensions with every covariate, in nats."""

    matrix: np.ndarray  # shape (n_active, n_covariates)
    entropies: np.ndarray  # entropy of every covariate, shape (n_covariates,); NaN where it is not defined
    names: list[str]

    @property
    def scaled(self) -> np.ndarray:
        """Information over entropy, NaN where the entropy is 0."""
        return self.matrix / np.where(self.entropies > 0, self.entropies, np.nan)

    def usable(self) -> Information:
        """Covariates with two classes."""
        keep = self.entropies > 0
        names = [name for name, kept in zip(self.names, keep, strict=True) if kept]
        return Information(self.matrix[:, keep], self.entropies[keep], names)


def information(
    codes: ArrayLike,
    factors: pd.DataFrame,
    estimator: Estimator,
    *,
    active: ArrayLike | None = None,
    confounder: pd.Series | str | None = None,
) -> Information:
    """Mutual information of dimensions and covariates, weighted against a confounder where one is named."""
    inputs = check_inputs(codes, factors, active)
    covariates, binned = inputs.covariates, CodeBins(inputs.values, estimator)
    against = find_confounder(covariates, confounder, len(inputs.codes))
    matrix = np.full((len(binned.values), len(covariates)), np.nan)
    entropies = np.full(len(covariates), np.nan)
    for column, covariate in enumerate(covariates):
        if against is None or covariate.name == against.name:
            pair = cells = label_cells(binned, covariate)
        else:
            pair = label_against_confounder(binned, covariate, against)
            cells = pair.cells
        if pair.problem == "one class":
            entropies[column] = matrix[:, column] = 0.0
        elif not pair.problem and len(matrix):
            tables = pair.tables()
            tables = tables if isinstance(tables, Tables) else Tables(tables)
            entropies[column] = _contingency.class_entropy(tables)[0]
            matrix[:, column] = _contingency.mutual_information(tables, correct=estimator.correction is not None)[0]
        elif not pair.problem:
            entropies[column] = _contingency.entropy(np.bincount(cells.labels).astype(float))
    return Information(matrix, entropies, [covariate.name for covariate in covariates])


def find_confounder(covariates: list[Covariate], confounder: pd.Series | str | None, n_cells: int) -> Covariate | None:
    """The covariate to weight against: a column of ``factors`` by name, or a column of its own."""
    if confounder is None:
        return None
    if isinstance(confounder, str):
        check_choice(confounder, [c.name for c in covariates], "confounder")
        return next(c for c in covariates if c.name == confounder)
    return check_column(confounder, n_cells, "confounder")
