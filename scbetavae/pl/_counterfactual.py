"""Predicted against observed means of every gene, beside the baselines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from scbetavae._core import keys as _keys
from scbetavae.pl._figure import Picture
from scbetavae.pl._score_tables import read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = ("group", "gene", "source", "target", "predicted", "mean_shift", "rank", "held_out")
_MAKE = "predicted = model.counterfactual(covariate, source, target, groupby=...)"
_PANELS_A_ROW = 3
_COLORS = {"do_nothing": "#BBBBBB", "mean_shift": "#E69F00", "prediction": "#0072B2"}  # drawn in this order
_NAMES = {"do_nothing": "do nothing", "mean_shift": "mean shift", "prediction": "prediction"}
_MARKERS = {"do_nothing": "o", "mean_shift": "^", "prediction": "o"}


def counterfactual(
    data: AnnData | pd.DataFrame, *, n_labels: int = 8, n_differential: int = 50, key: str = _keys.COUNTERFACTUAL
) -> Figure:
    """Draw predicted against observed means of every gene, a panel a group.

    Each point is a gene: across, its mean over the real target cells; up, its mean as predicted (blue). A perfect prediction
    lies on the diagonal. For the genes that differ most between source and target, gray points are the source cells unchanged and
    orange triangles the mean shift, with a line from unchanged to predicted. The error ratios of all genes are
    printed: 0 is perfect, 1 is to do nothing.

    Parameters
    ----------
    data
        What ``BetaVAE.counterfactual`` returned, or its table of genes.
    n_labels
        How many of the genes that differ most are named, at least 0.
    n_differential
        For how many of these genes the baselines are drawn, at least 1.
    key
        Name under which the results are stored.

    Returns
    -------
    Figure
        Three panels a row, those of held-out groups first. A group without target cells has no panel.

    Raises
    ------
    KeyError
        If there are no results under ``key``.
    ValueError
        If no group has real target cells, or a number is out of range.

    See Also
    --------
    counterfactual_frame : the data behind this picture.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import scbetavae
    >>> table = pd.DataFrame({"group": "B", "gene": list("abc"), "rank": [1, 2, 3], "held_out": True})
    >>> table = table.assign(source=[0.0, 1.0, 2.0], target=[2.0, 1.5, 2.0], predicted=[1.5, 1.5, 2.0], mean_shift=2.0)
    >>> figure = scbetavae.pl.counterfactual(table)
    >>> figure.axes[0].get_title()
    'B'
    """
    for name, value, least in (("n_labels", n_labels, 0), ("n_differential", n_differential, 1)):
        if not isinstance(value, (int, np.integer)) or value < least:
            msg = f"{name}={value!r} is not a whole number of at least {least}."
            raise ValueError(msg)
    frame = counterfactual_frame(data, key=key)
    groups = list(dict.fromkeys(frame["group"]))
    n_columns = min(_PANELS_A_ROW, len(groups))
    n_rows = math.ceil(len(groups) / n_columns)
    figure = Picture(4.2 * n_columns + 0.4, 3.6 * n_rows + 0.6)
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, group in zip(all_axes, groups, strict=False):
        _draw_group(axes, frame[frame["group"] == group], n_labels, n_differential)
    for axes in all_axes[len(groups) :]:
        axes.remove()
    for axes in figure.axes:
        axes.set_xlabel("observed in target cells")
    for axes in all_axes[::n_columns][: math.ceil(len(groups) / n_columns)]:
        axes.set_ylabel("predicted, or baseline")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=3, frameon=False)
    figure.supxlabel("mean over cells of log(1 + counts per 10 000)", fontsize="small", color="#555555")
    return figure


def counterfactual_frame(data: AnnData | pd.DataFrame, *, key: str = _keys.COUNTERFACTUAL) -> pd.DataFrame:
    """Gene-wise means in the order in which :func:`counterfactual` draws them.

    Parameters
    ----------
    data
        What ``BetaVAE.counterfactual`` returned, or its table of genes.
    key
        Name under which the results are stored.

    Returns
    -------
    DataFrame
        A row a group, gene and method: ``group``, ``held_out``, ``gene``, ``rank`` (1: the gene that differs most between source
        and target), ``method`` (``"prediction"``, ``"mean_shift"``, ``"do_nothing"``), ``observed`` and ``predicted`` (means over
        cells of log(1 + counts per 10 000)), and ``relative_error`` of the method in the group over all genes. Held-out groups
        first; groups without target cells are left out.

    Raises
    ------
    KeyError
        If there are no results under ``key``.
    ValueError
        If no group has real target cells.
    """
    table = read_table(data, key, _COLUMNS, _MAKE, _keys.GENES_SUFFIX)
    table = table[table["target"].notna()]
    if table.empty:
        msg = "No group has real target cells, so there is nothing to compare the prediction with."
        raise ValueError(msg)
    parts = []
    for method, column in (("prediction", "predicted"), ("mean_shift", "mean_shift"), ("do_nothing", "source")):
        part = table[["group", "held_out", "gene", "rank"]].assign(method=method, observed=table["target"])
        parts.append(part.assign(predicted=table[column], _change=table["source"] - table["target"]))
    frame = pd.concat(parts, ignore_index=True)
    squares = frame.assign(_error=(frame["predicted"] - frame["observed"]) ** 2, _scale=frame["_change"] ** 2)
    sums = squares.groupby(["group", "method"], sort=False)[["_error", "_scale"]].transform("sum")
    frame["relative_error"] = sums["_error"] / sums["_scale"].where(sums["_scale"] > 0)
    order = {group: i for i, group in enumerate(dict.fromkeys(table["group"]))}
    places = pd.DataFrame({"seen": ~frame["held_out"].astype(bool), "group": frame["group"].map(order)})
    ordered = frame.loc[places.sort_values(["seen", "group"], kind="stable").index]
    return ordered.drop(columns="_change").reset_index(drop=True)


def _draw_group(axes: Axes, part: pd.DataFrame, n_labels: int, n_differential: int) -> None:
    by_method = {name: part[part["method"] == name].set_index("gene") for name in _COLORS}
    top = {name: rows[rows["rank"] <= n_differential] for name, rows in by_method.items()}
    start, end = top["do_nothing"], top["prediction"]
    axes.vlines(end["observed"], start["predicted"], end["predicted"], color="#D9D9D9", linewidth=0.7, zorder=1)
    texts = []
    for name, color in _COLORS.items():
        rows = by_method[name] if name == "prediction" else top[name]
        axes.plot(
            rows["observed"],
            rows["predicted"],
            _MARKERS[name],
            color=color,
            markersize=3.5,
            markeredgewidth=0,
            label=_NAMES[name],
            zorder=2 + list(_COLORS).index(name),
        )
        texts.append(f"{_NAMES[name]} {rows['relative_error'].iloc[0]:.2f}")
    highest = 1.06 * max(part["observed"].max(), part["predicted"].max(), 1e-9)
    axes.plot([0, highest], [0, highest], color="black", linewidth=0.7, zorder=1)
    axes.set_xlim(-0.03 * highest, highest)
    axes.set_ylim(-0.03 * highest, highest)
    axes.set_aspect("equal")
    axes.text(
        0.03, 0.97, "error ratio\n" + "\n".join(texts[::-1]), transform=axes.transAxes, va="top", fontsize="x-small"
    )
    held_out = bool(part["held_out"].iloc[0])
    axes.set_title(part["group"].iloc[0] + ("" if held_out else "\n(not held out)"), fontsize="medium")
    _label_genes(axes, by_method["prediction"].sort_values("rank").head(n_labels), highest)


def _label_genes(axes: Axes, rows: pd.DataFrame, highest: float) -> None:
    """Names to the right of the panel's points, kept apart from each other in height."""
    if rows.empty:
        return
    rows = rows.sort_values("predicted")
    gap = 0.05 * highest
    heights = rows["predicted"].to_numpy(float).copy()
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    heights -= max(0.0, heights[-1] - 0.97 * highest)
    for (gene, row), height in zip(rows.iterrows(), heights, strict=True):
        axes.annotate(
            _shorten(str(gene)),
            (row["observed"], row["predicted"]),
            xytext=(1.02, height / highest),
            textcoords=("axes fraction", "axes fraction"),
            fontsize="x-small",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.4},
        )


def _shorten(name: str, most: int = 14) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
