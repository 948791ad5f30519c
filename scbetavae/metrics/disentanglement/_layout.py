"""From scores to the rows of the tidy frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from scbetavae.metrics._resampling import Blocks
from scbetavae.metrics.disentanglement._evidence import CLASS_METRICS, JOINT_METRICS, Evidence
from scbetavae.metrics.disentanglement._records import SCORES

COLUMNS = (
    "metric",
    "covariate",
    "level",
    "value",
    "null",
    "p_value",
    "ceiling",
    "normalized",
    "ci_low",
    "ci_high",
    "n_cells",
    "n_classes",
    "flag",
)
MINIMUM_RANGE = 0.05
"""Ceiling less null, below which a score cannot tell good codes from bad and is not normalized."""

INFORMATION_METRICS = ("mig", "sap", *JOINT_METRICS, *CLASS_METRICS)
_ADJUSTABLE = ("mig", *JOINT_METRICS, *CLASS_METRICS)


@dataclass(frozen=True)
class Views:
    """One row before it is laid out: values of every view, NaN or empty where there are none."""

    value: float
    null: np.ndarray
    bootstrap: np.ndarray
    ceiling: float
    flag: str = ""
    standard_error: float = float("nan")
    """Instead of ``bootstrap``, with ``n_blocks`` the number of jackknife blocks."""
    n_blocks: int = 0
    p_value: float | None = None
    """Instead of the rank among ``null``."""


@dataclass(frozen=True)
class Layout:
    """From scores to rows."""

    evidences: list[Evidence]
    blocks: Blocks
    n_active: int
    n_cells: int
    confounder: str | None

    def frame(self, scores: dict[tuple[str, str], Views], metrics: list[str]) -> pd.DataFrame:
        rows = []
        for metric in metrics:
            if SCORES[metric].per_covariate:
                of_metric = [scores.get((metric, evidence.covariate.name)) for evidence in self.evidences]
                for evidence, score in zip(self.evidences, of_metric, strict=True):
                    rows.append(self._row(metric, evidence, score))
                overall = scores.get((metric, "all")) or _mean_score([s for s in of_metric if s is not None])
                left_out = [
                    evidence.covariate.name
                    for evidence, score in zip(self.evidences, of_metric, strict=True)
                    if score is None or np.isnan(score.value)
                ]
                rows.append(self._row(metric, None, overall, left_out))
            else:
                rows.append(self._row(metric, None, scores.get((metric, "all")), None))
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        numbers = dict.fromkeys(COLUMNS[3:10], np.float64)
        return frame.astype({**numbers, "n_cells": np.int64, "n_classes": np.int64})

    def _row(
        self, metric: str, evidence: Evidence | None, score: Views | None, left_out: list[str] | None = None
    ) -> tuple:
        record = SCORES[metric]
        score = score or Views(np.nan, np.zeros(0), np.zeros(0), np.nan)
        null = _finite_mean(score.null)
        sign = 1 if record.higher_is_better else -1
        p_value = _rank(score, sign) if score.p_value is None else score.p_value
        if metric != "dci_informativeness":
            # Noise may lie a little below 0 once its bias is removed; what is shown does not, its rank does.
            score = replace(score, value=float(np.maximum(score.value, record.lowest)))
        room = sign * (score.ceiling - null)
        normalized = sign * (score.value - null) / room if room >= MINIMUM_RANGE else np.nan
        low, high, interval_flag = self._interval(score, record.lowest, record.highest)
        undefined = bool(np.isnan(score.value))
        flags = [
            self._reason(metric, evidence, undefined and not score.flag),
            score.flag,
            *(evidence.notes if evidence is not None and self._shows_notes(metric, evidence) else ()),
            self._confounder_flag(metric, evidence, undefined),
            f"without {', '.join(left_out)}" if left_out and len(left_out) < len(self.evidences) else "",
            "" if undefined else interval_flag,
        ]
        if not undefined and room < MINIMUM_RANGE:
            flags.append(f"ceiling - null is {room:.3f}: not normalized")
        if undefined:
            null = p_value = np.nan
        name = "all" if evidence is None else evidence.covariate.name
        n_cells = self.n_cells if evidence is None else evidence.cells.n_cells
        is_numeric = evidence is not None and evidence.covariate.is_numeric
        n_classes = 0 if evidence is None or is_numeric else len(evidence.cells.classes)
        flag = "; ".join(dict.fromkeys(flag for flag in flags if flag))
        ceiling = np.nan if undefined and evidence is not None and evidence.problem else score.ceiling
        return (
            metric, name, record.level, score.value, null, p_value, ceiling, normalized, low, high, n_cells, n_classes, flag
        )  # fmt: skip

    def _shows_notes(self, metric: str, evidence: Evidence) -> bool:
        models = metric == "explicitness" or SCORES[metric].family == "dci"
        return not evidence.problem and (models or metric in INFORMATION_METRICS)

    def _confounder_flag(self, metric: str, evidence: Evidence | None, undefined: bool) -> str:
        if self.confounder is None or undefined or metric in _ADJUSTABLE:
            return ""
        if evidence is not None and evidence.covariate.name == self.confounder:
            return ""
        return f"not adjusted for {self.confounder}"

    def _reason(self, metric: str, evidence: Evidence | None, undefined: bool) -> str:
        """Why a score is not defined (or is 0)."""
        if self.n_active == 0:
            reason = "no active dimension"
            return reason if evidence is None or not evidence.problem else f"{evidence.problem}; {reason}"
        if not undefined:
            return ""
        n_defined = sum(not e.problem and not e.confounder_problem for e in self.evidences)
        needs_no_second = metric in ("dci_disentanglement", "dci_informativeness", "explicitness")
        problem, confounder_problem, is_numeric = "", "", False
        if evidence is not None:
            problem, is_numeric = evidence.problem, evidence.covariate.is_numeric
            confounder_problem = evidence.confounder_problem if metric in _ADJUSTABLE else ""
        # The first that applies.
        reasons = (
            (bool(problem), problem),
            (metric in CLASS_METRICS and is_numeric, "a numeric covariate has no classes"),
            (bool(confounder_problem), confounder_problem),
            (n_defined == 0, "no covariate with two classes"),
            (n_defined == 1 and metric in (*JOINT_METRICS, "dci_disentanglement"), "one covariate"),
            (self.n_active == 1 and not needs_no_second, "one dimension"),
            (metric in CLASS_METRICS, "no class of two cells"),
            (True, "too few cells, or classes of one cell"),
        )
        return next(text for applies, text in reasons if applies)

    def _interval(self, score: Views, lowest: float, highest: float) -> tuple[float, float, str]:
        n_blocks = score.n_blocks or self.blocks.n_blocks
        error = score.standard_error
        if np.isnan(error):
            replicates = score.bootstrap[~np.isnan(score.bootstrap)]
            if len(replicates) < 2 or len(replicates) < len(score.bootstrap) / 2:
                return np.nan, np.nan, "no interval: too few replicates" if len(score.bootstrap) else ""
            error = replicates.std(ddof=1)
        if n_blocks < 2 or np.isnan(score.value):
            return np.nan, np.nan, "no interval: one group"
        reach = stats.t.ppf(0.975, n_blocks - 1) * error
        low = min(max(score.value - reach, lowest), score.value)
        high = max(min(score.value + reach, highest), score.value)
        rough = not score.n_blocks and self.blocks.n_blocks < 5
        return low, high, f"rough interval: {n_blocks} groups" if rough else ""


def _rank(score: Views, sign: int) -> float:
    """Share of permutations that score as well, the data themselves counted once."""
    null = score.null[~np.isnan(score.null)]
    if len(null) == 0 or np.isnan(score.value):
        return float("nan")
    return float((1 + (sign * null >= sign * score.value - 1e-12).sum()) / (1 + len(null)))


def _finite_mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _mean_score(scores: list[Views]) -> Views | None:
    """Mean over the covariates where the score is defined."""
    scores = [score for score in scores if not np.isnan(score.value)]
    if not scores:
        return None

    def mean_rows(rows: list[np.ndarray]) -> np.ndarray:
        rows = [row for row in rows if len(row)]
        if not rows:
            return np.zeros(0)
        stacked = np.stack(rows)
        known = ~np.isnan(stacked)
        total = np.where(known, stacked, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)

    ceilings = [score.ceiling for score in scores]
    return Views(
        float(np.mean([score.value for score in scores])),
        mean_rows([score.null for score in scores]),
        mean_rows([score.bootstrap for score in scores]),
        float(np.mean(ceilings)),
        "; ".join(dict.fromkeys(score.flag for score in scores if score.flag)),
    )
