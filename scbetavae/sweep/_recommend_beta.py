"""A recommendation from a sweep: which setting to choose, and how far the sweep can tell."""

from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae._core.sweep_table import finished_runs, on_front, rows_of, seed_means

_INTERVALS = [f"{name}{end}" for name in ("nll", "score") for end in ("", "_low", "_high")]


@dataclass(frozen=True, eq=False)
class BetaRecommendation:
    """The recommended setting of a sweep and the reason; a notebook shows the reason and the table.

    Attributes
    ----------
    method, beta
        Objective, and its beta; NaN for an objective without beta.
    tied
        Names of the other settings whose intervals overlap with those of the knee.
    reason
        Summary in words.
    settings
        DataFrame, one row per setting: ``name``, ``method``, ``beta``, ``n_seeds``; mean over seeds and 95% t interval of the
        held-out negative log-likelihood (``nll``, ``nll_low``, ``nll_high``, nats per cell) and of the score (``score``, ...);
        ``agreement`` of the seeds (NaN for one seed); ``on_front``, ``tied`` and ``recommended``.
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
    r"""Weigh held-out likelihood against a score, and recommend the setting at the knee.

    A setting is on the Pareto front if no other has both a lower negative log-likelihood :math:`L` and a better score :math:`S`,
    in means over seeds. With both scaled to [0, 1] over the front, the knee is the setting that maximizes

    .. math:: \frac{L_{\max} - L}{L_{\max} - L_{\min}} + \frac{S - S_{\min}}{S_{\max} - S_{\min}},

    the farthest from the straight line between the ends of the front :cite:p:`Das1999`. A setting is tied with it where the 95% t
    intervals over seeds overlap in both; with one seed per setting no difference is significant. Of the tied settings, the one
    whose seeds agree most on their dimensions (``agreement`` in :func:`beta_sweep`) is recommended. :func:`scbetavae.pl.tradeoff`
    draws it.

    Parameters
    ----------
    sweep
        Result of :func:`beta_sweep`. A KeyError says if it lacks a column, a ValueError if it has no such score, or no model with
        this score and a likelihood.
    score, covariate
        Name of a score, of the column ``metric``, and its covariate: by default ``"all"``, or the only one.
    level, column
        Level, where there are several, such as ``"means"`` and ``"samples"`` of total correlation; ``"normalized"`` or
        ``"value"``, by default normalized scores where there are any.
    higher_is_better
        Direction of the score; by default that of its record in ``scbetavae.metrics.SCORES``.

    Examples
    --------
    >>> import pandas as pd, scbetavae
    >>> nll = pd.DataFrame({"beta": [1.0, 4.0, 10.0], "metric": "nll", "covariate": "", "value": [500.0, 502.0, 520.0]})
    >>> mig = pd.DataFrame({"beta": [1.0, 4.0, 10.0], "metric": "mig", "covariate": "all", "value": [0.1, 0.4, 0.45]})
    >>> constant = {"kind": "model", "method": "beta_vae", "seed": 0, "level": "", "normalized": None, "status": "done"}
    >>> sweep = pd.concat([nll, mig]).assign(**constant)
    >>> scbetavae.sweep.recommend_beta(sweep, "mig").beta
    4.0
    """
    done = finished_runs(sweep)
    scores = rows_of(done, score, covariate, level, column)
    against, column = scores[["covariate", "column"]].iloc[0] if len(scores) else ("", "value")
    title = (
        f"{'normalized ' if column == 'normalized' else ''}{score}{'' if against in ('', 'all') else f' of {against}'}"
    )
    record = metrics.SCORES.get(score)
    higher = (record is None or record.higher_is_better) if higher_is_better is None else higher_is_better
    sign = 1.0 if higher else -1.0
    settings = _summarize(done, scores)
    if settings.empty:
        msg = f"No model of the sweep has both a held-out likelihood and {title}, so there is nothing to weigh."
        raise ValueError(msg)
    settings["on_front"] = on_front(settings["nll"].to_numpy(), sign * settings["score"].to_numpy())
    front = settings[settings["on_front"]].sort_values("nll")
    knee, is_knee = _knee(front, sign)
    apart = pd.Series(data=False, index=settings.index)  # a missing interval overlaps with every other
    for name in ("nll", "score"):
        apart |= (settings[f"{name}_low"] > knee[f"{name}_high"]) | (knee[f"{name}_low"] > settings[f"{name}_high"])
    group = settings[~apart | (settings["name"] == knee["name"])]
    chosen = _most_reproducible(group, knee)
    settings["recommended"] = settings["name"] == chosen["name"]
    settings["tied"] = settings["name"].isin(group["name"]) & ~settings["recommended"]
    n_left_out = len(done[done["kind"] == "model"].drop_duplicates(["method", "beta"])) - len(settings)
    sentences = [
        _why(front, knee, title, len(settings), is_knee=is_knee),
        _ties(settings, [name for name in group["name"] if name != knee["name"]]),
        _tie_broken(knee, chosen) if chosen["name"] != knee["name"] else "",
        _baselines(scores, chosen, title, sign),
        f"{n_left_out} settings have no such score and are left out." if n_left_out else "",
    ]
    tied, reason = tuple(settings.loc[settings["tied"], "name"]), " ".join(filter(None, sentences))
    return BetaRecommendation(chosen["method"], float(chosen["beta"]), tied, reason, settings)


def _summarize(done: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: means and intervals over the seeds that have both quantities."""
    keys = ["kind", "method", "beta", "seed"]
    both = scores[[*keys, "shown"]].rename(columns={"shown": "score"})
    ways: dict[str, Literal["inner", "left"]] = {"nll": "inner", "agreement": "left"}
    for metric, how in ways.items():
        quantity = done.loc[done["metric"] == metric, [*keys, "value"]].rename(columns={"value": metric})
        both = both.merge(quantity, on=keys, how=how)
    both = both.dropna(subset="nll")
    groups = both.groupby(["method", "beta"], dropna=False)
    both = both.assign(n_seeds=groups["seed"].transform("size"), agreement=groups["agreement"].transform("mean"))
    for name in ("nll", "score"):
        both[[name, f"{name}_low", f"{name}_high"]] = seed_means(both, name)[["mean", "ci_low", "ci_high"]]
    settings = both.drop_duplicates(["method", "beta"]).sort_values(["method", "beta"]).reset_index(drop=True)
    several = settings["method"].nunique() > 1
    names = [
        method if np.isnan(beta) else f"{method} with beta {beta:g}" if several else f"beta {beta:g}"
        for method, beta in zip(settings["method"], settings["beta"], strict=True)
    ]
    settings.insert(0, "name", names)
    return settings[["name", "method", "beta", "n_seeds", *_INTERVALS, "agreement"]]


