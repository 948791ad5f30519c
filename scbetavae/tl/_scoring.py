"""Scores of embeddings against recorded covariates: what `score_disentanglement` and `compare_embeddings` share."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae._core.checks import as_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scbetavae.tl._embedding import Embedding

_logger = logging.getLogger(__name__)

TOTAL_CORRELATION = "gaussian_total_correlation"

_FREE = "of the free dimensions: guided ones do not take part"


def score_embeddings(
    embeddings: Mapping[str, Embedding],
    factors: pd.DataFrame,
    names: str | Iterable[str] | None,
    confounder: pd.Series | None,
    settings: Mapping[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Scores and dimension x covariate table, both with ``embedding`` as first column, and association of the covariates."""
    association = metrics.covariate_association(factors)  # refuses what no score can read
    wanted = {key: _score_names(names, embedding) for key, embedding in embeddings.items()}
    scores, dimensions = {}, {}
    for key, embedding in embeddings.items():
        labeled = [name for name in wanted[key] if name != TOTAL_CORRELATION]
        frames = [_total_correlation(embedding)] if len(labeled) < len(wanted[key]) else []
        if labeled:
            arguments = {"confounder": confounder, "metrics": labeled, "active": embedding.free, **settings}
            frames.insert(0, metrics.score_frame(embedding.values, factors, **arguments))
        scores[key] = _flag_aliases(pd.concat(frames, ignore_index=True), association)
        if set(embedding.roles) != {"free"}:
            scores[key]["flag"] = [f"{flag}; {_FREE}" if flag else _FREE for flag in scores[key]["flag"]]
        dimensions[key] = metrics.dimension_covariate_table(embedding.values, factors, active=embedding.free)
    _log_relations(association)
    stacked = [pd.concat(parts, names=["embedding"]).reset_index("embedding") for parts in (scores, dimensions)]
    return stacked[0].reset_index(drop=True), stacked[1].reset_index(drop=True), association


def _score_names(names: str | Iterable[str] | None, embedding: Embedding) -> list[str]:
    """Names of scores; by default those of `score_frame` and, where posterior variances are known, total correlation."""
    if names is None:
        return [*metrics.score_names(), *([] if embedding.variance is None else [TOTAL_CORRELATION])]
    given = as_list(names)
    labeled = [name for name in given if name != TOTAL_CORRELATION]
    resolved = metrics.score_names(labeled) if labeled or not given else []
    return [*resolved, *([TOTAL_CORRELATION] if len(labeled) < len(given) else [])]


def _total_correlation(embedding: Embedding) -> pd.DataFrame:
    """Total correlation of the posterior means and, where variances are known, of posterior samples."""
    variances: dict[str, np.ndarray | None] = {"means": None}
    if embedding.variance is not None:
        variances["samples"] = np.broadcast_to(embedding.variance, embedding.values.shape)
    frame = pd.DataFrame({"metric": TOTAL_CORRELATION, "covariate": "all", "level": list(variances)})
    frame["value"] = [
        metrics.gaussian_total_correlation(embedding.values, spread, active=embedding.free)
        for spread in variances.values()
    ]
    for name in ("null", "p_value", "ceiling", "normalized", "ci_low", "ci_high"):
        frame[name] = np.nan
    frame["n_cells"], frame["n_classes"] = len(embedding.values), 0
    defined = "in nats, 0 at best, needs no covariate"
    undefined = f"collinear dimensions, or fewer than two cells; {defined}"
    frame["flag"] = np.where(frame["value"].isna(), undefined, defined)
    return frame.astype({"value": np.float64, "n_cells": np.int64, "n_classes": np.int64, "flag": object})


def _log_relations(association: pd.DataFrame) -> None:
    """Log aliases as warnings and nesting as information."""
    for row in association.itertuples():
        if row.relation == "alias":
            _logger.warning(
                "Covariates %r and %r are aliases: each determines the other, so no dimension can encode one and not the other, "
                "and scores that compare covariates suffer. Score one of the two.",
                row.first,
                row.second,
            )
        elif row.relation:
            outer, inner = (row.second, row.first) if str(row.relation).startswith("first") else (row.first, row.second)
            _logger.info("Covariate %r is nested within %r: it determines it.", inner, outer)


def _flag_aliases(frame: pd.DataFrame, association: pd.DataFrame) -> pd.DataFrame:
    """Add to ``flag`` which covariate is an alias of which."""
    aliases = association[association["relation"] == "alias"]
    pairs = list(zip(aliases["first"], aliases["second"], strict=True))
    if not pairs:
        return frame
    notes = {"all": "aliases: " + ", ".join(f"{first} = {second}" for first, second in pairs)}
    for first, second in pairs:
        for name, other in ((first, second), (second, first)):
            notes[name] = f"{notes[name]}, {other}" if name in notes else f"alias of {other}"
    added = frame["covariate"].map(notes).fillna("").where(frame["metric"] != TOTAL_CORRELATION, "")
    flags = ["; ".join(filter(None, texts)) for texts in zip(frame["flag"], added, strict=True)]
    return frame.assign(flag=flags)
