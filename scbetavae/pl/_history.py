"""Training curves: every quantity of the training history over epochs."""

import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scbetavae._core import keys, palette
from scbetavae.pl._figure import hide_spines, panel_grid

_SPLITS = ("train", "validation")
_COLORS = {"train": palette.BLUE, "validation": palette.ORANGE_RED, "": palette.DARK}
_LABELS = {
    "objective": ("Objective", "nats per cell"),
    "nll": ("Negative log-likelihood", "nats per cell"),
    "kl": ("KL divergence from the prior", "nats per cell"),
    "beta": ("Weight of the regularizer", "beta"),
    "active_dimensions": ("Active dimensions", "latent dimensions"),
    "lr": ("Learning rate", "learning rate"),
}
_FROM_ZERO = ("beta", "active_dimensions")
_MARKER_LIMIT = 25


def history(adata: AnnData, *, key: str = keys.UNS) -> Figure:
    """Draw the training curves: objective, likelihood, KL, beta, active dimensions, and everything else that was recorded.

    One panel per quantity over epochs (with fractions where the history was written within epochs), up to three per row. Where
    validation ran, its curve is in the same panel. ``adata`` is the AnnData a model was trained on, with the history in
    ``.uns[key]["history"]``: a KeyError says that there is none, a ValueError that it has no number or epoch.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> import scbetavae
    >>> history = pd.DataFrame({"beta": [0.0, 2.0, 4.0], "nll_train": [350.0, 330.0, 320.0]}, index=[1, 2, 3])
    >>> figure = scbetavae.pl.history(AnnData(uns={"betavae": {"history": history}}))
    >>> [axes.get_title() for axes in figure.axes]
    ['Negative log-likelihood', 'Weight of the regularizer']
    """
    from scbetavae import module  # torch loads with it

    frame = _frame(adata, key)
    quantities = list(frame["quantity"].unique())
    figure, panels, _ = panel_grid(len(quantities), 3, 3.6, 2.7, w_pad=0.08, h_pad=0.08)
    labels = {name: label for objective in module.OBJECTIVES.values() for name, label in objective.history.items()}
    for axes, name in zip(panels, quantities, strict=True):
        title, unit = (labels | _LABELS).get(name, (name.replace("_", " ").capitalize(), "value"))
        axes.set(xlabel="epoch", ylabel=unit)
        axes.set_title(title, fontsize="medium")
        _draw_quantity(axes, frame[frame["quantity"] == name], name)
    return figure


def _frame(adata: AnnData, key: str = keys.UNS) -> pd.DataFrame:
    """The history in long form: ``epoch``, ``quantity``, ``split`` (empty where there is none) and ``value``."""
    stored = adata.uns.get(key, {}).get(keys.HISTORY)
    if stored is None:
        msg = (
            f"There is no training history in adata.uns[{key!r}][{keys.HISTORY!r}]. "
            "Train a model on this AnnData first: `scbetavae.model.BetaVAE(adata).train()`."
        )
        raise KeyError(msg)
    columns = stored.select_dtypes("number")
    done = columns.index.to_numpy(dtype=float)
    columns = columns.set_axis(done if (done % 1).any() else done.astype(int))
    parts = []
    for name in map(str, columns):
        column = columns[name].dropna()
        quantity, _, split = name.rpartition("_")
        if split not in _SPLITS:
            quantity, split = name, "train" if f"{name}_validation" in columns else ""
        part = {"epoch": column.index, "quantity": quantity, "split": split, "value": column.to_numpy(float)}
        parts.append(pd.DataFrame(part))
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if frame.empty:
        msg = f"The training history in adata.uns[{key!r}] holds no numbers. Train the model for at least one epoch."
        raise ValueError(msg)
    order = list(dict.fromkeys([*_LABELS, *frame["quantity"]]))
    return frame.iloc[frame["quantity"].map(order.index).argsort(kind="stable")].reset_index(drop=True)


def _draw_quantity(axes: Axes, frame: pd.DataFrame, quantity: str) -> None:
    """One curve per split."""
    for split, curve in frame.groupby("split", sort=False):
        # A curve of few points would be invisible (one point) or look smoother than it is.
        style = {"marker": "o" if len(curve) <= _MARKER_LIMIT else None, "markersize": 3, "label": split or None}
        axes.plot(curve["epoch"], curve["value"], color=_COLORS[str(split)], **style)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    if quantity in _FROM_ZERO:
        axes.set_ylim(bottom=0, top=1.08 * max(frame["value"].max(), 1e-12))
    if quantity == "active_dimensions":
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    hide_spines(axes)
    if frame["split"].nunique() > 1:
        axes.legend(frameon=False, fontsize="small")
