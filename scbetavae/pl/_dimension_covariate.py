"""What each dimension encodes: a heatmap of dimensions against covariates and their classes."""

import math
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from scbetavae._core import keys, palette
from scbetavae.pl._figure import Picture, dimension_labels, read_table

_COLUMNS = ("dimension", "covariate", "class", "normalized", "p_adjusted", "direction", "active")
_MAKE = "model.score_disentanglement(covariates)` or `scbetavae.tl.score_disentanglement(adata, covariates)"
_MAX_CLASSES = 24
_SIGNIFICANT = 0.05
_MARKED_VALUE, _MARKED_DIRECTION = 0.1, 0.2  # what is too weak gets no sign
_CELL, _CHARACTER = 0.26, 0.08  # inches of a cell, and of a letter of a title
_COLOR_MAP = "Blues"


def dimension_covariate(
    data: AnnData | pd.DataFrame, *, key: str = keys.DISENTANGLEMENT, embedding: str | None = None
) -> Figure:
    """Draw what each dimension encodes: one row per dimension, one column per class or numeric covariate.

    The color is the mutual information of the dimension with the class against the rest, divided by its entropy: 1 if the
    dimension determines the class. A sign says whether the class is at high (+) or low (−) values, or whether a number rises or
    falls with the dimension. Dimensions are ordered by what they encode most strongly; those that encode nothing recorded follow,
    then the inactive ones, in gray. :func:`dimension_covariate_frame` is the same as text.

    Parameters
    ----------
    data, key
        As in :func:`batch_dimensions`, with its errors: scores, or the dimension x covariate table; also
        ``key="embedding_comparison"``.
    embedding
        Which embedding, if the table holds several: a ValueError if none is named, a KeyError if it is not there.

    Returns
    -------
    Figure with one panel per covariate and a color bar. A covariate of more than 24 classes gets one column, without a sign.

    Examples
    --------
    >>> import numpy as np, pandas as pd, scbetavae
    >>> sex = np.where(np.arange(200) % 2, "f", "m")
    >>> z = np.random.default_rng(0).normal(size=(200, 3)) + 3.0 * (sex == "f")[:, None] * [0, 0, 1]
    >>> table = scbetavae.metrics.dimension_covariate_table(z, pd.DataFrame({"sex": sex}))
    >>> figure = scbetavae.pl.dimension_covariate(table)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()][0]
    '2'
    """
    frame = dimension_covariate_frame(data, key=key, embedding=embedding)
    panels = dict(iter(frame.groupby("covariate", sort=False)))
    widths = [max(part["column"].nunique() * _CELL, len(str(name)) * _CHARACTER) for name, part in panels.items()]
    n_dims = frame["dimension"].nunique()
    height = max(n_dims * _CELL, 1.2) + frame["column"].str.len().max() * _CHARACTER + 0.7
    labels = dimension_labels(frame.drop_duplicates("dimension"))
    width = sum(widths) + 0.2 * len(panels) + 1.5 + _CHARACTER * max(map(len, labels))
    figure = Picture(width, height, w_pad=0.03, wspace=0.0)
    all_axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    highest = min(1.0, max(0.2, math.ceil(10 * np.nanmax([0.0, frame["normalized"].max()])) / 10))
    meshes = [_draw_covariate(axes, part, highest) for axes, part in zip(all_axes, panels.values(), strict=True)]
    all_axes[0].set_yticks(np.arange(n_dims) + 0.5, labels, fontsize="small")
    all_axes[0].set_ylabel("dimension")
    bar = figure.colorbar(meshes[-1], ax=all_axes[-1], shrink=min(1.0, 2.0 / (n_dims * _CELL)), pad=0.04, aspect=14)
    bar.set_label("information / entropy")
    return figure


