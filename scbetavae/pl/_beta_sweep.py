"""A sweep over beta: likelihood, active dimensions and scores, one panel per quantity."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from scbetavae import metrics as _metrics
from scbetavae._core import palette
from scbetavae._core.checks import as_list
from scbetavae._core.sweep_table import finished_runs, rows_of, seed_means
from scbetavae.pl._figure import dot_handle, hide_spines, panel_grid

# What a sweep measures besides scores: title and unit; braces stand for the covariate. Titles of scores are in their records.
_QUANTITIES = {
    "nll": ("Held-out NLL", "nats per cell"),
    "kl": ("KL from the prior", "nats per cell"),
    "negative_elbo": ("Held-out negative ELBO", "nats per cell"),
    "active_dimensions": ("Active dimensions", "latent dimensions"),
    "collapsed": ("Collapsed", "share of seeds"),
    "gaussian_total_correlation": ("Total correlation", "nats"),
    "agreement": ("Agreement of seeds", "mean |Spearman|"),
    "udr": ("UDR (seeds agree)", ""),
    "kmeans_ari": ("k-means ARI, {}", "ARI"),
    "knn_accuracy": ("k-NN accuracy, {}", "accuracy"),
    "ilisi": ("Mixing of {}", "iLISI"),
    "seconds": ("Training time", "seconds"),
    "scoring_seconds": ("Scoring time", "seconds"),
    "peak_memory": ("Peak memory", "MiB"),
    "peak_gpu_memory": ("Peak GPU memory", "MiB"),
    "epochs": ("Training", "epochs"),
    "steps": ("Training", "minibatches"),
}
_FIRST = ("nll", "kl", "active_dimensions", "gaussian_total_correlation", "mig", "sap", "dci_completeness", "lms")
_LAST = ("agreement", "kmeans_ari", "knn_accuracy", "ilisi")
_ON_REQUEST = ("dci_disentanglement", "dci_informativeness", "modularity", "dcimig", "mig_sup", "explicitness")
_BASELINES = {"pca": ("PCA", (palette.DARK, "--")), "ica": ("ICA", (palette.MIDDLE, ":"))}
_LOWEST_SHARE = 0.5  # of models that collapsed, from which a beta is shaded


def beta_sweep(
    sweep: pd.DataFrame, *, metrics: str | Iterable[str] | None = None, covariate: str | None = None
) -> Figure:
    """Plot the models of a sweep against beta: a Figure with one panel per quantity, up to four per row.

    A dot is a seed, the line the mean and the band its 95% t interval. Baselines and objectives without beta are horizontal
    lines. An open circle is a model that collapsed (fewer than two active dimensions); a beta is shaded where at least half
    of the models did. Bands may extend beyond their panel where seeds are few.

    Parameters
    ----------
    sweep
        Result of :func:`scbetavae.sweep.beta_sweep`; without its columns a KeyError, without a finished run a ValueError.
    metrics
        Quantities to draw, in their order; by default likelihood, KL, active dimensions, total correlation, the main scores and
        your own registered ones, as far as the sweep has them.
    covariate
        Covariate of the scores; by default all together.

    Examples
    --------
    >>> import pandas as pd, scbetavae
    >>> constant = {
    ...     "kind": "model",
    ...     "method": "beta_vae",
    ...     "metric": "nll",
    ...     "covariate": "",
    ...     "level": "",
    ...     "normalized": None,
    ... }
    >>> runs = {
    ...     "beta": [0.5, 0.5, 4.0, 4.0],
    ...     "seed": [0, 1, 0, 1],
    ...     "value": [500.0, 501.0, 510.0, 512.0],
    ...     "status": "done",
    ... }
    >>> sweep = pd.DataFrame(runs | constant)
    >>> figure = scbetavae.pl.beta_sweep(sweep)
    >>> [axes.get_title() for axes in figure.axes]
    ['Held-out NLL']
    """
    frame = _frame(sweep, metrics, covariate)
    parts = dict(iter(frame.groupby("panel", sort=False)))
    padding = 0.0 if len(parts) > 1 else 1.5  # the legend needs the room
    figure, panels, n_columns = panel_grid(len(parts), 4, 2.7, 2.25, extra=(padding, 0.5), w_pad=0.06, h_pad=0.06)
    styles = styles_of(frame)
    for place, (axes, part) in enumerate(zip(panels, parts.values(), strict=True)):
        _draw_panel(axes, part, styles, labeled=place >= len(parts) - n_columns)
    figure.legend(handles=_legend(frame, styles), loc="outside lower center", ncols=5, frameon=False, fontsize="small")
    return figure


def _frame(
    sweep: pd.DataFrame, metrics: str | Iterable[str] | None = None, covariate: str | None = None
) -> pd.DataFrame:
    """One row per run and quantity: panel, unit, value, mean and interval over seeds, and whether the model collapsed."""
    done = finished_runs(sweep)
    parts = []
    for rows in _chosen_rows(done, metrics, covariate):
        title, unit = title_and_unit(rows)
        part = rows[["metric", "covariate", "kind", "method", "beta", "seed"]].assign(value=rows["shown"].astype(float))
        parts.append(part.assign(panel=title, unit=unit).join(seed_means(part, "value")))
    frame = pd.concat(parts, ignore_index=True)
    collapsed = done[(done["metric"] == "collapsed") & (done["value"] > 0)]
    runs = (
        pd.MultiIndex.from_frame(rows[["method", "beta", "seed"]].fillna({"beta": -1.0})) for rows in (frame, collapsed)
    )
    return frame.assign(collapsed=next(runs).isin(next(runs)))


def _chosen_rows(done: pd.DataFrame, metrics: str | Iterable[str] | None, covariate: str | None) -> list[pd.DataFrame]:
    """Rows of every panel."""
    present = set(done["metric"])
    chosen = []
    own = [name for name in _metrics.SCORES if name not in (*_QUANTITIES, *_FIRST, *_LAST, *_ON_REQUEST)]
    usual = [name for name in (*_FIRST, *own, *_LAST) if name in present]
    for name in usual if metrics is None else as_list(metrics):
        columns = list(dict.fromkeys(done.loc[done["metric"] == name, "covariate"]))
        if metrics is None and name == "knn_accuracy" and "kmeans_ari" in present:
            labels = set(done.loc[done["metric"] == "kmeans_ari", "covariate"])
            columns = [column for column in columns if column in labels]  # that of the batch says the same as iLISI
        if covariate in columns:
            columns = [covariate]
        elif "all" in columns or not columns:
            columns = [None]
        chosen += [rows_of(done, name, column) for column in columns]
    drawn = [rows for rows in chosen if len(rows)]
    if not drawn:
        msg = "None of the quantities has a value in a finished run, so there is nothing to draw."
        raise ValueError(msg)
    return drawn


def _draw_panel(axes: Axes, frame: pd.DataFrame, styles: dict[str, tuple[str, str]], *, labeled: bool) -> None:
    """Dots of seeds, means, bands and horizontal lines."""
    betas = np.sort(frame["beta"].dropna().unique())
    if len(betas):
        _scale_betas(axes, frame, betas)
    else:
        axes.set_xticks([])
    for method, rows in frame.groupby("method", sort=False):
        color, style = styles[str(method)]
        level = rows[rows["beta"].isna()]
        if len(level):
            dashed = style if (level["kind"] == "baseline").all() else "-."
            axes.axhline(level["mean"].iloc[0], color=color, linestyle=dashed, linewidth=1.2, zorder=2)
        curve = rows[rows["beta"].notna()].sort_values(["beta", "seed"])
        means = curve.drop_duplicates("beta")
        band = means["beta"], means["ci_low"], means["ci_high"]
        axes.fill_between(*band, color=color, alpha=0.18, linewidth=0, zorder=1)
        axes.plot(means["beta"], means["mean"], color=color, linewidth=1.5, zorder=3)
        for hollow, points in curve.groupby("collapsed"):
            face = "white" if hollow else color
            axes.scatter(points["beta"], points["value"], s=13, color=face, edgecolor=color, linewidth=0.9, zorder=4)
    _limit_values(axes, frame)
    axes.set_title(frame["panel"].iloc[0], fontsize="medium")
    axes.set_ylabel(frame["unit"].iloc[0], fontsize="small")
    axes.set_xlabel("beta" if labeled else "", fontsize="small")
    axes.tick_params(labelsize="small")
    hide_spines(axes)


def _scale_betas(axes: Axes, frame: pd.DataFrame, betas: np.ndarray) -> None:
    """A logarithmic axis with a tick at every beta, and zero at its left end; where models collapsed it is shaded."""
    positive = betas[betas > 0]
    if len(positive) < len(betas):
        smallest = positive.min() if len(positive) else 1.0
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.5)
        left = -0.3 * smallest
    else:
        axes.set_xscale("log")
        left = betas[0] / 1.35
    axes.set_xlim(left, max(betas[-1], 1e-9) * 1.35)
    apart: list[float] = []  # betas whose labels do not overlap
    for beta in betas:
        if not apart or beta > 1.6 * apart[-1]:
            apart.append(float(beta))
    axes.xaxis.set_major_locator(FixedLocator(apart))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    # Betas at which at least half of the models collapsed are shaded, halfway to their neighbors.
    share = frame[frame["beta"].notna()].groupby("beta")["collapsed"].mean()
    edges = np.r_[left, [math.sqrt(a * b) if a > 0 else b / 2 for a, b in pairwise(betas)], axes.get_xlim()[1]]
    for position, beta in enumerate(betas):
        if share[beta] >= _LOWEST_SHARE:
            axes.axvspan(edges[position], edges[position + 1], color=palette.PALE, linewidth=0, zorder=0)


def _limit_values(axes: Axes, frame: pd.DataFrame) -> None:
    """Limits that show all values, and bands as far as they do not dwarf them."""
    lowest, highest = frame["value"].min(), frame["value"].max()
    room = 0.25 * max(highest - lowest, 1e-3 * abs(highest), 1e-6)
    low = max(np.nanmin([lowest, frame["ci_low"].min()]), lowest - room)
    high = min(np.nanmax([highest, frame["ci_high"].max()]), highest + room)
    axes.set_ylim(low - 0.2 * room, high + 0.2 * room)
    if frame["metric"].iloc[0] == "active_dimensions":
        axes.set_ylim(0, highest + 0.5)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def _legend(frame: pd.DataFrame, styles: dict[str, tuple[str, str]]) -> list[Line2D | Patch]:
    """A handle per method, and one for the bands and the open circles."""
    handles: list[Line2D | Patch] = []
    for method, (color, style) in styles.items():
        rows = frame[frame["method"] == method]
        title = title_of_method(method)
        if rows["beta"].notna().any():
            handles.append(dot_handle(title, color, markersize=3.6))
        else:
            dashed: Any = style if (rows["kind"] == "baseline").all() else "-."
            handles.append(Line2D([], [], color=color, label=title, linestyle=dashed))
    if frame["ci_low"].notna().any() and (frame["kind"] == "model").any():
        handles.append(Patch(color=palette.BLUE, alpha=0.18, linewidth=0, label="95% interval over seeds"))
    if frame["collapsed"].any():
        handles.append(dot_handle("collapsed", palette.BLUE, hollow=True, linestyle="", markersize=3.6))
    return handles


def title_and_unit(rows: pd.DataFrame) -> tuple[str, str]:
    """Title and unit of the quantity of these rows."""
    metric, against, column = rows[["metric", "covariate", "column"]].iloc[0]
    own_title = getattr(_metrics.SCORES.get(metric), "title", metric.replace("_", " ").capitalize())
    title, unit = _QUANTITIES.get(metric, (own_title, ""))
    if "{}" in title:
        title = title.format(against)
    elif against not in ("", "all"):
        title = f"{title}, {against}"
    return title, unit or ("normalized score" if column == "normalized" else "score")


def styles_of(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Color and line style of every method; baselines are gray."""
    models, baselines = (
        list(dict.fromkeys(rows.loc[rows["kind"] == kind, "method"])) for kind in ("model", "baseline")
    )
    styles = {name: (color, "-") for name, color in zip(models, palette.colors(len(models)), strict=True)}
    return styles | {name: _BASELINES.get(name, ("", (palette.MIDDLE, ":")))[1] for name in baselines}


def title_of_method(method: str) -> str:
    """Title of an objective or a baseline."""
    from scbetavae import module  # torch loads with it

    return _BASELINES[method][0] if method in _BASELINES else getattr(module.OBJECTIVES.get(method), "title", method)
