"""Which dimensions predict a covariate: accuracy with interval, on the band of permuted labels."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scbetavae._core import keys, palette
from scbetavae.pl._figure import (
    dot_handle,
    label_of,
    label_rows,
    read_table,
    shorten,
    single_panel,
    unnamed,
    write_reason,
)

_NUMBERS = ("accuracy", "null_low", "null_high", "ci_low", "ci_high")
_COLUMNS = (
    "predictor",
    "dimension",
    "active",
    "covariate",
    *_NUMBERS,
    "p_adjusted",
    "direction",
    "n_classes",
    "status",
    "flag",
)
_MAKE = "model.predict_condition(covariate)` or `scbetavae.tl.predict_condition(adata, covariate)"
_SIGNIFICANT = 0.05
_COLOR, _NULL = palette.BLUE, palette.LIGHT
_REFERENCES = {
    "all": (palette.BLACK, "-", "all dimensions"),
    "technical": (palette.ORANGE_RED, "--", "technical covariates alone"),
}
_ROW_HEIGHT = 0.24  # inches
_LONGEST = 28  # characters of a class


def condition_prediction(
    data: AnnData | pd.DataFrame, *, key: str = keys.CONDITION_PREDICTION, ax: Axes | None = None
) -> Axes:
    """Draw how well each dimension predicts a covariate, the best on top.

    The dot is the held-out accuracy and the line its 95% interval; the gray band holds 95% of the accuracies for permuted
    labels. Open circles: not significant after correction for the number of dimensions. Vertical lines are the accuracy of all
    dimensions together, and of library size and percent mitochondrial alone: a dimension to the left of the latter may encode
    nothing else. Next to a dimension is the class with its highest values, or whether a number rises (+) or falls (-).

    Parameters, Axes and errors are as in :func:`batch_dimensions`.

    Examples
    --------
    >>> import numpy as np, scbetavae
    >>> treated = np.arange(200) % 2 > 0
    >>> z = np.random.default_rng(0).normal(size=(200, 3)) + 3.0 * treated[:, None] * [0, 0, 1]
    >>> table = scbetavae.metrics.condition_prediction(z, treated)
    >>> axes = scbetavae.pl.condition_prediction(table)
    >>> axes.get_yticklabels()[0].get_text()
    '2 (True)'
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    covariate = table["covariate"].iloc[0]
    if (table["status"] == "not possible").all():
        return write_reason(single_panel(4.6, 2.4, ax), f"Prediction of {covariate}", table["flag"].iloc[0])
    frame = _frame(table)
    dimensions = frame[frame["predictor"] == "dimension"]
    axes = single_panel(6.4, _ROW_HEIGHT * len(dimensions) + 1.1, ax)
    edges = np.repeat(np.arange(len(dimensions)), 2) + np.tile([-0.5, 0.5], len(dimensions))
    band = dimensions["null_low"].repeat(2), dimensions["null_high"].repeat(2)
    axes.fill_betweenx(edges, *band, color=_NULL, linewidth=0, zorder=1)
    for height, (_, row) in enumerate(dimensions.iterrows()):
        axes.plot([row["ci_low"], row["ci_high"]], [height, height], color=_COLOR, linewidth=1.6, zorder=3)
        fill = "white" if row["p_adjusted"] >= _SIGNIFICANT else _COLOR
        axes.plot(row["accuracy"], height, color=_COLOR, marker="o", markersize=5.5, markerfacecolor=fill, zorder=4)
    handles: list[Line2D | Patch] = [dot_handle("one dimension, 95% interval", _COLOR)]
    if (dimensions["p_adjusted"] >= _SIGNIFICANT).any():
        handles.append(dot_handle(f"corrected p ≥ {_SIGNIFICANT:g}", _COLOR, hollow=True))
    if dimensions["null_low"].notna().any():
        handles.append(Patch(facecolor=_NULL, label="95% of permuted labels"))
    for predictor, accuracy in zip(frame["predictor"], frame["accuracy"], strict=True):
        if predictor in _REFERENCES:
            color, style, label = _REFERENCES[predictor]
            label = f"{label}: {round(accuracy, 2) + 0.0:.2f}"
            handles.append(axes.axvline(accuracy, color=color, linestyle=style, linewidth=1.3, zorder=2, label=label))
    numeric = int(frame["n_classes"].iloc[0]) == 0
    label_rows(axes, dimensions["label"].tolist())
    axes.set_ylabel("dimension (rises or falls)" if numeric else "dimension (highest class)")
    axes.set_xlabel("held-out R2" if numeric else "held-out balanced accuracy, chance-corrected")
    axes.set_title(f"Prediction of {covariate}", fontsize="medium")
    shown = frame[list(_NUMBERS)].to_numpy(dtype=float)
    low, high = min(0.0, float(np.nanmin(shown))), max(0.1, float(np.nanmax(shown)))
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    axes.legend(handles=handles, frameon=False, fontsize="small", **place)
    return axes


def _frame(table: pd.DataFrame) -> pd.DataFrame:
    """Active dimensions by falling accuracy, then all together and technical covariates, with a first column ``label``."""
    table = table[table["accuracy"].notna()]
    is_dimension = table["predictor"] == "dimension"
    if not is_dimension.any():
        msg = "No dimension is active, so there is nothing to draw: the embedding is constant or the model collapsed."
        raise ValueError(msg)
    order = table[is_dimension].sort_values("accuracy", ascending=False, kind="stable").index
    table = table.loc[[*order, *table.index[~is_dimension]]].reset_index(drop=True)
    named = table["name"] if "name" in table else table["dimension"].map(unnamed)
    ends = [f" ({shorten(str(name), _LONGEST)})" if name else "" for name in table["direction"]]
    labels = [
        f"{label_of(number, str(name))}{end}" if predictor == "dimension" else str(predictor)
        for number, name, end, predictor in zip(table["dimension"], named, ends, table["predictor"], strict=True)
    ]
    table.insert(0, "label", labels)
    return table
