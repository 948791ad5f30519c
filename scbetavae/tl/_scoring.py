"""From one embedding and its covariates to tables."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from scbetavae import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from scbetavae.tl._inputs import ScoredColumns

_logger = logging.getLogger(__name__)

TOTAL_CORRELATION = "gaussian_total_correlation"


class Settings(NamedTuple):
    """How to resample."""

    n_permutations: int
    n_bootstrap: int
    seed: int


def resolve_names(names: str | Iterable[str] | None, *, with_variances: bool) -> list[str]:
    """Names of scores, checked; by default those of `score_frame` and, with posterior variances, total correlation.

    Raises
    ------
    ValueError
        If a name is unknown (the nearest is named).
    """
    if names is None:
        return [*metrics.score_names(), *([TOTAL_CORRELATION] if with_variances else [])]
    names = [names] if isinstance(names, str) else list(names)
    without = [name for name in names if name != TOTAL_CORRELATION]
    resolved = metrics.score_names(without) if without or not names else []
    return resolved + ([TOTAL_CORRELATION] if len(without) < len(names) else [])


def resolve_mask(codes: np.ndarray, active: ArrayLike | None, kl: ArrayLike | None) -> np.ndarray:
    """Mask of the dimensions that take part: the one that is given, or by spread and, where it is known, divergence.

    Raises
    ------
    ValueError
        If both are given, or a shape or type is wrong.
    """
    if active is None:
        return metrics.active_dimensions(codes, kl=kl)
    if kl is not None:
        msg = "active and kl are both given: pass the mask, or the divergences to derive it from."
        raise ValueError(msg)
    mask = np.asarray(active)
    if mask.dtype != bool or mask.shape != (codes.shape[1],):
        msg = (
            f"active must be a boolean mask with a value for each of the {codes.shape[1]} dimensions, "
            f"but it has dtype {mask.dtype} and shape {mask.shape}."
        )
        raise ValueError(msg)
    return mask


def score_codes(
    codes: np.ndarray,
    columns: ScoredColumns,
    names: list[str],
    settings: Settings,
    active: np.ndarray,
    variances: ArrayLike | None = None,
) -> pd.DataFrame:
    """Tidy frame of all scores that were asked for."""
    frames = []
    labeled = [name for name in names if name != TOTAL_CORRELATION]
    if len(labeled) < len(names):  # first, because it is quick and may refuse the variances
        frames.append(_total_correlation_rows(codes, active, variances))
    if labeled:
        scores = metrics.score_frame(
            codes,
            columns.factors,
            groups=columns.groups,
            confounder=columns.confounder,
            metrics=labeled,
            active=active,
            **settings._asdict(),
        )
        frames.insert(0, scores)
    return pd.concat(frames, ignore_index=True)


def dimension_table(codes: np.ndarray, columns: ScoredColumns, active: np.ndarray) -> pd.DataFrame:
    """What each dimension encodes."""
    return metrics.dimension_covariate_table(codes, columns.factors, active=active)


def _total_correlation_rows(codes: np.ndarray, active: np.ndarray, variances: ArrayLike | None) -> pd.DataFrame:
    """Total correlation of the posterior means and, where variances are known, of posterior samples."""
    levels = {"means": None} | ({} if variances is None else {"samples": variances})
    values = [metrics.gaussian_total_correlation(codes, spread, active=active) for spread in levels.values()]
    blank = np.full(len(levels), np.nan)
    frame = pd.DataFrame({"metric": TOTAL_CORRELATION, "covariate": "all", "level": list(levels), "value": values})
    for name in ("null", "p_value", "ceiling", "normalized", "ci_low", "ci_high"):
        frame[name] = blank
    frame["n_cells"], frame["n_classes"] = len(codes), 0
    defined = "in nats, 0 at best, needs no covariate"
    frame["flag"] = [
        f"collinear dimensions, or fewer than two cells; {defined}" if np.isnan(v) else defined for v in values
    ]
    return frame.astype({"value": np.float64, "n_cells": np.int64, "n_classes": np.int64})


def report_relations(association: pd.DataFrame) -> None:
    """Log aliases as warnings and nesting as information."""
    for row in association.itertuples():
        if row.relation == "alias":
            _logger.warning(
                "Covariates %r and %r are aliases: each determines the other, so no dimension can hold one and not the "
                "other, and scores that compare covariates suffer. Score one of the two.",
                row.first,
                row.second,
            )
        elif row.relation:
            outer, inner = (row.second, row.first) if row.relation.startswith("first") else (row.first, row.second)
            _logger.info("Covariate %r is nested within %r: it determines it.", inner, outer)


def flag_aliases(frame: pd.DataFrame, association: pd.DataFrame) -> pd.DataFrame:
    """Say in ``flag`` which covariate is an alias of which."""
    pairs = association.loc[association["relation"] == "alias", ["first", "second"]].itertuples(index=False)
    pairs = [tuple(pair) for pair in pairs]
    if not pairs:
        return frame
    notes = {"all": "aliases: " + ", ".join(f"{first} = {second}" for first, second in pairs)}
    for first, second in pairs:
        for name, other in ((first, second), (second, first)):
            notes[name] = f"{notes[name]}, {other}" if name in notes else f"alias of {other}"
    added = frame["covariate"].map(notes).fillna("").where(frame["metric"] != TOTAL_CORRELATION, "")
    flags = ["; ".join(filter(None, texts)) for texts in zip(frame["flag"], added, strict=True)]
    return frame.assign(flag=flags)
