"""Which setting to take, and how far the sweep can tell."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLUMNS = ("kind", "method", "beta", "seed", "metric", "covariate", "level", "value", "normalized", "status")
_LOWER_IS_BETTER = ("gaussian_total_correlation",)
_CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class BetaRecommendation:
    """The setting that a sweep speaks for, and why; a notebook shows the reason and the table.

    Attributes
    ----------
    method
        Objective.
    beta
        Its beta; NaN for an objective without.
    tied
        Names of the other settings that the sweep cannot tell from the knee or, where the choice is among ties, the knee.
    reason
        All of it in words.
    settings
        DataFrame, a row per setting: ``name``, ``method``, ``beta``, ``n_seeds``; mean over seeds and 95% t interval of the
        held-out negative log-likelihood (``nll``, ``nll_low``, ``nll_high``, nats per cell) and of the score (``score``,
        ``score_low``, ``score_high``); ``agreement`` of the seeds (NaN for one seed); ``on_front``, ``tied`` and
        ``recommended``.
    """

    method: str
    beta: float
    tied: tuple[str, ...]
    reason: str
    settings: pd.DataFrame

    def __str__(self) -> str:
        return self.reason

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.reason)}</p>{self.settings.to_html(index=False, float_format='{:.3g}'.format)}"


def recommend_beta(
    sweep: pd.DataFrame,
    score: str = "mig",
    *,
    covariate: str | None = None,
    level: str | None = None,
    column: str | None = None,
    higher_is_better: bool | None = None,
) -> BetaRecommendation:
    r"""Weigh held-out likelihood against a score, and name the setting at the knee.

    A setting is on the Pareto front if no other has both a lower negative log-likelihood :math:`L` and a better score :math:`S`,
    in means over seeds. With both scaled to [0, 1] over the front, the knee is the setting that maximizes

    .. math:: \frac{L_{\max} - L}{L_{\max} - L_{\min}} + \frac{S - S_{\min}}{S_{\max} - S_{\min}},

    the farthest from the straight line between the ends of the front :cite:p:`Das1999`. A setting is tied with it where the 95% t
    intervals over seeds overlap in both; with one seed a setting nothing can be told apart. Of the settings that are tied,
    the one whose seeds agree most on their dimensions (``agreement`` in :func:`beta_sweep`) is recommended.

    Parameters
    ----------
    sweep
        What :func:`beta_sweep` returns.
    score
        Name of a score, of the column ``metric``.
    covariate
        What it was scored against; unless given, ``"all"``, or the only one there is.
    level
        Level of the score, where it has several, such as ``"means"`` and ``"samples"`` of total correlation.
    column
        ``"normalized"`` or ``"value"``; unless given, adjusted scores where there are any.
    higher_is_better
        Direction of the score; unless given, lower is better for total correlation, higher for all others.

    Returns
    -------
    The recommendation.

    Raises
    ------
    KeyError
        If ``sweep`` lacks a column.
    ValueError
        If it has no such score, or no model that has it and a likelihood.

    See Also
    --------
    scbetavae.pl.tradeoff : the picture.

    References
    ----------
    :cite:p:`Das1999`

    Examples
    --------
    >>> import pandas as pd
    >>> import scbetavae
    >>> rows = [
    ...     {"beta": beta, "seed": seed, "metric": metric, "covariate": covariate, "value": value + 0.001 * seed}
    ...     for beta, nll, mig in [(1.0, 500.0, 0.1), (4.0, 502.0, 0.4), (10.0, 520.0, 0.45)]
    ...     for seed in (0, 1, 2)
    ...     for metric, covariate, value in (("nll", "", nll), ("mig", "all", mig))
    ... ]
    >>> sweep = pd.DataFrame(rows).assign(
    ...     kind="model", method="beta_vae", level="", normalized=float("nan"), status="done"
    ... )
    >>> recommendation = scbetavae.sweep.recommend_beta(sweep, "mig")
    >>> recommendation.beta
    4.0
    """
    missing = [name for name in _COLUMNS if name not in sweep]
    if missing:
        msg = f"sweep has no column {missing[0]!r}. Pass the frame that scbetavae.sweep.beta_sweep returned."
        raise KeyError(msg)
    done = sweep[sweep["status"] == "done"]
    scores, title, column = _select(done, score, covariate, level, column)
    if higher_is_better is None:
        higher_is_better = score not in _LOWER_IS_BETTER
    sign = 1.0 if higher_is_better else -1.0
    settings = _summarize(done, scores, column)
    if settings.empty:
        msg = f"No model of the sweep has both a held-out likelihood and {title}, so there is nothing to weigh."
        raise ValueError(msg)
    settings["on_front"] = _on_front(settings["nll"].to_numpy(), sign * settings["score"].to_numpy())
    front = settings[settings["on_front"]].sort_values("nll")
    knee, is_knee = _knee(front, sign)
    group = settings[[_overlap(knee, row) or row["name"] == knee["name"] for _, row in settings.iterrows()]]
    chosen = _most_reproducible(group, knee)
    settings["recommended"] = settings["name"] == chosen["name"]
    settings["tied"] = settings["name"].isin(group["name"]) & ~settings["recommended"]
    tied = tuple(settings.loc[settings["tied"], "name"])
    sentences = [
        _why(front, knee, title, len(settings), is_knee=is_knee),
        _ties(settings, tuple(name for name in group["name"] if name != knee["name"])),
        _tie_broken(knee, chosen),
        _baselines(scores, column, chosen, title, sign),
        _left_out(done, settings),
    ]
    reason = " ".join(filter(None, sentences))
    return BetaRecommendation(chosen["method"], float(chosen["beta"]), tied, reason, settings)


def _select(
    done: pd.DataFrame, score: str, covariate: str | None, level: str | None, column: str | None
) -> tuple[pd.DataFrame, str, str]:
    """Rows of one score, its name for a sentence, and the column that is read."""
    rows = done[done["metric"] == score]
    if rows.empty:
        known = ", ".join(sorted(set(done["metric"]) - {""}))
        msg = f"The sweep has no score {score!r}. It has {known or 'no finished run'}."
        raise ValueError(msg)
    for name, given, usual in (("covariate", covariate, "all"), ("level", level, "means")):
        there = list(dict.fromkeys(rows[name]))
        default = usual if usual in there else there[0] if len(there) == 1 else None
        wanted = default if given is None else given
        if wanted not in there:
            got = "it is not said which" if wanted is None else f"{wanted!r} is not among them"
            msg = f"{score!r} is there for {name} {', '.join(map(repr, there))}, and {got}. Take one of them."
            raise ValueError(msg)
        rows = rows[rows[name] == wanted]
    if column is None:
        column = "normalized" if rows["normalized"].notna().any() else "value"
    elif column not in ("normalized", "value"):
        msg = f"column={column!r} is not a choice. Take 'normalized' or 'value'."
        raise ValueError(msg)
    against = rows["covariate"].iloc[0]
    title = f"{'adjusted ' if column == 'normalized' else ''}{score}"
    return rows, title if against in ("", "all") else f"{title} of {against}", column


def _summarize(done: pd.DataFrame, scores: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means and intervals over the seeds of every setting."""
    keys = ["method", "beta", "seed"]
    nll, agreement = (
        done.loc[done["metric"] == metric, [*keys, "value"]].rename(columns={"value": metric})
        for metric in ("nll", "agreement")
    )
    both = nll.merge(scores[[*keys, column]].rename(columns={column: "score"}), on=keys).dropna(subset=["nll", "score"])
    both = both.merge(agreement, on=keys, how="left")
    rows = []
    for (method, beta), group in both.groupby(["method", "beta"], sort=True, dropna=False):
        row = {"name": _name(method, beta, both["method"].nunique()), "method": method, "beta": beta}
        row["n_seeds"] = len(group)
        for quantity in ("nll", "score"):
            row |= _interval(group[quantity].to_numpy(), quantity)
        row["agreement"] = float(group["agreement"].mean())
        rows.append(row)
    return pd.DataFrame(rows)


