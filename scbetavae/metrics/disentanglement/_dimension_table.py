"""What is dimension 3? Every dimension against every covariate and class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from scbetavae.metrics import _contingency
from scbetavae.metrics._active import resolve_active
from scbetavae.metrics._checks import check_codes, check_factors
from scbetavae.metrics._contingency import Tables
from scbetavae.metrics._information import CodeBins, Estimator, LabeledCells, label_cells
from scbetavae.metrics.disentanglement._sap import rank_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

COLUMNS = (
    "dimension",
    "covariate",
    "class",
    "mutual_information",
    "normalized",
    "p_value",
    "p_adjusted",
    "direction",
    "active",
)


def dimension_covariate_table(
    codes: ArrayLike, factors: pd.DataFrame, *, active: ArrayLike | None = None
) -> pd.DataFrame:
    r"""Every dimension against every covariate, and against every class of the categorical ones.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims).
    factors
        Covariates, one row per cell.
    active
        Boolean mask of the dimensions that take part, by default `active_dimensions`. The others have NaN.

    Returns
    -------
    Long DataFrame, a row per (dimension, covariate, class):

    ``dimension``, ``covariate``, ``class``
        The class is empty in the row for the covariate as a whole.
    ``mutual_information``
        Nats, class against rest or covariate as a whole, bias removed.
    ``normalized``
        The same over the entropy, in [0, 1].
    ``p_value``, ``p_adjusted``
        Of the G test of independence over cells, and corrected over the table (Benjamini-Hochberg). Cells count as
        independent: with few donors read these with care.
    ``direction``
        In [-1, 1]: does the class sit at high or low codes (rank-biserial correlation)? Spearman correlation for
        numeric covariates, NaN for a categorical covariate as a whole.
    ``active``
        Whether the dimension took part.

    Undefined entries (one class, a class of one cell) are NaN.

    Raises
    ------
    ValueError
        If shapes do not agree or codes are not finite.

    References
    ----------
    :cite:p:`Chen2018,Moinfar2024`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import dimension_covariate_table
    >>> rng = np.random.default_rng(0)
    >>> label = np.where(rng.random(300) < 0.5, "case", "control")
    >>> codes = np.column_stack([rng.normal(size=300), (label == "case") + 0.1 * rng.normal(size=300)])
    >>> table = dimension_covariate_table(codes, pd.DataFrame({"group": label}))
    >>> row = table[(table["dimension"] == 1) & (table["class"] == "case")]
    >>> row["direction"].round(2).item()
    1.0
    """
    array = check_codes(codes)
    mask = resolve_active(array, active)
    covariates = check_factors(factors, len(array))
    binned = CodeBins(np.ascontiguousarray(array[:, mask].T), Estimator())
    parts = []
    for covariate in covariates:
        cells = label_cells(binned, covariate)
        values = binned.values[:, covariate.present]
        parts += _rows_of(cells, values, covariate.values[covariate.present] if covariate.is_numeric else None, mask)
    table = pd.concat(parts, ignore_index=True)
    table["p_adjusted"] = _benjamini_hochberg(table["p_value"].to_numpy())
    order = table["dimension"].argsort(kind="stable")
    return table.iloc[order].reset_index(drop=True)[list(COLUMNS)]


def _rows_of(
    cells: LabeledCells, values: np.ndarray, target: np.ndarray | None, mask: np.ndarray
) -> list[pd.DataFrame]:
    """One frame for the covariate as a whole, one for each class."""
    name = cells.covariate.name
    if cells.problem or not mask.any():
        blank = np.full(len(values), np.nan)
        names = () if cells.covariate.is_numeric else cells.classes
        return [_frame(mask, name, label, blank, blank, blank, blank) for label in ("", *names)]
    tables = Tables(cells.tables())
    information = np.maximum(_contingency.mutual_information(tables, correct=True)[0], 0.0)
    p_values = _g_test(_contingency.mutual_information(tables, correct=False)[0], tables.counts[0])
    entropy = _contingency.class_entropy(tables)[0]
    ranks = rank_rows(values)
    blank = np.full(len(values), np.nan)
    if target is not None:
        direction = ranks @ rank_rows(target[None])[0]
        return [_frame(mask, name, "", information, information / entropy, p_values, direction)]
    frames = [_frame(mask, name, "", information, information / entropy, p_values, blank)]
    frames += _class_frames(cells, tables, ranks, mask)
    return frames


def _class_frames(cells: LabeledCells, tables: Tables, ranks: np.ndarray, mask: np.ndarray) -> list[pd.DataFrame]:
    counts = tables.counts[0]
    normalized = np.maximum(_contingency.class_information(tables, correct=True)[0], 0.0)
    plug_in = _contingency.class_information(tables, correct=False)[0]
    sizes = np.bincount(cells.labels, minlength=len(cells.classes))
    frames = []
    for c, label in enumerate(cells.classes):
        entropy = float(_contingency.entropy(np.array([sizes[c], len(cells.labels) - sizes[c]], dtype=float)))
        against_rest = np.stack([counts[..., c], counts.sum(axis=-1) - counts[..., c]], axis=-1)
        p_values = _g_test(plug_in[:, c] * entropy, against_rest)
        member = (cells.labels == c).astype(float)
        direction = _rank_biserial(ranks, member) if sizes[c] > 1 else np.full(len(ranks), np.nan)
        frames.append(
            _frame(mask, cells.covariate.name, label, normalized[:, c] * entropy, normalized[:, c], p_values, direction)
        )
    return frames


def _rank_biserial(ranks: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Difference of mean mid-ranks of a class and the rest, scaled to [-1, 1]; ``ranks`` have unit length."""
    n, size = len(member), member.sum()
    difference = ranks @ member / size - ranks @ (1 - member) / (n - size)
    # rank_rows divided by the length of the mid-ranks, which without ties is sqrt(n (n^2 - 1) / 12).
    largest = np.abs(ranks).max(axis=1)
    unit = np.where(largest > 0, np.sqrt(12 / max(n * (n**2 - 1), 1)), 1.0)
    return np.clip(2 * difference / (unit * n), -1, 1)


def _g_test(information: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """P-value of plug-in information (n_dims,) given its tables (n_dims, n_bins, n_classes)."""
    rows = np.count_nonzero(tables.sum(axis=-1), axis=-1) - 1
    columns = np.count_nonzero(tables.sum(axis=-2), axis=-1) - 1
    freedom = rows * columns
    statistic = 2 * tables.sum(axis=(-1, -2)) * information
    p_values = stats.chi2.sf(statistic, np.maximum(freedom, 1))
    return np.where(freedom > 0, p_values, np.where(np.isnan(information), np.nan, 1.0))


def _frame(mask: np.ndarray, covariate: str, label: str, *columns: np.ndarray) -> pd.DataFrame:
    full = np.full((len(columns), len(mask)), np.nan)
    full[:, mask] = np.stack(columns)
    data = {"dimension": np.arange(len(mask)), "covariate": covariate, "class": label}
    data |= dict(zip(("mutual_information", "normalized", "p_value", "direction"), full, strict=True))
    return pd.DataFrame(data | {"active": mask})


def _benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(p_values)
    adjusted = np.full(len(p_values), np.nan)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p_values[known])
    return adjusted
