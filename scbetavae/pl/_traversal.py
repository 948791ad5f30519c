"""Which genes respond along a latent dimension: a heatmap of genes against steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from scbetavae._core import keys as _keys
from scbetavae.pl._figure import Picture, single_panel
from scbetavae.pl._score_tables import read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

_COLUMNS = ("dimension", "step", "value", "gene", "log_fold_change", "expression", "in_range")
_MAKE = "model.traverse()"
_COLOR_MAP = "PuOr_r"  # told apart under the common color blindnesses; orange is more
_CELL_WIDTH, _CELL_HEIGHT = 0.34, 0.19  # inches
_CHARACTER = 0.085  # inches of a letter
_PER_ROW = 4
_COLORED = 0.95
"""Share of the cells of the picture that the colors tell apart."""


def traversal(
    data: AnnData | pd.DataFrame,
    dimension: int | Sequence[int] | None = None,
    *,
    n_genes: int = 10,
    min_expression: float = 0.1,
    key: str = _keys.TRAVERSAL,
    ax: Axes | None = None,
) -> Axes | Figure:
    """Draw how genes respond along latent dimensions: a row a gene, a column a step.

    Genes that rise with the dimension stand above those that fall, the strongest outermost. The color is the log2 fold change
    against the reference of the traversal, on one scale for all panels, which ends where 95% of what is drawn lies. Steps
    where no cells are lie hatched: what the decoder says there was never compared with a count.

    Parameters
    ----------
    data
        Annotated data with a traversal under ``.uns["betavae"][key]``, or the frame that :meth:`BetaVAE.traverse` returned.
    dimension
        One dimension for one panel, several for a figure; ``None`` for all that were traversed.
    n_genes
        Genes that rise and genes that fall, at most, of each dimension.
    min_expression
        Leave out genes whose expression is below this at both ends, in counts of a cell of 10,000.
    key
        Name under which the traversal was stored.
    ax
        Axes to draw one dimension on; its figure gets no color bar but the one beside these axes.

    Returns
    -------
    Axes or Figure
        Axes for one dimension by number, a Figure otherwise.

    Raises
    ------
    KeyError
        If there is no such traversal, or it lacks a column.
    ValueError
        If a dimension was not traversed, numbers do not fit, or axes are given for several dimensions.

    See Also
    --------
    traversal_frame : the data behind this picture.

    Examples
    --------
    >>> import pandas as pd
    >>> import scbetavae
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
    frame = traversal_frame(data, dimension, n_genes=n_genes, min_expression=min_expression, key=key)
    limit = _color_limit(frame)
    if not single:
        return _draw_all(frame, limit)
    if ax is None:
        width, height = _size(frame)
        ax = single_panel(width + 1.0, max(height, 2.0))
    mesh = _draw_dimension(ax, frame, limit)
    _add_bar(ax, mesh, frame)
    return ax


