"""From scores to the rows of the tidy frame."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from scbetavae.metrics._resampling import permutation_p_value, standard_error, t_interval
from scbetavae.metrics.disentanglement._class_alignment import CLASS_SCORES
from scbetavae.metrics.disentanglement._evidence import JOINT_SCORES, Evidence
from scbetavae.metrics.disentanglement._records import SCORES

NUMBERS = ("value", "null", "p_value", "ceiling", "normalized", "ci_low", "ci_high")
COLUMNS = ("metric", "covariate", "level", *NUMBERS, "n_cells", "n_classes", "flag")

MINIMUM_RANGE = 0.05
"""Ceiling less null, below which a score cannot tell good dimensions from bad and is not normalized."""

_ADJUSTABLE = ("mig", *JOINT_SCORES, *CLASS_SCORES)
INFORMATION_SCORES = ("sap", *_ADJUSTABLE)


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


@dataclass(frozen=True)
class Layout:
    """From scores to rows."""

    evidences: list[Evidence]
    n_blocks: int  # of the bootstrap
    n_active: int
    n_cells: int
    confounder: str | None

    def frame(self, scores: dict[tuple[str, str], Views], metrics: list[str]) -> pd.DataFrame:
        rows = []
        for metric in metrics:
            overall, left_out = scores.get((metric, "all")), []
            if SCORES[metric].per_covariate:
                views = {e.covariate.name: scores.get((metric, e.covariate.name), Views()) for e in self.evidences}
                rows += [self._row(metric, e, views[e.covariate.name], []) for e in self.evidences]
                overall = overall or _mean_score(list(views.values()))
                left_out = [name for name, score in views.items() if np.isnan(score.value)]
            rows.append(self._row(metric, None, overall or Views(), left_out))
        types = dict.fromkeys(NUMBERS, np.float64) | dict.fromkeys(("n_cells", "n_classes"), np.int64)
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(types)

    def _row(self, metric: str, evidence: Evidence | None, score: Views, left_out: list[str]) -> tuple:
        record = SCORES[metric]
        known = score.null[~np.isnan(score.null)]
        null = float(known.mean()) if len(known) else np.nan
        sign = 1 if record.higher_is_better else -1
        p_value = score.p_value
        if p_value is None:
            ranked = len(known) and not np.isnan(score.value)
            p_value = float(permutation_p_value(sign * score.value, sign * known)) if ranked else np.nan
        if metric != "dci_informativeness":
            # Noise may lie a little below 0 once its bias is removed; what is shown does not, its rank does.
            score = replace(score, value=float(np.maximum(score.value, record.lowest)))
        room = sign * (score.ceiling - null)
        normalized = sign * (score.value - null) / room if room >= MINIMUM_RANGE else np.nan
        low, high, interval_flag = self._interval(score, record.lowest, record.highest)
        undefined = bool(np.isnan(score.value))
        ceiling = np.nan if undefined and evidence is not None and evidence.problem else score.ceiling
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
        name, n_cells, n_classes = "all", self.n_cells, 0
        if evidence is not None:
            name, n_cells = evidence.covariate.name, evidence.cells.n_cells
            n_classes = 0 if evidence.covariate.is_numeric else len(evidence.cells.classes)
        numbers = (score.value, null, p_value, ceiling, normalized, low, high)
        flag = "; ".join(dict.fromkeys(flag for flag in flags if flag))
        return metric, name, record.level, *numbers, n_cells, n_classes, flag

    def _shows_notes(self, metric: str, evidence: Evidence) -> bool:
        models = metric == "explicitness" or SCORES[metric].family == "dci"
        return not evidence.problem and (models or metric in INFORMATION_SCORES)

    def _confounder_flag(self, metric: str, evidence: Evidence | None, undefined: bool) -> str:
        of_confounder = evidence is not None and evidence.covariate.name == self.confounder
        if self.confounder is None or undefined or metric in _ADJUSTABLE or of_confounder:
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
            (metric in CLASS_SCORES and is_numeric, "a numeric covariate has no classes"),
            (bool(confounder_problem), confounder_problem),
            (n_defined == 0, "no covariate with two classes"),
            (n_defined == 1 and metric in (*JOINT_SCORES, "dci_disentanglement"), "one covariate"),
            (self.n_active == 1 and not needs_no_second, "one dimension"),
            (metric in CLASS_SCORES, "no class of two cells"),
            (True, "too few cells, or classes of one cell"),
        )
        return next(text for applies, text in reasons if applies)

    def _interval(self, score: Views, lowest: float, highest: float) -> tuple[float, float, str]:
        """Ends of the interval, and what to know about them."""
        error, n_blocks = score.error, score.n_blocks or self.n_blocks
        if np.isnan(error):
            error = float(standard_error(score.bootstrap))
        if np.isnan(error):
            return np.nan, np.nan, "no interval: too few replicates" if len(score.bootstrap) else ""
        if n_blocks < 2 or np.isnan(score.value):
            return np.nan, np.nan, "no interval: one group"
        low, high = t_interval(score.value, np.array(error), n_blocks, lowest, highest)
        rough = not score.n_blocks and self.n_blocks < 5
        return float(low), float(high), f"rough interval: {n_blocks} groups" if rough else ""


def _mean_score(scores: list[Views]) -> Views | None:
    """Mean over the covariates where the score is defined."""
    scores = [score for score in scores if not np.isnan(score.value)]
    if not scores:
        return None

    def mean_rows(rows: list[np.ndarray]) -> np.ndarray:
        rows = [row for row in rows if len(row)]
        if not rows:
            return np.zeros(0)
        known = ~np.isnan(rows)
        total = np.where(known, rows, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)

    return Views(
        float(np.mean([score.value for score in scores])),
        mean_rows([score.null for score in scores]),
        mean_rows([score.bootstrap for score in scores]),
        float(np.mean([score.ceiling for score in scores])),
        "; ".join(dict.fromkeys(score.flag for score in scores if score.flag)),
    )
