"""What is dimension 3, and how do the covariates relate to each other? One table for each question."""

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from scbetavae.metrics import _contingency
from scbetavae.metrics._binning import rank_rows
from scbetavae.metrics._checks import Covariate, check_factors, check_inputs, renumber
from scbetavae.metrics._contingency import Tables
from scbetavae.metrics._information import CodeBins, LabeledCells, label_cells

_MEASURED = ("mutual_information", "normalized", "p_value", "direction")


def dimension_covariate_table(
    codes: ArrayLike, factors: pd.DataFrame, *, active: ArrayLike | None = None
) -> pd.DataFrame:
    """Every dimension against every covariate, and against every class of the categorical ones.

    Arguments and errors as in :func:`mig`.

    Returns
    -------
    Long DataFrame, one row per (dimension, covariate, class), NaN where undefined (inactive, one class, a class of one cell):

    ``dimension``, ``covariate``, ``class``, ``active``
        The class is empty in the row for the covariate as a whole; ``active`` says whether the dimension took part.
    ``mutual_information``, ``normalized``
        Nats, class against rest or covariate as a whole, bias removed :cite:p:`Chen2018`; and the same over the entropy, in
        [0, 1] :cite:p:`Moinfar2024`.
    ``p_value``, ``p_adjusted``
        Of the G test of independence over cells, and corrected over the table (Benjamini-Hochberg). Cells count as
        independent: with few donors read these with care.
    ``direction``
        In [-1, 1]: is the class at high or low values (rank-biserial correlation)? Spearman correlation for numeric covariates,
        NaN for a categorical covariate as a whole.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = np.where(rng.random(300) < 0.5, "case", "control")
    >>> codes = np.column_stack([rng.normal(size=300), (label == "case") + 0.1 * rng.normal(size=300)])
    >>> table = dimension_covariate_table(codes, pd.DataFrame({"group": label}))
    >>> table[(table["dimension"] == 1) & (table["class"] == "case")]["direction"].round(2).item()
    1.0
    """
    inputs = check_inputs(codes, factors, active)
    binned, n_dims = CodeBins(inputs.values), len(inputs.active)
    parts = []
    for covariate in inputs.covariates:
        cells = label_cells(binned, covariate)
        for label, measured in _measure(cells, binned.values[:, covariate.present]):
            full = np.full((4, n_dims), np.nan)
            full[:, inputs.active] = measured
            names = {"dimension": np.arange(n_dims), "covariate": covariate.name, "class": label}
            columns = dict(zip(_MEASURED, full, strict=True))
            parts.append(pd.DataFrame(names | columns | {"active": inputs.active}))
    table = pd.concat(parts, ignore_index=True)
    known = table["p_value"].notna().to_numpy()
    table.insert(6, "p_adjusted", np.nan)
    if known.any():
        table.loc[known, "p_adjusted"] = stats.false_discovery_control(table.loc[known, "p_value"])
    return table.sort_values("dimension", kind="stable", ignore_index=True)