def _interval(values: np.ndarray, name: str) -> dict[str, float]:
    """Mean and t interval; one value has none."""
    mean, half = float(values.mean()), float("nan")
    if len(values) > 1:
        from scipy.stats import t

        half = float(t.ppf(0.5 + _CONFIDENCE / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def _on_front(nll: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Settings that no other beats: lower first, higher second."""
    no_worse = (nll[None] <= nll[:, None]) & (score[None] >= score[:, None])
    better = (nll[None] < nll[:, None]) | (score[None] > score[:, None])
    return ~(no_worse & better).any(axis=1)


def _knee(front: pd.DataFrame, sign: float) -> tuple[pd.Series, bool]:
    """The farthest from the line between the ends, and whether anything is beyond that line."""
    nll, score = front["nll"].to_numpy(), sign * front["score"].to_numpy()
    ranges = nll[-1] - nll[0], score[-1] - score[0]
    if min(ranges) <= 0:
        return front.iloc[0], False
    gain = (nll[-1] - nll) / ranges[0] + (score - score[0]) / ranges[1]
    best = int(gain.argmax())
    # The ends have a gain of 1, and so has every point of the line between them.
    return (front.iloc[best], True) if gain[best] > 1 + 1e-9 else (front.iloc[0], False)


def _overlap(first: pd.Series, second: pd.Series) -> bool:
    """Whether both intervals overlap; without an interval nothing is told apart."""
    apart = [
        first[f"{name}_low"] > second[f"{name}_high"] or second[f"{name}_low"] > first[f"{name}_high"]
        for name in ("nll", "score")
    ]
    return not any(apart)


def _most_reproducible(group: pd.DataFrame, knee: pd.Series) -> pd.Series:
    """Of settings that are tied, the one whose seeds agree most; the knee where that is not known, or no more than there."""
    known = group[group["agreement"].notna()]
    if known.empty or np.isnan(knee["agreement"]):
        return knee
    best = known.loc[known["agreement"].idxmax()]
    return best if best["agreement"] > knee["agreement"] + 1e-9 else knee


def _tie_broken(knee: pd.Series, chosen: pd.Series) -> str:
    if chosen["name"] == knee["name"]:
        return ""
    return (
        f"Recommended is {chosen['name']}: of the settings that are tied, its seeds agree most on their dimensions (mean "
        f"absolute correlation {chosen['agreement']:.2f}, {knee['agreement']:.2f} for {knee['name']}); it has held-out NLL "
        f"{chosen['nll']:.1f} and score {chosen['score']:.2f}."
    )


def _why(front: pd.DataFrame, chosen: pd.Series, title: str, n_settings: int, *, is_knee: bool) -> str:
    name, best_nll, best_score = chosen["name"], front.iloc[0], front.iloc[-1]
    held = f"held-out NLL {chosen['nll']:.1f} nats per cell, {title} {chosen['score']:.2f}"
    if len(front) == 1:
        return f"{name} is best in both ({held}): nothing is traded."
    of = f"Pareto front of held-out NLL against {title} ({_listed(front['name'])}; {n_settings} settings in all)"
    if not is_knee:
        return (
            f"There is no knee: on the {of} nothing lies beyond the straight line between the ends. Named is the end with "
            f"the lowest NLL, {name} ({held}); the other end, {best_score['name']}, has NLL {best_score['nll']:.1f} and "
            f"{title} {best_score['score']:.2f}."
        )
    return (
        f"{name} is at the knee of the {of}: {held}. Against the best likelihood ({best_nll['name']}) it gives up "
        f"{chosen['nll'] - best_nll['nll']:.1f} nats for {abs(chosen['score'] - best_nll['score']):.2f} of the score; the "
        f"best score ({best_score['name']}) would take {best_score['nll'] - chosen['nll']:.1f} nats more for another "
        f"{abs(best_score['score'] - chosen['score']):.2f}."
    )


def _ties(settings: pd.DataFrame, tied: tuple[str, ...]) -> str:
    if (settings["n_seeds"] < 2).all():
        return "There is one seed a setting, so no difference is told from chance: train more seeds."
    if not tied:
        return "No other setting is tied with it: 95% intervals over seeds are apart in at least one of the two."
    names = _listed(tied)
    few = " More seeds would narrow the intervals." if settings["n_seeds"].min() < 5 else ""
    if len(tied) == len(settings) - 1:
        return f"But it is a tie: intervals over seeds overlap in both with every other setting ({names}).{few}"
    return f"It is tied with {names}: 95% intervals over seeds overlap in both.{few}"


def _baselines(scores: pd.DataFrame, column: str, chosen: pd.Series, title: str, sign: float) -> str:
    """Say where a linear embedding scores as high."""
    rows = scores[(scores["kind"] == "baseline") & scores[column].notna()]
    if rows.empty:
        return ""
    best = rows.loc[(sign * rows[column]).idxmax()]
    summary = "better than this setting" if sign * (best[column] - chosen["score"]) > 0 else "below this setting"
    return f"The best baseline, {best['method']}, has {title} {best[column]:.2f}, {summary}."


def _left_out(done: pd.DataFrame, settings: pd.DataFrame) -> str:
    models = done[done["kind"] == "model"].drop_duplicates(["method", "beta"])
    n_left_out = len(models) - len(settings)
    return f"{n_left_out} settings have no such score and take no part." if n_left_out else ""


def _name(method: str, beta: float, n_methods: int) -> str:
    if np.isnan(beta):
        return method
    return f"beta {beta:g}" if n_methods == 1 else f"{method} with beta {beta:g}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
