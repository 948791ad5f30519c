"""Training curves: every quantity of the training history over epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import MaxNLocator

from scbetavae._core import keys as _keys
from scbetavae.pl._figure import Picture

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPLITS = ("train", "validation")
# Blue and vermilion of Okabe and Ito's palette, told apart under every common color blindness; gray is neither split.
_COLORS = {"train": "#0072B2", "validation": "#D55E00", "": "#404040"}
_LABELS = {
    "objective": ("Objective", "nats per cell"),
    "nll": ("Negative log-likelihood", "nats per cell"),
    "kl": ("KL divergence from the prior", "nats per cell"),
    "beta": ("Weight of the regularizer", "beta"),
    "active_dimensions": ("Active dimensions", "latent dimensions"),
    "lr": ("Learning rate", "learning rate"),
}
_FROM_ZERO = ("beta", "active_dimensions")
_MAX_COLUMNS = 3
_MARKER_LIMIT = 25


def training(adata: AnnData, *, key: str = _keys.UNS) -> Figure:
    """Draw the training curves: objective, likelihood, KL, beta, active dimensions, and whatever else was recorded.

    One panel a quantity over epochs. Where validation ran, its curve lies beside the training one.

    Parameters
    ----------
    adata
        The AnnData a model was trained on, with the history in ``.uns[key]``.
    key
        Entry of ``.uns`` that the model wrote to.

    Returns
    -------
    Figure
        Three panels a row, in the order of :func:`training_frame`.

    Raises
    ------
    KeyError
        If ``adata`` holds no training history under ``key``.

    See Also
    --------
    training_frame : the data behind this picture.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> import scbetavae
    >>> history = pd.DataFrame({"beta": [0.0, 2.0, 4.0], "nll_train": [350.0, 330.0, 320.0]}, index=[1, 2, 3])
    >>> adata = AnnData(uns={"betavae": {"history": history}})
    >>> figure = scbetavae.pl.training(adata)
    >>> [axes.get_title() for axes in figure.axes]
    ['Negative log-likelihood', 'Weight of the regularizer']
    """
    frame = training_frame(adata, key=key)
    quantities = frame["quantity"].unique()
    n_columns = min(_MAX_COLUMNS, len(quantities))
    n_rows = math.ceil(len(quantities) / n_columns)
    figure = Picture(3.6 * n_columns, 2.7 * n_rows)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    for position, quantity in enumerate(quantities, start=1):
        axes = figure.add_subplot(n_rows, n_columns, position)
        _draw_quantity(axes, frame[frame["quantity"] == quantity], quantity)
    return figure


def training_frame(adata: AnnData, *, key: str = _keys.UNS) -> pd.DataFrame:
    """Training history in long form, a row for each epoch, quantity and split.

    Parameters
    ----------
    adata
        The AnnData a model was trained on, with the history in ``.uns[key]``.
    key
        Entry of ``.uns`` that the model wrote to.

    Returns
    -------
    DataFrame
        Columns ``epoch`` (epochs done, with fractions where the history was written within epochs),
        ``quantity`` (``objective``, ``nll``, ``kl``, ``beta``, ``active_dimensions``,
        then any other numeric quantity of the history), ``split`` (``train``, ``validation``, or empty for a
        quantity without splits) and ``value`` (nats per cell for the first three). Epochs at which a quantity was not
        recorded are left out.

    Raises
    ------
    KeyError
        If ``adata`` holds no training history under ``key``.
    ValueError
        If the history has no numeric column, or no epoch.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> import scbetavae
    >>> history = pd.DataFrame({"nll_train": [350.0, 330.0], "nll_validation": [None, 335.0]}, index=[1, 2])
    >>> scbetavae.pl.training_frame(AnnData(uns={"betavae": {"history": history}}))
       epoch quantity       split  value
    0      1      nll       train  350.0
    1      2      nll       train  330.0
    2      2      nll  validation  335.0
    """
    history = adata.uns.get(key, {}).get(_keys.HISTORY)
    if history is None:
        msg = (
            f"There is no training history in adata.uns[{key!r}][{_keys.HISTORY!r}]. "
            "Train a model on this AnnData first: `scbetavae.model.BetaVAE(adata).train()`."
        )
        raise KeyError(msg)
    columns = history.select_dtypes("number")
    done = columns.index.to_numpy(dtype=float)  # epochs, with fractions where a run was written more often
    columns = columns.set_axis(done if (done % 1).any() else done.astype(int))
    parts = [_long_column(columns[name], columns) for name in columns]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if frame.empty:
        msg = f"The training history in adata.uns[{key!r}] holds no numbers. Train the model for at least one epoch."
        raise ValueError(msg)
    order = [*_LABELS, *(name for name in frame["quantity"].unique() if name not in _LABELS)]
    rank = frame["quantity"].map(order.index)
    return frame.iloc[rank.argsort(kind="stable")].reset_index(drop=True)


def _long_column(column: pd.Series, columns: pd.DataFrame) -> pd.DataFrame:
    """One column of the history as long rows, its name taken apart into quantity and split."""
    column = column.dropna()
    quantity, _, split = str(column.name).rpartition("_")
    if split not in _SPLITS:
        quantity = str(column.name)
        split = "train" if f"{quantity}_validation" in columns else ""
    return pd.DataFrame({"epoch": column.index, "quantity": quantity, "split": split, "value": column.to_numpy(float)})


def _label_of_objective(quantity: str) -> tuple[str, str]:
    """Title and unit of a quantity that an objective logs; its name where none does."""
    from scbetavae.module import OBJECTIVES

    labels = {name: label for objective in OBJECTIVES.values() for name, label in objective.history.items()}
    return labels.get(quantity, (quantity.replace("_", " ").capitalize(), "value"))


def _draw_quantity(axes: Axes, frame: pd.DataFrame, quantity: str) -> None:
    title, unit = _LABELS.get(quantity) or _label_of_objective(quantity)
    for split, curve in frame.groupby("split", sort=False):
        # A curve of few points would be invisible (one point) or look smoother than it is.
        marker = "o" if len(curve) <= _MARKER_LIMIT else None
        axes.plot(
            curve["epoch"], curve["value"], color=_COLORS[split], label=split or None, marker=marker, markersize=3
        )
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    if quantity in _FROM_ZERO:
        axes.set_ylim(bottom=0, top=1.08 * max(frame["value"].max(), 1e-12))
    if quantity == "active_dimensions":
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    if frame["split"].nunique() > 1:
        axes.legend(frameon=False, fontsize="small")