def dimension_covariate_frame(
    data: AnnData | pd.DataFrame, *, key: str = keys.DISENTANGLEMENT, embedding: str | None = None
) -> pd.DataFrame:
    """What :func:`dimension_covariate` draws, in its order, with the same parameters and errors.

    Returns
    -------
    DataFrame with one row per cell of the heatmap: ``dimension``, ``covariate``, ``column`` (the class; the name of a numeric
    covariate; the number of classes if there are more than 24), ``normalized`` in [0, 1], ``direction`` in [-1, 1],
    ``p_adjusted``, ``active``, and ``encodes``: the column that the dimension encodes most strongly, empty if no p-value is
    below 0.05; and ``name`` of the dimension, if it was described.
    """
    table = _choose_embedding(read_table(data, key, _COLUMNS, _MAKE, keys.DIMENSIONS_SUFFIX), embedding)
    cells = pd.concat([_columns_of(part) for _, part in table.groupby("covariate", sort=False)], ignore_index=True)
    own_title = cells["column"] == cells["covariate"]
    names = cells["covariate"].where(own_title, cells["covariate"] + ": " + cells["column"])
    column_rank = names.map({name: i for i, name in enumerate(dict.fromkeys(names))})
    significant = cells["normalized"].where(cells["p_adjusted"] < _SIGNIFICANT)
    by_dimension = significant.groupby(cells["dimension"])
    best = by_dimension.apply(lambda values: -1 if values.isna().all() else values.idxmax())
    dimensions = pd.DataFrame(
        {
            "active": cells.groupby("dimension")["active"].first(),
            "place": best.map(lambda i: len(cells) if i < 0 else column_rank.to_dict()[i]),
            "strength": -by_dimension.max(),
        }
    )
    order = dimensions.sort_values(["active", "place", "strength"], ascending=[False, True, True], kind="stable").index
    cells["encodes"] = cells["dimension"].map({d: "" if i < 0 else names[i] for d, i in best.items()})
    row_rank = cells["dimension"].map({dimension: i for i, dimension in enumerate(order)})
    ordered = cells.iloc[np.lexsort((column_rank, row_rank))].reset_index(drop=True)
    columns = ["dimension", "covariate", "column", "normalized", "direction", "p_adjusted", "active", "encodes"]
    return ordered[[*columns, *(["name"] if "name" in ordered else [])]]


def _choose_embedding(table: pd.DataFrame, embedding: str | None) -> pd.DataFrame:
    """Rows of one embedding."""
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
    is_class = part["class"] != ""
    n_classes = part.loc[is_class, "class"].nunique()
    if 0 < n_classes <= _MAX_CLASSES:
        return part[is_class].assign(column=part["class"])
    return part[~is_class].assign(column=f"{n_classes} classes" if n_classes else part["covariate"])


def _draw_covariate(axes: Axes, part: pd.DataFrame, highest: float) -> QuadMesh:
    """Heatmap of one covariate, with signs."""
    n_columns = part["column"].nunique()
    values, directions = (part[name].to_numpy(float).reshape(-1, n_columns) for name in ("normalized", "direction"))
    axes.set_facecolor(palette.PALE)
    style = {"cmap": _COLOR_MAP, "vmin": 0.0, "vmax": highest, "edgecolors": palette.LIGHT, "linewidth": 0.5}
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), **style)
    text: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": "small"}
    for row, column in np.argwhere((values >= _MARKED_VALUE) & (np.abs(directions) >= _MARKED_DIRECTION)):
        red, green, blue, _ = colormaps[_COLOR_MAP](values[row, column] / highest)
        color = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        axes.text(column + 0.5, row + 0.5, "+" if directions[row, column] > 0 else "−", color=color, **text)
    axes.set_ylim(len(values), 0)
    axes.set_yticks([])
    title = part["covariate"].iloc[0]
    labels = ["" if label == title else label for label in part["column"].iloc[:n_columns]]
    axes.set_xticks(np.arange(n_columns) + 0.5, labels)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelrotation=90, labelsize="small")
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize="medium")
    return mesh
