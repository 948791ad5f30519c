"""Scores as dots with intervals, on the range from null to ceiling; one panel a covariate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scbetavae.pl._figure import Picture

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_COLUMNS = 4
_SIGNIFICANT = 0.05
_RANGE = "#E4E4E4"
_RANGE_ENDS = "#707070"
_ROW_HEIGHT = 0.17  # inches of one dot and its range
_SPACE = 0.16  # inches between metrics


def draw_panels(frame: pd.DataFrame, series: dict[str, str], column: str | None) -> Figure:
    """One panel a covariate, one row a metric, one line within it a series.

    Parameters
    ----------
    frame
        What :func:`~scbetavae.pl._score_tables.arrange_scores` returns.
    series
        Color of every series.
    column
        Column that tells the series apart; ``None`` for one series.
    """
    covariates = list(dict.fromkeys(frame["covariate"]))
    n_columns = min(_MAX_COLUMNS, len(covariates))
    lines = [covariates[start : start + n_columns] for start in range(0, len(covariates), n_columns)]
    titles = [_titles(frame[frame["covariate"].isin(line)]) for line in lines]
    heights = [len(names) * (_ROW_HEIGHT * len(series) + _SPACE) for names in titles]
    figure = Picture(1.5 + 2.3 * n_columns, sum(heights) + 0.6 * len(lines) + 0.4)
    lowest = float(np.nanmin([0.0, frame["value"].min(), frame["ci_low"].min()]))
    panels = figure.subplots(len(lines), n_columns, squeeze=False, height_ratios=heights)
    for line, names, row in zip(lines, titles, panels, strict=True):
        for axes, covariate in zip(row, line, strict=False):
            of_covariate = frame[(frame["covariate"] == covariate) & frame["title"].isin(names)]
            for position, (name, color) in enumerate(series.items()):
                rows = of_covariate if column is None else of_covariate[of_covariate[column] == name]
                _draw_series(axes, rows, _positions(rows, names, position, len(series)), color)
            axes.set_title("all covariates" if covariate == "all" else covariate, fontsize="medium")
            _style(axes, names, lowest, labeled=axes is row[0])
        for axes in row[len(line) :]:
            axes.remove()
    figure.legend(
        handles=_legend(frame, series, column), loc="outside lower center", ncols=3, frameon=False, fontsize="small"
    )
    return figure


def _titles(frame: pd.DataFrame) -> list[str]:
    """Metrics of a line of panels: those that at least one of its covariates has, unless there are none."""
    defined = frame[frame["value"].notna()]
    return list(dict.fromkeys((frame if defined.empty else defined)["title"]))


def _positions(rows: pd.DataFrame, titles: list[str], position: int, n_series: int) -> np.ndarray:
    """Heights of the rows; a metric takes one unit."""
    unit = _ROW_HEIGHT / (_ROW_HEIGHT * n_series + _SPACE)
    return rows["title"].map(titles.index).to_numpy(float) + (position - (n_series - 1) / 2) * unit


def _draw_series(axes: Axes, rows: pd.DataFrame, heights: np.ndarray, color: str) -> None:
    for row, height in zip(rows.itertuples(), heights, strict=True):
        if np.isnan(row.value):
            axes.text(0.02, height, "not defined", color=_RANGE_ENDS, fontsize="xx-small", va="center")
            continue
        if row.null < row.ceiling:
            axes.plot(
                [row.null, row.ceiling], [height, height], color=_RANGE, linewidth=6, solid_capstyle="butt", zorder=1
            )
        ends = [row.null, row.ceiling]
        axes.plot(ends, [height, height], color=_RANGE_ENDS, marker="|", linestyle="", markersize=6, zorder=2)
        axes.plot([row.ci_low, row.ci_high], [height, height], color=color, linewidth=1.6, zorder=3)
        above_null = not row.p_value >= _SIGNIFICANT
        axes.plot(
            row.value,
            height,
            color=color,
            marker="o",
            markersize=5,
            markerfacecolor=color if above_null else "white",
            zorder=4,
        )


def _style(axes: Axes, titles: list[str], lowest: float, *, labeled: bool) -> None:
    axes.set_yticks(range(len(titles)), titles if labeled else [""] * len(titles))
    axes.set_xlabel("score")
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_xlim(lowest - 0.04, 1.04)
    axes.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
    for height in np.arange(0.5, len(titles) - 1):
        axes.axhline(height, color="#F0F0F0", linewidth=0.8, zorder=0)


def _legend(frame: pd.DataFrame, series: dict[str, str], column: str | None) -> list[Line2D | Patch]:
    several = column is not None
    names = series if several else {"value, 95% interval": next(iter(series.values()))}
    handles = [Line2D([], [], color=color, marker="o", markersize=5, label=name) for name, color in names.items()]
    if (frame["p_value"] >= _SIGNIFICANT).any():
        color = "#404040" if several else next(iter(series.values()))
        label = f"p ≥ {_SIGNIFICANT:g} under permutation"
        handles.append(Line2D([], [], color=color, marker="o", markersize=5, markerfacecolor="white", label=label))
    handles.append(Patch(facecolor=_RANGE, edgecolor=_RANGE_ENDS, linewidth=0.8, label="from null to ceiling"))
    return handles
