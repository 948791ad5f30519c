"""Which dimensions predict a covariate: accuracy with interval, on the band of permuted labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scbetavae._core import keys as _keys
from scbetavae.pl._figure import single_panel, write_reason
from scbetavae.pl._score_tables import read_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

_COLUMNS = (
    "predictor", "dimension", "active", "covariate", "accuracy", "null_low", "null_high", "p_adjusted", "ci_low", "ci_high",
    "direction", "n_classes",
)  # fmt: skip
_MAKE = "model.predict_condition(covariate)` or `scbetavae.tl.predict_condition(adata, covariate)"
_SIGNIFICANT = 0.05
_COLOR, _ALL, _NUISANCE, _NULL = "#0072B2", "#000000", "#D55E00", "#DCDCDC"
_ROW_HEIGHT = 0.24  # inches
_LONGEST = 28  # characters of a class


def condition_prediction(
    data: AnnData | pd.DataFrame, *, key: str = _keys.CONDITION_PREDICTION, ax: Axes | None = None
) -> Axes:
    """Draw how well each dimension predicts a covariate, the best on top.

    The dot is the held-out accuracy and the line its 95% interval; the gray band holds 95% of the accuracies for permuted
    labels. A
    hollow dot is not told from them once corrected for the number of dimensions. The vertical lines are the accuracy of all
    dimensions together, and of library size and percent mitochondrial alone: what lies left of the latter may be
    nothing but them. Beside a dimension stands the class with its highest values, or whether a number rises (+) or falls (-).

    Parameters
    ----------
    data
        Annotated data with a prediction in ``.uns["betavae"][key]``, or the data frame.
    key
        Name under which the prediction was stored.
    ax
        Axes to draw into; a new figure unless given.

    Returns
    -------
    Axes

    Raises
    ------
    KeyError
        If there is no prediction under ``key``.
    ValueError
        If no dimension is active.

    See Also
    --------
    condition_prediction_frame : the data behind this picture.

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> treated = np.arange(200) % 2 > 0
    >>> codes = np.random.default_rng(0).normal(size=(200, 3)) + 3.0 * treated[:, None] * [0, 0, 1]
    >>> table = scbetavae.metrics.condition_prediction(codes, treated)
    >>> axes = scbetavae.pl.condition_prediction(table)
    >>> axes.get_yticklabels()[0].get_text()
    '2 (True)'
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    reasons = [flag for flag in table.get("flag", ()) if flag.startswith("not possible")]
    if reasons and table["accuracy"].isna().all():
        axes = single_panel(4.6, 2.4) if ax is None else ax
        return write_reason(axes, f"Prediction of {table['covariate'].iloc[0]}", reasons[0])
    frame = condition_prediction_frame(data, key=key)
    dimensions = frame[frame["predictor"] == "dimension"]
    if ax is None:
        ax = single_panel(6.4, _ROW_HEIGHT * len(dimensions) + 1.1)
    heights = np.arange(len(dimensions))
    ax.fill_betweenx(
        np.repeat(heights, 2) + np.tile([-0.5, 0.5], len(heights)),
        dimensions["null_low"].repeat(2),
        dimensions["null_high"].repeat(2),
        color=_NULL,
        linewidth=0,
        zorder=1,
    )
    for height, row in zip(heights, dimensions.itertuples(), strict=True):
        ax.plot([row.ci_low, row.ci_high], [height, height], color=_COLOR, linewidth=1.6, zorder=3)
        fill = "white" if row.p_adjusted >= _SIGNIFICANT else _COLOR
        ax.plot(row.accuracy, height, color=_COLOR, marker="o", markersize=5.5, markerfacecolor=fill, zorder=4)
    lines = _draw_references(ax, frame)
    _style(ax, frame, dimensions)
    ax.legend(
        handles=[*_legend(dimensions), *lines],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize="small",
        borderaxespad=0.0,
    )
    return ax


def condition_prediction_frame(data: AnnData | pd.DataFrame, *, key: str = _keys.CONDITION_PREDICTION) -> pd.DataFrame:
    """What :func:`condition_prediction` draws, in its order.

    Parameters
    ----------
    data
        Annotated data with a prediction in ``.uns["betavae"][key]``, or the data frame.
    key
        Name under which the prediction was stored.

    Returns
    -------
    DataFrame
        The rows of the prediction: active dimensions by falling accuracy, then all dimensions, then the technical covariates
        if there are
        any; with a first column ``label``.

    Raises
    ------
    KeyError
        If there is no prediction under ``key``.
    ValueError
        If no dimension is active.
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    table = table[table["accuracy"].notna()]
    is_dimension = table["predictor"] == "dimension"
    if not is_dimension.any():
        msg = "No dimension is active, so there is nothing to draw: the embedding is constant or the model collapsed."
        raise ValueError(msg)
    order = table[is_dimension].sort_values("accuracy", ascending=False, kind="stable").index
    table = table.loc[[*order, *table.index[~is_dimension]]].reset_index(drop=True)
    names = [_shorten(str(name)) for name in table["direction"]]
    labels = [
        (f"{row.dimension} ({name})" if name else str(row.dimension)) if row.predictor == "dimension" else row.predictor
        for row, name in zip(table.itertuples(), names, strict=True)
    ]
    table.insert(0, "label", labels)
    return table


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _draw_references(ax: Axes, frame: pd.DataFrame) -> list[Line2D]:
    """Vertical lines of all dimensions and of the technical covariates."""
    styles = {"all": (_ALL, "-", "all dimensions"), "technical": (_NUISANCE, "--", "technical covariates alone")}
    lines = []
    for row in frame.itertuples():
        if row.predictor in styles:
            color, style, label = styles[row.predictor]
            line = ax.axvline(row.accuracy, color=color, linestyle=style, linewidth=1.3, zorder=2)
            line.set_label(f"{label}: {round(row.accuracy, 2) + 0.0:.2f}")
            lines.append(line)
    return lines


def _style(ax: Axes, frame: pd.DataFrame, dimensions: pd.DataFrame) -> None:
    numeric = int(frame["n_classes"].iloc[0]) == 0
    ax.set_yticks(range(len(dimensions)), dimensions["label"])
    ax.set_ylim(len(dimensions) - 0.5, -0.5)
    ax.set_ylabel("dimension (rises or falls)" if numeric else "dimension (highest class)")
    ax.set_xlabel("squared correlation, held out" if numeric else "balanced accuracy above chance, held out")
    ax.set_title(f"Prediction of {frame['covariate'].iloc[0]}", fontsize="medium")
    shown = frame[["accuracy", "ci_low", "ci_high", "null_low", "null_high"]].to_numpy(dtype=float)
    low, high = min(0.0, float(np.nanmin(shown))), max(0.1, float(np.nanmax(shown)))
    ax.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _legend(dimensions: pd.DataFrame) -> list[Line2D | Patch]:
    handles = [Line2D([], [], color=_COLOR, marker="o", markersize=5.5, label="one dimension, 95% interval")]
    if (dimensions["p_adjusted"] >= _SIGNIFICANT).any():
        hollow = {"marker": "o", "markersize": 5.5, "markerfacecolor": "white"}
        handles.append(Line2D([], [], color=_COLOR, label=f"corrected p ≥ {_SIGNIFICANT:g}", **hollow))
    if dimensions["null_low"].notna().any():
        handles.append(Patch(facecolor=_NULL, label="95% of permuted labels"))
    return handles
