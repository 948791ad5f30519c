"""The tidy frame: every score with its null, ceiling, interval and the reason where it is not defined."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_whole_number, read_options
from scbetavae._core.options import SCORING, Resampling
from scbetavae.metrics._binning import REFINEMENT
from scbetavae.metrics._checks import check_inputs
from scbetavae.metrics._information import CodeBins, find_confounder
from scbetavae.metrics._resampling import make_blocks, permutation_p_value, standard_error, t_interval
from scbetavae.metrics.disentanglement import _evidence, _oracle
from scbetavae.metrics.disentanglement._class_alignment import CLASS_SCORES
from scbetavae.metrics.disentanglement._evidence import JOINT_SCORES, Evidence, Views
from scbetavae.metrics.disentanglement._records import SCORES, score_names
from scbetavae.metrics.disentanglement._score_models import ModelInputs, model_scores

NUMBERS = ("value", "null", "p_value", "ceiling", "normalized", "ci_low", "ci_high")
COLUMNS = ("metric", "covariate", "level", *NUMBERS, "n_cells", "n_classes", "flag")

MINIMUM_RANGE = 0.05
"""Ceiling less null, below which a score cannot tell good dimensions from bad and is not normalized."""

_ADJUSTABLE = ("mig", *JOINT_SCORES, *CLASS_SCORES)
INFORMATION_SCORES = ("sap", *_ADJUSTABLE)


def score_frame(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    groups: ArrayLike | pd.Series | None = None,
    confounder: pd.Series | str | None = None,
    metrics: str | Iterable[str] | None = None,
    active: ArrayLike | None = None,
    **options: Unpack[Resampling],
) -> pd.DataFrame:
    """Proxy alignment scores of dimensions with covariates, each with null, ceiling and confidence interval.

    The scores say how dimensions line up with covariates that somebody recorded; they do not say that a dimension is a
    cause, or that a dimension without partner is noise.

    Parameters
    ----------
    codes, factors, active
        As in :func:`mig`, and so are errors. Integers are numbers, so convert codes of classes.
    groups
        Donor of every cell. The bootstrap then draws donors, models are evaluated on held-out donors, and a covariate that is
        constant within donors is permuted by donor.
    confounder
        As in :func:`mig`, for the information scores. The other scores say in ``flag`` that they do not use it.
    metrics
        As in :func:`score_names`: names of scores, also of your own, and of the families ``"class_alignment"`` and ``"dci"``.
    **options
        ``n_permutations`` (100 by default): permutations behind ``null`` and ``p_value``; DCI refits trees for at most 4 of
        them. ``n_bootstrap`` (100): bootstrap replicates behind the interval. ``seed`` (0) of all resampling.

    Returns
    -------
    DataFrame, one row per (``metric``, ``covariate`` or ``"all"``, ``level``):

    ``value``
        The score; the mean over covariates in rows ``"all"`` of scores that have one per covariate.
    ``null``, ``p_value``
        Mean under permutation of the covariate, and the share of permutations that score as high. For DCI the
        p-value is that of the held-out accuracy.
    ``ceiling``, ``normalized``
        The same score on oracle dimensions, one per covariate (at class level one per class); and
        (value - null) / (ceiling - null), NaN where ceiling - null is below 0.05.
    ``ci_low``, ``ci_high``
        95% interval of ``value``: t interval with the bootstrap standard error, cut to the range of the score. For
        disentanglement and completeness a jackknife over folds.
    ``n_cells``, ``n_classes``, ``flag``
        Cells with a label, and their classes (0 for numeric covariates and in rows ``"all"``); why something is not defined or
        needs care, otherwise empty.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 4, 500)
    >>> codes = np.column_stack([label + 0.1 * rng.normal(size=500), rng.normal(size=500)])
    >>> frame = score_frame(codes, pd.DataFrame({"type": label.astype(str)}), metrics="mig")
    >>> frame.loc[frame["covariate"] == "type", "normalized"].round(1).item()
    1.0
    """
    n_permutations, n_bootstrap, seed = read_options(score_frame, options, SCORING).values()
    names = score_names(metrics)
    check_whole_number(n_permutations, "n_permutations")
    check_whole_number(n_bootstrap, "n_bootstrap")
    array, mask, covariates, members = check_inputs(codes, factors, active, groups)
    against = find_confounder(covariates, confounder, len(array))
    rng = np.random.default_rng(seed)
    blocks = make_blocks(len(array), members, n_bootstrap, rng)

    # Without any active dimension, two constant ones stand in: they score 0, and the flag says why.
    values = np.ascontiguousarray(array[:, mask].T) if mask.any() else np.zeros((2, len(array)))
    binned = CodeBins(values, refinement=REFINEMENT if "sap" in names else 1)
    evidences = [_evidence.gather(binned, covariate, against, names) for covariate in covariates]
    defined = [evidence for evidence in evidences if not evidence.problem]
    oracle = _oracle.oracle_codes(defined, len(array), rng)
    scores: dict[tuple[str, str], Views] = {}
    if any(name in INFORMATION_SCORES for name in names):
        for evidence in defined:
            if n_permutations:
                _evidence.add_null(evidence, members, n_permutations, rng)
            if n_bootstrap:
                _evidence.add_bootstrap(evidence, blocks)
        _oracle.add_ceilings(defined, oracle)
        views = (_evidence.read_scores(evidences, view, names) for view in ("value", "null", "bootstrap", "ceiling"))
        value, null, bootstrap, ceiling = views
        nothing, unknown = np.zeros(0), np.array([np.nan])
        for key, (of_key, *_) in value.items():
            top = float(ceiling.get(key, unknown)[0])
            scores[key] = Views(float(of_key), null.get(key, nothing), bootstrap.get(key, nothing), top)
    # What cannot be compared is missing for the models, too.
    seen = [
        replace(e.covariate, values=np.full(len(array), np.nan if e.covariate.is_numeric else -1))
        if e.problem
        else e.covariate
        for e in evidences
    ]
    of_oracle = [evidence.covariate.name for evidence in defined]
    models = ModelInputs(array[:, mask], seen, members, blocks, oracle, of_oracle, n_permutations, seed)
    scores |= model_scores(models, names)
    layout = Layout(evidences, blocks.n_blocks, int(mask.sum()), len(array), None if against is None else against.name)
    return layout.frame(scores, names)


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
        span = sign * (score.ceiling - null)
        normalized = sign * (score.value - null) / span if span >= MINIMUM_RANGE else np.nan
        low, high, interval_flag = self._interval(score, record.lowest, record.highest)
        undefined = bool(np.isnan(score.value))
        ceiling = np.nan if undefined and evidence is not None and evidence.problem else score.ceiling
        of_confounder = evidence is not None and evidence.covariate.name == self.confounder
        adjusted = self.confounder is None or metric in _ADJUSTABLE or of_confounder
        flags = [
            self._reason(metric, evidence, undefined and not score.flag),
            score.flag,
            *(evidence.notes if evidence is not None and not evidence.problem and record.function is None else ()),
            f"not adjusted for {self.confounder}" if not adjusted and not undefined else "",
            f"without {', '.join(left_out)}" if left_out and len(left_out) < len(self.evidences) else "",
            "" if undefined else interval_flag,
        ]
        if not undefined and span < MINIMUM_RANGE:
            flags.append(f"ceiling - null is {span:.3f}: not normalized")
        if undefined:
            null = p_value = np.nan
        name, n_cells, n_classes = "all", self.n_cells, 0
        if evidence is not None:
            name, n_cells = evidence.covariate.name, evidence.cells.n_cells
            n_classes = 0 if evidence.covariate.is_numeric else len(evidence.cells.classes)
        numbers = (score.value, null, p_value, ceiling, normalized, low, high)
        flag = "; ".join(dict.fromkeys(flag for flag in flags if flag))
        return metric, name, record.level, *numbers, n_cells, n_classes, flag

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
        return pd.DataFrame(rows).mean().to_numpy() if rows else np.zeros(0)

    return Views(
        float(np.mean([score.value for score in scores])),
        mean_rows([score.null for score in scores]),
        mean_rows([score.bootstrap for score in scores]),
        float(np.mean([score.ceiling for score in scores])),
        "; ".join(dict.fromkeys(score.flag for score in scores if score.flag)),
    )
