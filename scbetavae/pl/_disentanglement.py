"""Scores of one embedding or of several, as dots with intervals on the range from null to ceiling; one panel per covariate."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scbetavae import metrics
from scbetavae._core import keys, palette
from scbetavae.pl._figure import Picture, dot_handle, label_rows, read_table

_COLUMNS = ("metric", "covariate", "value", "null", "p_value", "ceiling", "ci_low", "ci_high")
_MAKE = "model.score_disentanglement(covariates)` or `scbetavae.tl.score_disentanglement(adata, covariates)"
_MAKE_COMPARISON = "scbetavae.tl.compare_embeddings(adata, covariates, obsm_keys)"
_MAX_COLUMNS = 4
_SIGNIFICANT = 0.05
_RANGE, _RANGE_ENDS = palette.LIGHT, "#707070"
_ROW_HEIGHT, _SPACE = 0.17, 0.16  # inches of one dot and its range, and between metrics


def disentanglement(data: AnnData | pd.DataFrame, *, key: str = keys.DISENTANGLEMENT) -> Figure:
    """Draw the scores of one embedding, one panel per covariate and one row per metric.

    The dot is the value and the line its 95% interval. The gray bar runs from the null (permuted covariate) to the ceiling
    (oracle representation, one dimension per covariate): how far along it the dot lies is the normalized score. Open circles: not
    significant. Total correlation, which has no upper bound, is left out.

    Parameters and errors are as in :func:`batch_dimensions`; scores of several embeddings, or none between 0 and 1, are a
    ValueError. The Figure has up to four panels per row; the first is for all covariates together.

    Examples
    --------
    >>> import numpy as np, pandas as pd, scbetavae
    >>> label = np.arange(200) % 2
    >>> table = scbetavae.metrics.score_frame(
    ...     label[:, None] + [0.0, 1.0] * np.eye(200, 2), pd.DataFrame({"sex": label > 0})
    ... )
    >>> figure = scbetavae.pl.disentanglement(table)
    >>> [axes.get_title() for axes in figure.axes]
    ['all covariates', 'sex']
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    if "embedding" in table and table["embedding"].nunique() > 1:
        n_embeddings = table["embedding"].nunique()
        msg = f"The table holds scores of {n_embeddings} embeddings. Use scbetavae.pl.embedding_comparison."
        raise ValueError(msg)
    return _draw_panels(_frame(table), {"": palette.BLUE}, None)


def embedding_comparison(data: AnnData | pd.DataFrame, *, key: str = keys.EMBEDDING_COMPARISON) -> Figure:
    """Draw the scores of several embeddings, one panel per covariate, the embeddings below each other at every metric.

    As in :func:`disentanglement`, a dot and its 95% interval lie on a bar from null to ceiling. Null and ceiling may differ
    between embeddings, so compare positions on the bars, too.

    Parameters, Figure and errors are as in :func:`disentanglement`.

    Examples
    --------
    >>> import numpy as np, pandas as pd, scbetavae
    >>> label = pd.DataFrame({"sex": np.arange(200) % 2 > 0})
    >>> parts = []
    >>> for name, noise in (("clean", 0.1), ("noisy", 2.0)):
    ...     z = label.to_numpy() * [1, 0] + noise * np.random.default_rng(0).normal(size=(200, 2))
    ...     parts.append(scbetavae.metrics.score_frame(z, label, metrics="mig").assign(embedding=name))
    >>> figure = scbetavae.pl.embedding_comparison(pd.concat(parts))
    >>> [text.get_text() for text in figure.legends[0].get_texts()[:2]]
    ['clean', 'noisy']
    """
    frame = _frame(read_table(data, key, ("embedding", *_COLUMNS), _MAKE_COMPARISON))
    names = list(dict.fromkeys(frame["embedding"]))
    return _draw_panels(frame, dict(zip(names, palette.colors(len(names)), strict=True)), "embedding")


def _frame(table: pd.DataFrame) -> pd.DataFrame:
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
    known_first = {name: [*dict.fromkeys([*orders[name], *table[name]])] for name in orders if name in table}
    ranks = pd.DataFrame({name: table[name].map(values.index) for name, values in known_first.items()})
    order = ranks.sort_values(list(known_first), kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    own = table["metric"].str.replace("_", " ").str.capitalize()
    titles = [records[n].title if n in records else title for n, title in zip(table["metric"], own, strict=True)]
    table.insert(table.columns.tolist().index("metric") + 1, "title", titles)
    return table


def _draw_panels(frame: pd.DataFrame, series: dict[str, str], column: str | None) -> Figure:
    """One panel per covariate, one row per metric, one line within it per series (name: color), told apart by ``column``."""
    covariates = list(dict.fromkeys(frame["covariate"]))
    n_columns = min(_MAX_COLUMNS, len(covariates))
    lines = [covariates[start : start + n_columns] for start in range(0, len(covariates), n_columns)]
    titles = []  # by line of panels: metrics that at least one of its covariates has, unless there are none
    for line in lines:
        there = frame[frame["covariate"].isin(line)]
        defined = there[there["value"].notna()]
        titles.append(list(dict.fromkeys((there if defined.empty else defined)["title"])))
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
            for height in np.arange(0.5, len(names) - 1):
                axes.axhline(height, color=palette.PALE, linewidth=0.8, zorder=0)
        for axes in row[len(line) :]:
            axes.remove()
    handles = _legend(frame, series, several=column is not None)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


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
