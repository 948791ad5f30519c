"""Held-out likelihood against one score, and the Pareto front."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from scbetavae import metrics
from scbetavae._core import palette
from scbetavae._core.sweep_table import finished_runs, on_front, rows_of, seed_means
from scbetavae.pl._beta_sweep import styles_of, title_and_unit, title_of_method
from scbetavae.pl._figure import hide_spines, single_panel

_RUN = ["kind", "method", "beta", "seed"]
_FRONT: dict[str, Any] = {"color": palette.BLACK, "linewidth": 0.9, "linestyle": (0, (4, 2))}


def tradeoff(
    sweep: pd.DataFrame,
    score: str = "mig",
    *,
    covariate: str | None = None,
    level: str | None = None,
    higher_is_better: bool | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot held-out negative log-likelihood against a score, with the seeds of a setting joined to their mean.

    The number next to a mean is beta. The line joins the settings of the Pareto front: no other setting is better in both, in
    means over seeds. Baselines have no likelihood of counts and are horizontal lines.

    Parameters
    ----------
    sweep, ax
        Result of :func:`scbetavae.sweep.beta_sweep`, and axes to draw on, by default of a new figure; they are returned.
    score, covariate, level, higher_is_better
        As in :func:`scbetavae.sweep.recommend_beta`, which chooses the setting at the knee, and with its errors.

    Examples
    --------
    >>> import pandas as pd, scbetavae
    >>> nll = pd.DataFrame({"beta": [1.0, 4.0, 10.0], "metric": "nll", "covariate": "", "value": [500.0, 502.0, 520.0]})
    >>> mig = pd.DataFrame({"beta": [1.0, 4.0, 10.0], "metric": "mig", "covariate": "all", "value": [0.1, 0.4, 0.3]})
    >>> constant = {"kind": "model", "method": "beta_vae", "seed": 0, "level": "", "normalized": None, "status": "done"}
    >>> sweep = pd.concat([nll, mig]).assign(**constant)
    >>> axes = scbetavae.pl.tradeoff(sweep)
    >>> axes.get_xlabel()
    'held-out NLL (nats per cell)'
    """
    frame = _frame(sweep, score, covariate, level, higher_is_better)
    axes = single_panel(5.2, 4.2, ax)
    styles = styles_of(frame)
    models, baselines = frame[frame["kind"] == "model"], frame[frame["kind"] == "baseline"]
    front = models[models["on_front"]].drop_duplicates(["method", "beta"]).sort_values("mean_nll")
    axes.plot(front["mean_nll"], front["mean_score"], zorder=2, **_FRONT)
    for (method, beta), seeds in models.groupby(["method", "beta"], sort=False, dropna=False):
        _draw_setting(axes, seeds, float(str(beta)), styles[str(method)][0])
    for method, value in zip(baselines["method"], baselines["score"], strict=True):
        color, style = styles[method]
        axes.axhline(value, color=color, linestyle=style, linewidth=1.2, zorder=1)
    axes.margins(0.09)
    axes.set_xlabel("held-out NLL (nats per cell)")
    axes.set_ylabel(", ".join(title_and_unit(rows_of(finished_runs(sweep), score, covariate, level))))
    hide_spines(axes)
    handles = []
    for method, (color, style) in styles.items():
        line: dict[str, Any] = {"marker": "o", "linestyle": ""} if style == "-" else {"linestyle": style}
        handles.append(Line2D([], [], color=color, label=title_of_method(method), **line))
    handles.append(Line2D([], [], label="Pareto front", **_FRONT))
    axes.legend(handles=handles, frameon=False, fontsize="small", title="numbers are beta", title_fontsize="small")
    return axes


def _frame(
    sweep: pd.DataFrame,
    score: str = "mig",
    covariate: str | None = None,
    level: str | None = None,
    higher_is_better: bool | None = None,
) -> pd.DataFrame:
    """One row per run: its NLL and score, their means over the seeds of the setting, and whether that is on the front."""
    done = finished_runs(sweep)
    likelihood = done.loc[done["metric"] == "nll", [*_RUN, "value"]].rename(columns={"value": "nll"})
    frame = rows_of(done, score, covariate, level)[[*_RUN, "shown"]].rename(columns={"shown": "score"})
    frame = frame.astype({"score": float}).merge(likelihood, on=_RUN, how="left")
    frame = frame[(frame["kind"] == "baseline") | frame["nll"].notna()].reset_index(drop=True)
    if not (frame["kind"] == "model").any():
        msg = f"No model of the sweep has both a held-out likelihood and {score!r}, so there is nothing to draw."
        raise ValueError(msg)
    for name in ("nll", "score"):
        frame[f"mean_{name}"] = seed_means(frame, name)["mean"]
    record = metrics.SCORES.get(score)
    higher = (record is None or record.higher_is_better) if higher_is_better is None else higher_is_better
    on_line = on_front(frame["mean_nll"].to_numpy(), frame["mean_score"].to_numpy() * (1 if higher else -1))
    return frame.assign(on_front=on_line)


def _draw_setting(axes: Axes, seeds: pd.DataFrame, beta: float, color: str) -> None:
    """Seeds as small dots, joined to their mean, and beta next to it."""
    center = seeds["mean_nll"].iloc[0], seeds["mean_score"].iloc[0]
    for nll, score in zip(seeds["nll"], seeds["score"], strict=True):
        axes.plot([center[0], nll], [center[1], score], color=color, alpha=0.45, linewidth=0.9, zorder=3)
    axes.scatter(seeds["nll"], seeds["score"], s=10, color=color, alpha=0.6, linewidth=0, zorder=4)
    axes.scatter(*center, s=38, color=color, edgecolor="white", linewidth=0.7, zorder=5)
    if np.isfinite(beta):
        around = [withStroke(linewidth=2.5, foreground="white")]  # readable over lines
        text = {"textcoords": "offset points", "fontsize": "small", "path_effects": around}
        axes.annotate(f"{beta:g}", center, (5, 5), zorder=4.5, **text)  # under the dots of other settings