def traversal_frame(
    data: AnnData | pd.DataFrame,
    dimension: int | Sequence[int] | None = None,
    *,
    n_genes: int = 10,
    min_expression: float = 0.1,
    key: str = _keys.TRAVERSAL,
) -> pd.DataFrame:
    """What :func:`traversal` draws, in its order.

    Parameters
    ----------
    data, dimension, n_genes, min_expression, key
        As in :func:`traversal`.

    Returns
    -------
    DataFrame
        A row a cell of the picture: ``dimension``; ``direction``, ``"up"`` or ``"down"``; ``gene``; ``change``, its log2 fold
        change from the lowest to the highest step where cells are, by which genes are chosen (from end to end, where cells
        are at fewer than two steps); ``step``, ``value``, ``log_fold_change`` and ``in_range`` of the traversal.

    Raises
    ------
    KeyError, ValueError
        As :func:`traversal`.
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    if not isinstance(n_genes, (int, np.integer)) or n_genes < 1:
        msg = f"n_genes={n_genes!r}: draw a whole number of at least 1 gene in each direction."
        raise ValueError(msg)
    there = [int(d) for d in dict.fromkeys(table["dimension"])]
    wanted = there if dimension is None else [int(d) for d in np.atleast_1d(dimension)]
    unknown = [d for d in wanted if d not in there]
    if unknown or not wanted:
        msg = (
            f"Dimensions {unknown or wanted} were not traversed; the table has {there}. Run model.traverse({unknown})."
        )
        raise ValueError(msg)
    parts = [_choose_genes(table[table["dimension"] == d], n_genes, min_expression) for d in wanted]
    drawn = pd.concat(parts, ignore_index=True)
    if drawn.empty:
        msg = f"No gene reaches min_expression={min_expression:g} and changes. Lower it."
        raise ValueError(msg)
    return drawn


def _choose_genes(part: pd.DataFrame, n_genes: int, min_expression: float) -> pd.DataFrame:
    """Rows of the strongest genes of one dimension, rising ones first, the strongest falling one last."""
    steps = part[part["in_range"]]
    steps = part if steps["step"].nunique() < 2 else steps
    low, high = (steps[steps["step"] == end].set_index("gene") for end in (steps["step"].min(), steps["step"].max()))
    high = high.loc[low.index]
    seen = np.maximum(low["expression"], high["expression"]) >= min_expression
    change = (high["log_fold_change"] - low["log_fold_change"])[seen].astype(float)
    change.index = change.index.astype(str)
    change = change.sort_values(ascending=False, kind="stable")
    up, down = change[change > 0].iloc[:n_genes], change[change < 0].iloc[-n_genes:]
    chosen = pd.concat([up, down])
    rows = part.assign(gene=part["gene"].astype(str))
    rows = rows[rows["gene"].isin(chosen.index)]
    rows = rows.assign(
        change=rows["gene"].map(chosen),
        direction=np.where(rows["gene"].isin(up.index), "up", "down"),
        place=rows["gene"].map({gene: i for i, gene in enumerate(chosen.index)}),
    ).sort_values(["place", "step"], kind="stable")
    return rows[["dimension", "direction", "gene", "change", "step", "value", "log_fold_change", "in_range"]]


def _color_limit(frame: pd.DataFrame) -> float:
    """End of the colors: few strong genes, and steps where no cells are, must not make all others pale."""
    seen = frame.loc[frame["in_range"], "log_fold_change"].abs()
    seen = seen[seen > 0]
    seen = frame["log_fold_change"].abs() if seen.empty else seen
    return max(math.ceil(10 * float(seen.quantile(_COLORED))) / 10, 0.1)


def _draw_dimension(axes: Axes, part: pd.DataFrame, limit: float) -> QuadMesh:
    genes = list(dict.fromkeys(part["gene"]))
    steps = part.drop_duplicates("step")
    values = part["log_fold_change"].to_numpy(float).reshape(len(genes), len(steps))
    mesh = axes.pcolormesh(values, cmap=_COLOR_MAP, vmin=-limit, vmax=limit)
    for place in np.flatnonzero(~steps["in_range"].to_numpy(bool)):
        off = Rectangle(
            (place, 0), 1, len(genes), facecolor="#FFFFFF99", edgecolor="#8C8C8C", hatch="////", linewidth=0
        )
        axes.add_patch(off)
    n_up = part.loc[part["direction"] == "up", "gene"].nunique()
    if 0 < n_up < len(genes):
        axes.axhline(n_up, color="white", linewidth=2)
    axes.set_ylim(len(genes), 0)
    axes.set_yticks(np.arange(len(genes)) + 0.5, genes, fontsize="small")
    # Seven labels at most: a narrow panel has no room for more.
    every = math.ceil(len(steps) / 7)
    labels = [f"{value:.2g}".replace("-", "−") for value in steps["value"]]
    axes.set_xticks(
        np.arange(len(steps))[::every] + 0.5,
        labels[::every],
        fontsize="small",
        rotation=90 if max(map(len, labels)) > 4 else 0,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"dimension {int(part['dimension'].iloc[0])}", fontsize="medium")
    axes.set_xlabel("latent value", fontsize="small")
    return mesh


def _add_bar(axes: Axes | np.ndarray, mesh: QuadMesh, frame: pd.DataFrame) -> None:
    figure = np.ravel(axes)[0].figure
    n_rows = np.shape(axes)[0] if np.ndim(axes) else 1
    beyond = frame["log_fold_change"].abs().max() > mesh.get_clim()[1]
    bar = figure.colorbar(
        mesh, ax=axes, shrink=0.8 / n_rows, aspect=16, pad=0.03, extend="both" if beyond else "neither"
    )
    note = "" if frame["in_range"].all() else "\n(hatched: no cells there)"
    bar.set_label(f"log2 fold change{note}")


def _draw_all(frame: pd.DataFrame, limit: float) -> Figure:
    parts = [part for _, part in frame.groupby("dimension", sort=False)]
    n_columns = min(len(parts), _PER_ROW)
    n_rows = math.ceil(len(parts) / n_columns)
    sizes = np.array([_size(part) for part in parts])
    width, height = sizes.max(axis=0)
    figure = Picture(width * n_columns + 1.2, max(height * n_rows, 2.0))
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes, part in zip(all_axes.flat, parts, strict=False):
        mesh = _draw_dimension(axes, part, limit)
    for axes in all_axes.flat[len(parts) :]:
        axes.set_visible(False)
    figure.get_layout_engine().set(w_pad=0.05, wspace=0.02)
    _add_bar(all_axes, mesh, frame)
    return figure


def _size(part: pd.DataFrame) -> tuple[float, float]:
    """Inches of a panel."""
    letters = part["gene"].map(len).max()
    n_genes = part.groupby("dimension")["gene"].nunique().max()
    return part["step"].nunique() * _CELL_WIDTH + letters * _CHARACTER + 0.3, n_genes * _CELL_HEIGHT + 0.9