def _knee(front: pd.DataFrame, sign: float) -> tuple[pd.Series, bool]:
    """The setting farthest from the line between the ends, and whether it lies beyond that line."""
    nll, score = front["nll"].to_numpy(), sign * front["score"].to_numpy()
    ranges = nll[-1] - nll[0], score[-1] - score[0]
    if min(ranges) <= 0:
        return front.iloc[0], False
    gain = (nll[-1] - nll) / ranges[0] + (score - score[0]) / ranges[1]
    best = int(gain.argmax())
    # The ends have a gain of 1, and so has every point of the line between them.
    return (front.iloc[best], True) if gain[best] > 1 + 1e-9 else (front.iloc[0], False)


def _most_reproducible(group: pd.DataFrame, knee: pd.Series) -> pd.Series:
    """The tied setting whose seeds agree most; the knee where that is unknown, or no more than there."""
    known = group[group["agreement"].notna()]
    if known.empty or np.isnan(knee["agreement"]):
        return knee
    best = known.iloc[int(known["agreement"].to_numpy().argmax())]
    return best if best["agreement"] > knee["agreement"] + 1e-9 else knee


def _tie_broken(knee: pd.Series, chosen: pd.Series) -> str:
    """Why a setting other than the knee is recommended."""
    return (
        f"Recommended is {chosen['name']}: of the tied settings, its seeds agree most on their dimensions (mean absolute "
        f"correlation {chosen['agreement']:.2f}, compared with {knee['agreement']:.2f} for {knee['name']}); it has held-out NLL "
        f"{chosen['nll']:.1f} and score {chosen['score']:.2f}."
    )


def _why(front: pd.DataFrame, chosen: pd.Series, title: str, n_settings: int, *, is_knee: bool) -> str:
    """Where the knee is on the front."""
    name, best_nll, best_score = chosen["name"], front.iloc[0], front.iloc[-1]
    held = f"held-out NLL {chosen['nll']:.1f} nats per cell, {title} {chosen['score']:.2f}"
    if len(front) == 1:
        return f"{name} is best in both ({held})."
    of = f"Pareto front of held-out NLL against {title} ({', '.join(front['name'])}; {n_settings} settings in all)"
    if not is_knee:
        return (
            f"No knee detected on the {of}; returning the end with the lowest NLL, {name} ({held}). The other end, "
            f"{best_score['name']}, has NLL {best_score['nll']:.1f} and {title} {best_score['score']:.2f}."
        )
    return (
        f"{name} is at the knee of the {of}: {held}. Compared with the best likelihood ({best_nll['name']}) it loses "
        f"{chosen['nll'] - best_nll['nll']:.1f} nats for {abs(chosen['score'] - best_nll['score']):.2f} of the score; the "
        f"best score ({best_score['name']}) costs {best_score['nll'] - chosen['nll']:.1f} nats more for another "
        f"{abs(best_score['score'] - chosen['score']):.2f}."
    )


def _ties(settings: pd.DataFrame, tied: list[str]) -> str:
    """Which settings are tied with the knee."""
    if (settings["n_seeds"] < 2).all():
        return "There is one seed per setting, so no difference can be tested: train more seeds."
    if not tied:
        return "No other setting is tied with it: 95% intervals over seeds do not overlap in at least one of the two."
    few = " More seeds would narrow the intervals." if settings["n_seeds"].min() < 5 else ""
    if len(tied) == len(settings) - 1:
        return f"It is a tie: intervals over seeds overlap in both with every other setting ({', '.join(tied)}).{few}"
    return f"It is tied with {', '.join(tied)}: 95% intervals over seeds overlap in both.{few}"


def _baselines(scores: pd.DataFrame, chosen: pd.Series, title: str, sign: float) -> str:
    """How the best baseline compares."""
    rows = scores[scores["kind"] == "baseline"]
    if rows.empty:
        return ""
    best = rows.loc[(sign * rows["shown"]).idxmax()]
    comparison = "better" if sign * (best["shown"] - chosen["score"]) > 0 else "not better"
    return f"The best baseline, {best['method']}, has {title} {best['shown']:.2f}, {comparison} than this setting."
