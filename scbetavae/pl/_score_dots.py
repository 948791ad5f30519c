"""Scores as dots with intervals, on the range from null to ceiling; one panel per covariate."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scbetavae import metrics
from scbetavae._core import palette
from scbetavae.pl._figure import ROWS_ONLY, Picture, dot_handle, hide_spines, label_rows

SCORE_COLUMNS = ("metric", "covariate", "value", "null", "p_value", "ceiling", "ci_low", "ci_high")
_MAX_COLUMNS = 4
_SIGNIFICANT = 0.05
_RANGE, _RANGE_ENDS = palette.LIGHT, "#707070"
_ROW_HEIGHT, _SPACE = 0.17, 0.16  # inches of one dot and its range, and between metrics


def arrange_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Scores between 0 and 1, by covariate (all together first), metric and embedding, with a column ``title``."""
    records = metrics.SCORES
    bounded = [name not in records or records[name].highest <= 1 for name in table["metric"]]
    table = table[bounded].reset_index(drop=True)
    if table.empty:
        msg = "The table has no score between 0 and 1, so there is nothing to draw on a common axis."
        raise ValueError(msg)
    # Scores of single covariates first, then those of classes, then those of all covariates together.
    known = sorted(records.values(), key=lambda record: (not record.per_covariate, record.level == "class"))
    orders = {"covariate": ["all"], "metric": [record.name for record in known], "embedding": []}
    ranks = {
        name: table[name].map([*dict.fromkeys([*first, *table[name]])].index)
        for name, first in orders.items()
        if name in table
    }
    order = pd.DataFrame(ranks).sort_values(list(ranks), kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    own = table["metric"].str.replace("_", " ").str.capitalize()
    titles = [records[n].title if n in records else title for n, title in zip(table["metric"], own, strict=True)]
    table.insert(table.columns.tolist().index("metric") + 1, "title", titles)
    return table


def draw_panels(frame: pd.DataFrame, series: dict[str, str], column: str | None) -> Figure:
    """One panel per covariate, one row per metric, one line within it per series (name: color), told apart by ``column``."""
    covariates = list(dict.fromkeys(frame["covariate"]))
    n_columns = min(_MAX_COLUMNS, len(covariates))
    lines = [covariates[start : start + n_columns] for start in range(0, len(covariates), n_columns)]
    titles = [_titles(frame[frame["covariate"].isin(line)]) for line in lines]
    unit = _ROW_HEIGHT * len(series) + _SPACE
    heights = [len(names) * unit for names in titles]
    figure = Picture(1.5 + 2.3 * n_columns, sum(heights) + 0.6 * len(lines) + 0.4)
    lowest = float(np.nanmin([0.0, frame["value"].min(), frame["ci_low"].min()]))
    panels = figure.subplots(len(lines), n_columns, squeeze=False, height_ratios=heights)
    for line, names, row in zip(lines, titles, panels, strict=True):
        for axes, covariate in zip(row, line, strict=False):
            of_covariate = frame[(frame["covariate"] == covariate) & frame["title"].isin(names)]
            for position, (name, color) in enumerate(series.items()):
                rows = of_covariate if column is None else of_covariate[of_covariate[column] == name]
                shift = (position - (len(series) - 1) / 2) * _ROW_HEIGHT / unit
                _draw_series(axes, rows, rows["title"].map(names.index).to_numpy(float) + shift, color)
            axes.set_title("all covariates" if covariate == "all" else covariate, fontsize="medium")
            label_rows(axes, names if axes is row[0] else [""] * len(names))
            axes.set_xlim(lowest - 0.04, 1.04)
            axes.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
            axes.set_xlabel("score")
            hide_spines(axes, ROWS_ONLY)
            for height in np.arange(0.5, len(names) - 1):
                axes.axhline(height, color=palette.PALE, linewidth=0.8, zorder=0)
        for axes in row[len(line) :]:
            axes.remove()
    handles = _legend(frame, series, several=column is not None)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def _titles(frame: pd.DataFrame) -> list[str]:
    """Metrics of a line of panels: those that at least one of its covariates has, unless there are none."""
    defined = frame[frame["value"].notna()]
    return list(dict.fromkeys((frame if defined.empty else defined)["title"]))


def _draw_series(axes: Axes, rows: pd.DataFrame, heights: np.ndarray, color: str) -> None:
    """Dots, intervals and ranges of the rows."""
    for (_, row), height in zip(rows.iterrows(), heights, strict=True):
        if np.isnan(row["value"]):
            axes.text(0.02, height, "not defined", color=_RANGE_ENDS, fontsize="xx-small", va="center")
            continue
        ends, level = [row["null"], row["ceiling"]], [height, height]
        if ends[0] < ends[1]:
            axes.plot(ends, level, color=_RANGE, linewidth=6, solid_capstyle="butt", zorder=1)
        axes.plot(ends, level, color=_RANGE_ENDS, marker="|", linestyle="", markersize=6, zorder=2)
        axes.plot([row["ci_low"], row["ci_high"]], level, color=color, linewidth=1.6, zorder=3)
        fill = "white" if row["p_value"] >= _SIGNIFICANT else color
        axes.plot(row["value"], height, color=color, marker="o", markersize=5, markerfacecolor=fill, zorder=4)


def _legend(frame: pd.DataFrame, series: dict[str, str], *, several: bool) -> list[Line2D | Patch]:
    """A handle per series, for open circles and for the range."""
    first = next(iter(series.values()))
    names = series if several else {"value, 95% interval": first}
    handles: list[Line2D | Patch] = [dot_handle(name, color) for name, color in names.items()]
    if (frame["p_value"] >= _SIGNIFICANT).any():
        label = f"p ≥ {_SIGNIFICANT:g} under permutation"
        handles.append(dot_handle(label, palette.DARK if several else first, hollow=True))
    handles.append(Patch(facecolor=_RANGE, edgecolor=_RANGE_ENDS, linewidth=0.8, label="from null to ceiling"))
    return handles
