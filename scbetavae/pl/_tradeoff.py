"""What a score costs: held-out likelihood against one score, and the Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from scbetavae.pl._figure import single_panel
from scbetavae.pl._sweep_tables import (
    colors_of,
    finished_runs,
    rows_of,
    title_and_unit,
    title_of_method,
    with_means,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOWER_IS_BETTER = ("gaussian_total_correlation",)
_FRONT = "#000000"


def tradeoff(
    sweep: pd.DataFrame,
    score: str = "mig",
    *,
    covariate: str | None = None,
    level: str | None = None,
    higher_is_better: bool | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw held-out negative log-likelihood against a score, the seeds of a setting joined at their mean.

    The number beside a mean is beta. The line joins the settings of the Pareto front: no other setting is better in both, in
    means over seeds. Baselines have no likelihood of counts and are level lines.

    Parameters
    ----------
    sweep
        What :func:`scbetavae.sweep.beta_sweep` returns.
    score
        Name of a score, of the column ``metric``.
    covariate
        What it was scored against; unless given, all together, or the only one there is.
    level
        Level of the score, where it has several.
    higher_is_better
        Direction of the score; unless given, lower is better for total correlation, higher for all others.
    ax
        Where to draw; a new figure unless given.

    Returns
    -------
    Axes
        Likelihood to the right, score upwards.

    Raises
    ------
    KeyError
        If the data frame is not that of a sweep.
    ValueError
        If no run is finished, no model has such a score and a likelihood, or there are too many methods.

    See Also
    --------
    tradeoff_frame : the data behind this picture.
    scbetavae.sweep.recommend_beta : the setting at the knee.

    Examples
    --------
    >>> import pandas as pd
    >>> import scbetavae
    >>> rows = [
    ...     {"beta": beta, "seed": 0, "metric": metric, "covariate": covariate, "value": value}
    ...     for beta, nll, mig in [(1.0, 500.0, 0.1), (4.0, 502.0, 0.4), (10.0, 520.0, 0.3)]
    ...     for metric, covariate, value in (("nll", "", nll), ("mig", "all", mig))
    ... ]
    >>> sweep = pd.DataFrame(rows).assign(kind="model", method="beta_vae", level="", normalized=None, status="done")
    >>> axes = scbetavae.pl.tradeoff(sweep)
    >>> axes.get_xlabel()
    'held-out NLL (nats per cell)'
    """
    frame = tradeoff_frame(sweep, score, covariate=covariate, level=level, higher_is_better=higher_is_better)
    axes = single_panel(5.2, 4.2) if ax is None else ax
    styles = colors_of(frame)
    models, baselines = frame[frame["kind"] == "model"], frame[frame["kind"] == "baseline"]
    front = models[models["on_front"]].drop_duplicates(["method", "beta"]).sort_values("mean_nll")
    axes.plot(front["mean_nll"], front["mean_score"], color=_FRONT, linewidth=0.9, linestyle=(0, (4, 2)), zorder=2)
    for method, rows in models.groupby("method", sort=False):
        color, _ = styles[method]
        for _, seeds in rows.groupby("beta", dropna=False):
            _draw_setting(axes, seeds, color)
    for row in baselines.itertuples():
        color, style = styles[row.method]
        axes.axhline(row.score, color=color, linestyle=style, linewidth=1.2, zorder=1)
    axes.margins(0.09)
    axes.set_xlabel("held-out NLL (nats per cell)")
    axes.set_ylabel(frame.attrs["title"])
    axes.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D(
            [],
            [],
            color=color,
            marker="o" if style == "-" else None,
            linestyle="" if style == "-" else style,
            label=title,
        )
        for method, (color, style) in styles.items()
        for title in (title_of_method(method),)
    ]
    handles.append(Line2D([], [], color=_FRONT, linewidth=0.9, linestyle=(0, (4, 2)), label="Pareto front"))
    axes.legend(handles=handles, frameon=False, fontsize="small", title="numbers are beta", title_fontsize="small")
    return axes