def _measure(cells: LabeledCells, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Information, its scaled value, p-value and direction (4, n_active), of the covariate (named ``""``) and of each class."""
    is_numeric, blank = cells.covariate.is_numeric, np.full(len(values), np.nan)
    if cells.problem or not len(values):
        return [(label, np.stack([blank] * 4)) for label in ("", *(() if is_numeric else cells.classes))]
    tables, ranks = Tables(cells.tables()), rank_rows(values)
    counts = tables.counts[0]
    information = np.maximum(_contingency.mutual_information(tables, correct=True)[0], 0.0)
    p_values = _g_test(_contingency.mutual_information(tables, correct=False)[0], counts)
    target = cells.covariate.values[cells.keep]
    whole = ranks @ rank_rows(target[None])[0] if is_numeric else blank
    scaled = information / _contingency.class_entropy(tables)[0]
    measured = [("", np.stack([information, scaled, p_values, whole]))]
    if is_numeric:
        return measured
    normalized = np.maximum(_contingency.class_information(tables, correct=True)[0], 0.0)
    pairs = _contingency.against_rest(counts)
    of_class = _contingency.plug_in_information(pairs)
    p_values = _g_test(np.where(np.isnan(normalized), np.nan, of_class), pairs)
    information = normalized * _contingency.entropy(pairs.sum(axis=-1))
    for c, label in enumerate(cells.classes):
        member = (cells.labels == c).astype(float)
        direction = _rank_biserial(ranks, member) if member.sum() > 1 else blank
        measured.append((label, np.stack([information[:, c], normalized[:, c], p_values[:, c], direction])))
    return measured


def _rank_biserial(ranks: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Difference of mean mid-ranks of a class and the rest, scaled to [-1, 1]; ``ranks`` have unit length."""
    n, size = len(member), member.sum()
    difference = ranks @ member / size - ranks @ (1 - member) / (n - size)
    # rank_rows divided by the length of the mid-ranks, which without ties is sqrt(n (n^2 - 1) / 12).
    largest = np.abs(ranks).max(axis=1)
    unit = np.where(largest > 0, np.sqrt(12 / max(n * (n**2 - 1), 1)), 1.0)
    return np.clip(2 * difference / (unit * n), -1, 1)


def _g_test(information: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """P-value of plug-in information (...,) given its tables (..., n_bins, n_classes)."""
    rows = np.count_nonzero(tables.sum(axis=-1), axis=-1) - 1
    columns = np.count_nonzero(tables.sum(axis=-2), axis=-1) - 1
    freedom = rows * columns
    statistic = 2 * tables.sum(axis=(-1, -2)) * information
    p_values = stats.chi2.sf(statistic, np.maximum(freedom, 1))
    return np.where(freedom > 0, p_values, np.where(np.isnan(information), np.nan, 1.0))


def covariate_association(factors: pd.DataFrame) -> pd.DataFrame:
    r"""Association of every pair of covariates, with nesting and aliases.

    Confounded covariates cap every score: two 4-class covariates that agree with probability 0.8 cap the mutual
    information gap at 0.43. Look at this table before reading a score.

    Two categorical covariates are compared by the bias-corrected Cramer's V :cite:p:`Bergsma2013`, a categorical and a numeric
    one by the bias-corrected correlation ratio (the square root of :math:`\epsilon^2`) of the ranks, two numeric ones by the
    absolute Spearman correlation, on the cells that have both. ``factors`` is as in :func:`mig`.

    Returns
    -------
    DataFrame, one row per pair: ``first``, ``second``, ``measure``, ``association`` in [0, 1] (NaN where one of the two is
    constant), ``normalized_information`` (mutual information over the smaller entropy; categorical pairs only), ``relation``
    (``"alias"``: one determines the other both ways; ``"first within second"`` or ``"second within first"``: nested;
    otherwise empty), ``n_cells``, ``flag``.

    Examples
    --------
    >>> donor = pd.Series(np.arange(400) % 4)
    >>> factors = pd.DataFrame({"donor": donor.astype(str), "sex": np.where(donor < 2, "f", "m")})
    >>> covariate_association(factors)["relation"].item()
    'first within second'
    """
    covariates = check_factors(factors, len(factors))
    rows = [_relate(first, second) for first, second in combinations(covariates, 2)]
    columns = ["first", "second", "measure", "association", "normalized_information", "relation", "n_cells", "flag"]
    types = {"association": float, "normalized_information": float, "n_cells": np.int64}
    return pd.DataFrame(rows, columns=columns).astype(types)


def _relate(first: Covariate, second: Covariate) -> tuple[str, str, str, float, float, str, int, str]:
    """A row of the table."""
    both = first.present & second.present
    n_cells = int(both.sum())
    numeric = (first.is_numeric, second.is_numeric)
    measure = "spearman" if all(numeric) else "correlation_ratio" if any(numeric) else "cramers_v"
    columns = [c.values[both] for c in (first, second)]
    if any(len(np.unique(column)) < 2 for column in columns):
        flag = "one class" if n_cells > 1 else "fewer than two cells have both"
        return first.name, second.name, measure, np.nan, np.nan, "", n_cells, flag
    relation, information = "", np.nan
    if all(numeric):
        ranks = rank_rows(np.stack(columns))
        association = abs(float(ranks[0] @ ranks[1]))
        relation = "alias" if association > 1 - 1e-9 else ""
    elif any(numeric):
        labels, values = columns if second.is_numeric else columns[::-1]
        association = _correlation_ratio(labels, rank_rows(values[None])[0])
    else:
        codes = [renumber(column) for column in columns]
        table = np.zeros([of_column.max() + 1 for of_column in codes])
        np.add.at(table, tuple(codes), 1)
        smaller = min(_contingency.entropy(table.sum(axis=axis)) for axis in (0, 1))
        information = _contingency.mutual_information(Tables(table[None]), correct=True)[0]
        association, information = _cramers_v(table), float(np.clip(information / smaller, 0.0, 1.0))
        in_one_column, in_one_row = ((np.count_nonzero(table, axis=axis) == 1).all() for axis in (1, 0))
        relation = "first within second" if in_one_column else "second within first" if in_one_row else ""
        relation = "alias" if in_one_column and in_one_row else relation
    return first.name, second.name, measure, min(association, 1.0), information, relation, n_cells, ""


def _cramers_v(table: np.ndarray) -> float:
    n, (rows, columns) = table.sum(), table.shape
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi = ((table - expected) ** 2 / expected).sum() / n
    if n < 2:
        return float("nan")
    corrected = max(phi - (rows - 1) * (columns - 1) / (n - 1), 0.0)
    rows, columns = rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)
    smaller = min(rows, columns) - 1
    return float(np.sqrt(corrected / smaller)) if smaller > 1e-12 else float("nan")


def _correlation_ratio(labels: np.ndarray, ranks: np.ndarray) -> float:
    index = renumber(labels)
    size = np.bincount(index)
    n, n_classes = len(ranks), len(size)
    if n <= n_classes:
        return float("nan")
    between = (np.bincount(index, weights=ranks) ** 2 / size).sum()
    within = 1.0 - between  # ranks have mean 0 and unit length
    return float(np.sqrt(np.clip(1 - within * (n - 1) / (n - n_classes), 0.0, 1.0)))
