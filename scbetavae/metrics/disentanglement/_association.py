"""How the covariates relate to each other."""

from itertools import combinations

import numpy as np
import pandas as pd

from scbetavae.metrics import _contingency
from scbetavae.metrics._binning import rank_rows
from scbetavae.metrics._checks import Covariate, check_factors, renumber
from scbetavae.metrics._contingency import Tables


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
        association, information = _cramers_v(table), _normalized_information(table)
        relation = _nesting(table)
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


def _normalized_information(table: np.ndarray) -> float:
    information = _contingency.mutual_information(Tables(table[None]), correct=True)[0]
    smaller = min(_contingency.entropy(table.sum(axis=axis)) for axis in (0, 1))
    return float(np.clip(information / smaller, 0.0, 1.0))


def _nesting(table: np.ndarray) -> str:
    in_one_column = (np.count_nonzero(table, axis=1) == 1).all()
    in_one_row = (np.count_nonzero(table, axis=0) == 1).all()
    if in_one_column and in_one_row:
        return "alias"
    return "first within second" if in_one_column else "second within first" if in_one_row else ""


def _correlation_ratio(labels: np.ndarray, ranks: np.ndarray) -> float:
    index = renumber(labels)
    size = np.bincount(index)
    n, n_classes = len(ranks), len(size)
    if n <= n_classes:
        return float("nan")
    between = (np.bincount(index, weights=ranks) ** 2 / size).sum()
    within = 1.0 - between  # ranks have mean 0 and unit length
    return float(np.sqrt(np.clip(1 - within * (n - 1) / (n - n_classes), 0.0, 1.0)))
