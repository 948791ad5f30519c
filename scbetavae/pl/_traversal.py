"""Which genes respond along a latent dimension: a heatmap of genes against steps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scbetavae._core import keys
from scbetavae._core.checks import check_whole_number
from scbetavae._core.genes import gene_symbols_of
from scbetavae.pl._figure import label_of, panel_grid, read_table, single_panel, unnamed

_COLUMNS = ("dimension", "step", "value", "gene", "log_fold_change", "expression", "in_range")
_MAKE = "model.traverse()"
_COLOR_MAP = "PuOr_r"  # told apart under the common color blindnesses; orange is more
_CELL_WIDTH, _CELL_HEIGHT, _CHARACTER = 0.34, 0.19, 0.085  # inches of a cell, and of a letter
_COLORED = 0.95  # share of the cells of the heatmap that the colors tell apart
_MOST_LABELS = 7  # of steps: a narrow panel has no room for more


def traversal(
    data: AnnData | pd.DataFrame,
    dimension: int | Sequence[int] | None = None,
    *,
    n_genes: int = 10,
    min_expression: float = 0.1,
    gene_symbols: str | None = None,
    key: str = keys.TRAVERSAL,
    ax: Axes | None = None,
) -> Axes | Figure:
    """Draw how genes respond along latent dimensions: one row per gene, one column per step.

    Genes that increase along the dimension are above those that decrease, the strongest outermost. The color is the log2 fold
    change against the reference of the traversal, on one scale for all panels, which ends where 95% of what is drawn lies. Steps
    outside the observed range are hatched: what the decoder says there cannot be compared with counts.

    Parameters
    ----------
    data, key
        As in :func:`batch_dimensions`, with its errors; a frame is that of :meth:`scbetavae.model.BetaVAE.traverse`.
    dimension, ax
        One dimension, which returns Axes (``ax``, with the color bar next to them, or new ones), or several, which return a
        Figure; ``None`` for all that were traversed. One that was not traversed is a ValueError.
    gene_symbols
        Column of ``.var`` with the names to show, if ``data`` is an AnnData.
    n_genes, min_expression
        Genes that increase and genes that decrease, at most, of each dimension, without those whose expression is below
        ``min_expression`` (counts of a cell of 10,000) at both ends.

    Examples
    --------
    >>> import pandas as pd, scbetavae
    >>> frame = pd.DataFrame({"dimension": 2, "step": [0, 0, 1, 1], "value": [-1.0, -1.0, 1.0, 1.0]})
    >>> frame["gene"], frame["log_fold_change"] = ["IFI6", "CD14", "IFI6", "CD14"], [-1.0, 0.5, 2.0, -0.5]
    >>> frame = frame.assign(standard_error=0.1, expression=3.0, in_range=True)
    >>> axes = scbetavae.pl.traversal(frame, 2)
    >>> [label.get_text() for label in axes.get_yticklabels()]
    ['IFI6', 'CD14']
    """
    single = isinstance(dimension, (int, np.integer)) and not isinstance(dimension, bool)
    if ax is not None and not single:
        msg = f"ax holds one panel, but dimension={dimension!r}. Name one dimension, or leave ax out for a figure."
        raise ValueError(msg)
    frame = _frame(data, dimension, n_genes, min_expression, key)
    if gene_symbols is not None:
        if not isinstance(data, AnnData):
            msg = "gene_symbols names a column of adata.var, but data is a DataFrame. Pass the AnnData."
            raise TypeError(msg)
        frame = frame.assign(gene=frame["gene"].map(gene_symbols_of(data, gene_symbols)))
    parts = [part for _, part in frame.groupby("dimension", sort=False)]
    letters = frame["gene"].str.len().max()
    width = max(part["step"].nunique() for part in parts) * _CELL_WIDTH + letters * _CHARACTER + 0.3
    height = max(part["gene"].nunique() for part in parts) * _CELL_HEIGHT + 0.9
    if single:
        panels, n_columns = [single_panel(width + 1.0, max(height, 2.0), ax)], 1
    else:
        size = width, max(height, 1.2)
        figure, panels, n_columns = panel_grid(len(parts), 4, *size, extra=(1.2, 0), w_pad=0.05, wspace=0.02)
    # Few strong genes, and steps where no cells are, must not make all others pale.
    seen = frame.loc[frame["in_range"] & (frame["log_fold_change"] != 0), "log_fold_change"]
    seen = (frame["log_fold_change"] if seen.empty else seen).abs()
    limit = max(math.ceil(10 * float(seen.quantile(_COLORED))) / 10, 0.1)
    meshes = [_draw_dimension(axes, part, limit) for axes, part in zip(panels, parts, strict=True)]
    beyond = "both" if frame["log_fold_change"].abs().max() > limit else "neither"
    place = {"ax": panels[0] if single else panels, "shrink": 0.8 / math.ceil(len(parts) / n_columns)}
    bar = panels[0].figure.colorbar(meshes[0], extend=beyond, aspect=16, pad=0.03, **place)
    bar.set_label("log2 fold change" + ("" if frame["in_range"].all() else "\n(hatched: no cells there)"))
    return panels[0] if single else figure


def _frame(
    data: AnnData | pd.DataFrame, dimension: Any, n_genes: int, min_expression: float = 0.1, key: str = keys.TRAVERSAL
) -> pd.DataFrame:
    """Steps of the genes that are drawn, in their order, with ``direction`` and ``change`` (`_choose_genes`)."""
    table = read_table(data, key, _COLUMNS, _MAKE)
    check_whole_number(n_genes, "n_genes", 1)
    there = [int(d) for d in dict.fromkeys(table["dimension"])]
    wanted = there if dimension is None else [int(d) for d in np.atleast_1d(dimension)]
    unknown = [d for d in wanted if d not in there]
    if unknown or not wanted:
        run = f"Run model.traverse({unknown})."
        msg = f"Dimensions {unknown or wanted} were not traversed; the table has {there}. {run}"
        raise ValueError(msg)
    parts = [_choose_genes(table[table["dimension"] == d], n_genes, min_expression) for d in wanted]
    drawn = pd.concat(parts, ignore_index=True)
    if drawn.empty:
        msg = f"No gene reaches min_expression={min_expression:g} and changes. Lower it."
        raise ValueError(msg)
    return drawn


def _choose_genes(part: pd.DataFrame, n_genes: int, min_expression: float) -> pd.DataFrame:
    """The genes that change most from the lowest to the highest step in range, rising ones first, the strongest outermost."""
    steps = part[part["in_range"]]
    steps = part if steps["step"].nunique() < 2 else steps
    low, high = (steps[steps["step"] == end].set_index("gene") for end in (steps["step"].min(), steps["step"].max()))
    high = high.loc[low.index]
    seen = np.maximum(low["expression"], high["expression"]) >= min_expression
    change = (high["log_fold_change"] - low["log_fold_change"])[seen].astype(float)
    change.index = change.index.astype(str)
    change = change.sort_values(ascending=False, kind="stable")
    chosen = pd.concat([change[change > 0].iloc[:n_genes], change[change < 0].iloc[-n_genes:]])
    rows = part.assign(gene=part["gene"].astype(str))
    rows = rows[rows["gene"].isin(chosen.index)]
    rows = rows.assign(change=rows["gene"].map(chosen), place=rows["gene"].map(list(chosen.index).index))
    rows["direction"] = np.where(rows["change"] > 0, "up", "down")
    rows = rows.sort_values(["place", "step"], kind="stable")
    columns = ["dimension", "direction", "gene", "change", "step", "value", "log_fold_change", "in_range"]
    return rows[[*columns, *(["name"] if "name" in rows else [])]]


def _draw_dimension(axes: Axes, part: pd.DataFrame, limit: float) -> QuadMesh:
    """Heatmap of one dimension."""
    genes = list(dict.fromkeys(part["gene"]))
    steps = part.drop_duplicates("step")
    values = part["log_fold_change"].to_numpy(float).reshape(len(genes), len(steps))
    mesh = axes.pcolormesh(values, cmap=_COLOR_MAP, vmin=-limit, vmax=limit)
    hatch = {"facecolor": "#FFFFFF99", "edgecolor": "#8C8C8C", "hatch": "////", "linewidth": 0}
    for place in np.flatnonzero(~steps["in_range"].to_numpy(bool)):
        axes.add_patch(Rectangle((float(place), 0), 1, len(genes), **hatch))
    n_up = part.loc[part["direction"] == "up", "gene"].nunique()
    if 0 < n_up < len(genes):
        axes.axhline(n_up, color="white", linewidth=2)
    axes.set_ylim(len(genes), 0)
    axes.set_yticks(np.arange(len(genes)) + 0.5, genes, fontsize="small")
    every = math.ceil(len(steps) / _MOST_LABELS)
    labels = [f"{value:.2g}".replace("-", "−") for value in steps["value"]]
    rotation = 90 if max(map(len, labels)) > 4 else 0
    axes.set_xticks(np.arange(len(steps))[::every] + 0.5, labels[::every], fontsize="small", rotation=rotation)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    number = int(part["dimension"].iloc[0])
    name = str(part["name"].iloc[0]) if "name" in part else unnamed(number)
    axes.set_title(f"dimension {label_of(number, name)}", fontsize="medium")
    axes.set_xlabel("latent value", fontsize="small")
    return mesh