def tradeoff_frame(
    sweep: pd.DataFrame,
    score: str = "mig",
    *,
    covariate: str | None = None,
    level: str | None = None,
    higher_is_better: bool | None = None,
) -> pd.DataFrame:
    """What :func:`tradeoff` draws, a row a run.

    Parameters
    ----------
    sweep
        What :func:`scbetavae.sweep.beta_sweep` returns.
    score, covariate, level, higher_is_better
        As for :func:`tradeoff`.

    Returns
    -------
    DataFrame
        Columns ``kind``, ``method``, ``beta``, ``seed``, ``nll`` (NaN for baselines), ``score`` (adjusted where there are
        adjusted scores), ``mean_nll``, ``mean_score`` and ``on_front``.

    Raises
    ------
    KeyError
        If the data frame is not that of a sweep.
    ValueError
        If no run is finished, or no model has such a score and a likelihood.

    Examples
    --------
    >>> import pandas as pd
    >>> import scbetavae
    >>> rows = [
    ...     {"beta": beta, "seed": 0, "metric": metric, "covariate": covariate, "value": value}
    ...     for beta, nll, mig in [(1.0, 500.0, 0.1), (4.0, 502.0, 0.4), (10.0, 520.0, 0.3)]
    ...     for metric, covariate, value in (("nll", "", nll), ("mig", "all", mig))
    ... ]
    >>> sweep = pd.DataFrame(rows).assign(kind="model", method="beta_vae", level="", normalized=None, status="done")
    >>> scbetavae.pl.tradeoff_frame(sweep)["on_front"].tolist()
    [True, True, False]
    """
    done = finished_runs(sweep)
    rows = rows_of(done, score, covariate, level)
    keys = ["kind", "method", "beta", "seed"]
    likelihood = done.loc[done["metric"] == "nll", [*keys, "value"]].rename(columns={"value": "nll"})
    frame = rows[[*keys, "shown"]].rename(columns={"shown": "score"}).astype({"score": float})
    frame = frame.merge(likelihood, on=keys, how="left")
    frame = frame[(frame["kind"] == "baseline") | frame["nll"].notna()].reset_index(drop=True)
    if not (frame["kind"] == "model").any():
        msg = f"No model of the sweep has both a held-out likelihood and {score!r}, so there is nothing to draw."
        raise ValueError(msg)
    for name in ("nll", "score"):
        frame[f"mean_{name}"] = with_means(frame, name)["mean"]
    better = score not in _LOWER_IS_BETTER if higher_is_better is None else higher_is_better
    frame["on_front"] = _on_front(frame["mean_nll"].to_numpy(), frame["mean_score"].to_numpy() * (1 if better else -1))
    title, unit = title_and_unit(rows)
    frame.attrs["title"] = f"{title}, {unit}"
    return frame[[*keys, "nll", "score", "mean_nll", "mean_score", "on_front"]]


def _on_front(nll: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Settings that no other beats, as in scbetavae.sweep.recommend_beta; comparisons with NaN are false."""
    no_worse = (nll[None] <= nll[:, None]) & (score[None] >= score[:, None])
    better = (nll[None] < nll[:, None]) | (score[None] > score[:, None])
    return ~(no_worse & better).any(axis=1) & np.isfinite(nll)


def _draw_setting(axes: Axes, seeds: pd.DataFrame, color: str) -> None:
    """Seeds as small dots, joined with their mean, which has beta written beside it."""
    center = seeds["mean_nll"].iloc[0], seeds["mean_score"].iloc[0]
    for seed in seeds.itertuples():
        axes.plot([center[0], seed.nll], [center[1], seed.score], color=color, alpha=0.45, linewidth=0.9, zorder=3)
    axes.scatter(seeds["nll"], seeds["score"], s=10, color=color, alpha=0.6, linewidth=0, zorder=4)
    axes.scatter(*center, s=38, color=color, edgecolor="white", linewidth=0.7, zorder=5)
    beta = seeds["beta"].iloc[0]
    if np.isfinite(beta):
        around = [withStroke(linewidth=2.5, foreground="white")]  # legible over lines
        text = {"xytext": (5, 5), "textcoords": "offset points", "fontsize": "small", "path_effects": around}
        axes.annotate(f"{beta:g}", center, zorder=4.5, **text)  # under the dots of other settings
