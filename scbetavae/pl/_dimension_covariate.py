"""What each dimension encodes: a heatmap of dimensions against covariates and their classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import colormaps

from scbetavae._core import keys as _keys
from scbetavae.pl._figure import Picture
from scbetavae.pl._score_tables import read_table

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

_COLUMNS = ("dimension", "covariate", "class", "normalized", "p_adjusted", "direction", "active")
_MAKE = "model.score_disentanglement(covariates)` or `scbetavae.tl.score_disentanglement(adata, covariates)"
_MAX_CLASSES = 24
_SIGNIFICANT = 0.05
_MARKED_VALUE, _MARKED_DIRECTION = 0.1, 0.2  # what is too weak gets no sign
_CELL = 0.26  # inches
_CHARACTER = 0.08  # inches of a letter of a title
_COLOR_MAP = "Blues"
_INACTIVE = "#EDEDED"


def dimension_covariate(
    data: AnnData | pd.DataFrame, *, key: str = _keys.DISENTANGLEMENT, embedding: str | None = None
) -> Figure:
    """Draw what each dimension encodes: a row a dimension, a column a class or a numeric covariate.

    The color is the mutual information of the dimension with the class against the rest, divided by its entropy: 1 if the
    dimension tells everything. A sign says whether the class sits at high (+) or low (−) codes, or whether a number rises or
    falls with the code. Dimensions are ordered by what they encode most strongly; those that encode nothing recorded follow,
    then the inactive ones, in gray.

    Parameters
    ----------
    data
        Annotated data with scores under ``.uns["betavae"][key]``, or the dimension x covariate table itself.
    key
        Name under which the scores were stored.
    embedding
        Which embedding, if the table holds several.

    Returns
    -------
    Figure
        One panel a covariate, and a color bar. A covariate of more than 24 classes gets one column, without a sign.

    Raises
    ------
    KeyError
        If there is no such table, or no such embedding in it.
    ValueError
        If the table holds several embeddings and none is named, or has no rows.

    See Also
    --------
    dimension_covariate_frame : the data behind this picture.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import scbetavae
    >>> sex = np.where(np.arange(200) % 2, "f", "m")
    >>> codes = np.random.default_rng(0).normal(size=(200, 3)) + 3.0 * (sex == "f")[:, None] * [0, 0, 1]
    >>> table = scbetavae.metrics.dimension_covariate_table(codes, pd.DataFrame({"sex": sex}))
    >>> figure = scbetavae.pl.dimension_covariate(table)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()][0]
    '2'
    """
    frame = dimension_covariate_frame(data, key=key, embedding=embedding)
    panels = [frame[frame["covariate"] == name] for name in dict.fromkeys(frame["covariate"])]
    widths = [
        max(part["column"].nunique() * _CELL, len(name) * _CHARACTER)
        for part, name in zip(panels, dict.fromkeys(frame["covariate"]), strict=True)
    ]
    n_dims = frame["dimension"].nunique()
    longest = frame["column"].map(len).max() * _CHARACTER
    figure = Picture(sum(widths) + 0.2 * len(panels) + 1.5, max(n_dims * _CELL, 1.2) + longest + 0.7)
    figure.get_layout_engine().set(w_pad=0.03, wspace=0.0)
    all_axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    highest = min(1.0, max(0.2, math.ceil(10 * np.nanmax([0.0, frame["normalized"].max()])) / 10))
    for axes, part in zip(all_axes, panels, strict=True):
        mesh = _draw_covariate(axes, part, highest)
    _label_dimensions(all_axes, panels[0])
    bar = figure.colorbar(mesh, ax=all_axes[-1], shrink=min(1.0, 2.0 / (n_dims * _CELL)), pad=0.04, aspect=14)
    bar.set_label("information / entropy")
    return figure


def dimension_covariate_frame(
    data: AnnData | pd.DataFrame, *, key: str = _keys.DISENTANGLEMENT, embedding: str | None = None
) -> pd.DataFrame:
    """What :func:`dimension_covariate` draws, in its order.

    Parameters
    ----------
    data
        Annotated data with scores under ``.uns["betavae"][key]``, or the dimension x covariate table itself.
    key
        Name under which the scores were stored.
    embedding
        Which embedding, if the table holds several.

    Returns
    -------
    DataFrame
        A row a cell of the picture: ``dimension``, ``covariate``, ``column`` (the class; the name of a numeric covariate; the
        number of classes if there are more than 24), ``normalized`` in [0, 1], ``direction`` in [-1, 1], ``p_adjusted``,
        ``active``, and ``encodes``: the column that the dimension tells most about, empty if no p-value is below 0.05.

    Raises
    ------
    KeyError
        If there is no such table, or no such embedding in it.
    ValueError
        If the table holds several embeddings and none is named, or has no rows.
    """
    table = read_table(data, key, _COLUMNS, _MAKE, _keys.DIMENSIONS_SUFFIX)
    table = _choose_embedding(table, embedding)
    cells = pd.concat([_columns_of(part) for _, part in table.groupby("covariate", sort=False)], ignore_index=True)
    names = cells["covariate"] + "\n" + cells["column"]
    column_rank = names.map({name: i for i, name in enumerate(dict.fromkeys(names))})
    told = cells["normalized"].where(cells["p_adjusted"] < _SIGNIFICANT)
    best = told.groupby(cells["dimension"]).apply(lambda values: -1 if values.isna().all() else values.idxmax())
    encodes = {d: "" if i < 0 else _name(cells.loc[i]) for d, i in best.items()}
    dimensions = pd.DataFrame(
        {
            "active": cells.groupby("dimension")["active"].first(),
            "place": best.map(lambda i: len(cells) if i < 0 else column_rank[i]),
            "strength": -told.groupby(cells["dimension"]).max(),
        }
    )
    order = dimensions.sort_values(["active", "place", "strength"], ascending=[False, True, True], kind="stable").index
    cells["encodes"] = cells["dimension"].map(encodes)
    row_rank = cells["dimension"].map({dimension: i for i, dimension in enumerate(order)})
    ordered = cells.iloc[np.lexsort((column_rank, row_rank))].reset_index(drop=True)
    return ordered[["dimension", "covariate", "column", "normalized", "direction", "p_adjusted", "active", "encodes"]]


def _name(cell: pd.Series) -> str:
    return cell["covariate"] if cell["column"] == cell["covariate"] else f"{cell['covariate']}: {cell['column']}"


def _choose_embedding(table: pd.DataFrame, embedding: str | None) -> pd.DataFrame:
    if "embedding" not in table:
        if embedding is not None:
            msg = f"embedding={embedding!r}: the table is that of one embedding and does not name it. Leave it out."
            raise KeyError(msg)
        return table
    names = list(table["embedding"].unique())
    if embedding is None and len(names) > 1:
        msg = f"The table holds {len(names)} embeddings. Choose one: embedding={names[0]!r} or another of {names}."
        raise ValueError(msg)
    if embedding is not None and embedding not in names:
        msg = f"embedding={embedding!r} is not in the table, which has {names}."
        raise KeyError(msg)
    return table[table["embedding"] == (names[0] if embedding is None else embedding)]


def _columns_of(part: pd.DataFrame) -> pd.DataFrame:
    """Rows of one covariate that are drawn: its classes, or the whole where it has none or too many."""
    classes = part.loc[part["class"] != "", "class"].unique()
    if 0 < len(classes) <= _MAX_CLASSES:
        drawn = part[part["class"] != ""]
        return drawn.assign(column=drawn["class"])
    drawn = part[part["class"] == ""]
    return drawn.assign(column=f"{len(classes)} classes" if len(classes) else drawn["covariate"])


def _draw_covariate(axes: Axes, part: pd.DataFrame, highest: float) -> QuadMesh:
    n_columns = part["column"].nunique()
    values = part["normalized"].to_numpy(float).reshape(-1, n_columns)
    directions = part["direction"].to_numpy(float).reshape(-1, n_columns)
    axes.set_facecolor(_INACTIVE)
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=_COLOR_MAP, vmin=0.0, vmax=highest, edgecolors="#D9D9D9", linewidth=0.5
    )
    marked = (values >= _MARKED_VALUE) & (np.abs(directions) >= _MARKED_DIRECTION)
    for row, column in np.argwhere(marked):
        red, green, blue, _ = colormaps[_COLOR_MAP](values[row, column] / highest)
        axes.text(
            column + 0.5,
            row + 0.5,
            "+" if directions[row, column] > 0 else "−",
            color="black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white",
            ha="center",
            va="center_baseline",
            fontsize="small",
        )
    axes.set_ylim(len(values), 0)
    axes.set_yticks([])
    labels = part["column"].iloc[:n_columns].tolist()
    title = part["covariate"].iloc[0]
    axes.set_xticks(np.arange(n_columns) + 0.5, ["" if label == title else label for label in labels])
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelrotation=90, labelsize="small")
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize="medium")
    return mesh


def _label_dimensions(all_axes: np.ndarray, part: pd.DataFrame) -> None:
    rows = part.drop_duplicates("dimension")
    labels = [f"{row.dimension}" if row.active else f"inactive {row.dimension}" for row in rows.itertuples()]
    all_axes[0].set_yticks(np.arange(len(labels)) + 0.5, labels, fontsize="small")
    all_axes[0].set_ylabel("dimension")
