"""Predicted against observed means of every gene, with the baselines."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scbetavae._core import keys, palette
from scbetavae._core.checks import check_whole_number
from scbetavae.pl._figure import panel_grid, read_table, shorten

_COLUMNS = ("group", "gene", "source", "target", "predicted", "mean_shift", "rank", "held_out")
_MAKE = "predicted = model.counterfactual(covariate, source, target, groupby=...)"
_COLUMN_OF = {"no_change": "source", "mean_shift": "mean_shift", "prediction": "predicted"}
_STYLES = {
    "no_change": ("no change", palette.MIDDLE, "o"),
    "mean_shift": ("mean shift", palette.ORANGE, "^"),
    "prediction": ("prediction", palette.BLUE, "o"),
}  # in the order in which they are drawn
_LONGEST = 14  # characters of a gene


def counterfactual(
    data: AnnData | pd.DataFrame, *, n_labels: int = 8, n_differential: int = 50, key: str = keys.COUNTERFACTUAL
) -> Figure:
    """Draw predicted against observed means of every gene, one panel per group.

    Each point is a gene: across, its mean over the real target cells; up, its mean as predicted (blue). A perfect prediction
    lies on the diagonal. For the genes that differ most between source and target, gray points are the source cells unchanged and
    orange triangles the mean shift, with a line from unchanged to predicted. The relative errors over all genes are
    printed: 0 is perfect, 1 equals no change.

    Parameters
    ----------
    data, key
        As in :func:`batch_dimensions`, with its errors: what ``BetaVAE.counterfactual`` returned, or its table of genes. It is a
        ValueError if no group has real target cells.
    n_labels, n_differential
        How many of the genes that differ most are named, at least 0, and for how many the baselines are drawn, at least 1.

    Returns
    -------
    Figure with up to three panels per row, held-out groups first. A group without target cells has no panel.

    Examples
    --------
    >>> import numpy as np, pandas as pd, scbetavae
    >>> table = pd.DataFrame({"group": "B", "gene": list("abc"), "rank": [1, 2, 3], "held_out": True})
    >>> table = table.assign(source=[0.0, 1.0, 2.0], target=[2.0, 1.5, 2.0], predicted=[1.5, 1.5, 2.0], mean_shift=2.0)
    >>> figure = scbetavae.pl.counterfactual(table)
    >>> figure.axes[0].get_title()
    'B'
    """
    check_whole_number(n_labels, "n_labels", 0)
    check_whole_number(n_differential, "n_differential", 1)
    frame = _frame(data, key)
    groups = list(dict.fromkeys(frame["group"]))
    figure, panels, n_columns = panel_grid(len(groups), 3, 4.2, 3.6, extra=(0.4, 0.6))
    for place, (axes, group) in enumerate(zip(panels, groups, strict=True)):
        _draw_group(axes, frame[frame["group"] == group], n_labels, n_differential)
        axes.set_xlabel("observed in target cells")
        axes.set_ylabel("" if place % n_columns else "predicted, or baseline")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=3, frameon=False)
    figure.supxlabel("mean over cells of log(1 + counts per 10 000)", fontsize="small", color=palette.DARK)
    return figure


def _frame(data: AnnData | pd.DataFrame, key: str = keys.COUNTERFACTUAL) -> pd.DataFrame:
    """One row per group (held-out ones first), method and gene: observed and predicted mean, and relative error of the method."""
    table = read_table(data, key, _COLUMNS, _MAKE, keys.GENES_SUFFIX)
    table = table[table["target"].notna()]
    if table.empty:
        msg = "No group has real target cells, so there is nothing to compare the prediction with."
        raise ValueError(msg)
    parts = []
    for seen in (False, True):
        for _, rows in table[table["held_out"].astype(bool) != seen].groupby("group", sort=False, observed=True):
            scale = ((rows["source"] - rows["target"]) ** 2).sum()
            for method, column in _COLUMN_OF.items():
                error = ((rows[column] - rows["target"]) ** 2).sum() / scale if scale > 0 else np.nan
                part = rows[["group", "held_out", "gene", "rank"]].assign(method=method, observed=rows["target"])
                parts.append(part.assign(predicted=rows[column], relative_error=error))
    return pd.concat(parts, ignore_index=True)


def _draw_group(axes: Axes, part: pd.DataFrame, n_labels: int, n_differential: int) -> None:
    """Points of all methods, the diagonal, errors and names of genes."""
    by_method = {name: part[part["method"] == name].set_index("gene") for name in _STYLES}
    top = {name: rows[rows["rank"] <= n_differential] for name, rows in by_method.items()}
    start, end = top["no_change"], top["prediction"]
    axes.vlines(end["observed"], start["predicted"], end["predicted"], color=palette.LIGHT, linewidth=0.7, zorder=1)
    texts = []
    for order, (name, (title, color, marker)) in enumerate(_STYLES.items(), start=2):
        rows = by_method[name] if name == "prediction" else top[name]
        style = {"color": color, "markersize": 3.5, "markeredgewidth": 0, "label": title, "zorder": order}
        axes.plot(rows["observed"], rows["predicted"], marker, **style)
        texts.append(f"{title} {rows['relative_error'].iloc[0]:.2f}")
    highest = 1.06 * max(part["observed"].max(), part["predicted"].max(), 1e-9)
    axes.plot([0, highest], [0, highest], color="black", linewidth=0.7, zorder=1)
    axes.set(xlim=(-0.03 * highest, highest), ylim=(-0.03 * highest, highest), aspect="equal")
    errors = "\n".join(["relative error", *texts[::-1]])
    axes.text(0.03, 0.97, errors, transform=axes.transAxes, va="top", fontsize="x-small")
    seen = "" if part["held_out"].iloc[0] else "\n(not held out)"
    axes.set_title(f"{part['group'].iloc[0]}{seen}", fontsize="medium")
    _label_genes(axes, by_method["prediction"].sort_values("rank").head(n_labels), highest)


def _label_genes(axes: Axes, rows: pd.DataFrame, highest: float) -> None:
    """Names to the right of the panel's points, kept apart from each other in height."""
    rows = rows.sort_values("predicted")
    heights = rows["predicted"].to_numpy(float).copy()
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + 0.05 * highest)
    heights -= max(0.0, heights.max(initial=0.0) - 0.97 * highest)
    leader = {"arrowstyle": "-", "color": palette.MIDDLE, "linewidth": 0.4}
    style = {"textcoords": ("axes fraction", "axes fraction"), "fontsize": "x-small", "va": "center"}
    for (gene, row), height in zip(rows.iterrows(), heights, strict=True):
        point, place = (row["observed"], row["predicted"]), (1.02, height / highest)
        axes.annotate(shorten(str(gene), _LONGEST), point, place, annotation_clip=False, arrowprops=leader, **style)
