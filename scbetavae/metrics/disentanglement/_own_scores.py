"""Scores that users registered: value, null, bootstrap and ceiling from calls of their function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbetavae.metrics._resampling import permute_values
from scbetavae.metrics.disentanglement._layout import Views
from scbetavae.metrics.disentanglement._records import SCORES, Score

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scbetavae.metrics._checks import Covariate
    from scbetavae.metrics.disentanglement._score_models import ModelInputs


def own_scores(inputs: ModelInputs, metrics: Iterable[str]) -> dict[tuple[str, str], Views]:
    """Scores with a function of their own among ``metrics``."""
    records = [SCORES[name] for name in metrics if SCORES[name].function is not None]
    by_name = {covariate.name: covariate for covariate in inputs.covariates}
    defined = [by_name[evidence.covariate.name] for evidence in inputs.defined]
    if not records or not defined or not inputs.active.any():
        return {}
    scores: dict[tuple[str, str], Views] = {}
    for record in records:
        groups = [[covariate] for covariate in defined] if record.per_covariate else [defined]
        for covariates in groups:
            name = covariates[0].name if record.per_covariate else "all"
            scores[record.name, name] = _views(record, covariates, inputs)
    return scores


def _views(record: Score, covariates: list[Covariate], inputs: ModelInputs) -> Views:
    """All views of one score for these covariates together, on cells that have all their labels."""
    keep = np.logical_and.reduce([covariate.present for covariate in covariates])
    labels = pd.DataFrame({covariate.name: _labels(covariate)[keep] for covariate in covariates})
    codes = inputs.codes[keep][:, inputs.active]
    members = None if inputs.groups is None else np.unique(inputs.groups[keep], return_inverse=True)[1].reshape(-1)
    rng = np.random.default_rng(inputs.seed + 3)

    def value(codes: np.ndarray, labels: pd.DataFrame) -> float:
        return float(record.function(codes, labels.iloc[:, 0] if record.per_covariate else labels))

    null = np.array([value(codes, _permuted(labels, covariates, members, rng)) for _ in range(inputs.n_permutations)])
    draws = inputs.blocks.weights[:, inputs.blocks.index[keep]].astype(np.int64)
    rows = (np.repeat(np.arange(len(codes)), drawn) for drawn in draws)
    bootstrap = np.array([value(codes[row], labels.iloc[row].reset_index(drop=True)) for row in rows])
    return Views(value(codes, labels), null, bootstrap, value(inputs.oracle.T[keep], labels))


def _labels(covariate: Covariate) -> np.ndarray:
    """Classes by name, or numbers; any value where a label is missing."""
    if covariate.is_numeric:
        return covariate.values
    return (
        np.array(covariate.classes, dtype=object)[np.maximum(covariate.labels, 0)]
        if covariate.classes
        else covariate.labels
    )


def _permuted(
    labels: pd.DataFrame, covariates: list[Covariate], members: np.ndarray | None, rng: np.random.Generator
) -> pd.DataFrame:
    """Each column permuted by itself, by group where it is constant within groups."""
    columns: dict[str, Any] = {}
    for covariate in covariates:
        codes, values = pd.factorize(labels[covariate.name])
        columns[covariate.name] = values[permute_values(codes, members, rng, classes=not covariate.is_numeric)]
    return pd.DataFrame(columns)
