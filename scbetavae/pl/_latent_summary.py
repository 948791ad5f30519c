"""What each latent dimension carries, and what the counts lose without it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.pl._figure import Picture
from scbetavae.pl._score_tables import read_table

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = ("dimension", "kl", "active", "reconstruction_lost", "reconstruction_lost_se", "order")
_MAKE = "model.get_latent_summary()"
_COLORS = {"kl": "#0072B2", "reconstruction_lost": "#D55E00"}  # blue and vermilion of Okabe and Ito
_EMPTY_COLOR = "#9A9A9A"
_EMPTY_ROW = "#EDEDED"
_ROW = 0.24  # inches
_WIDTH = 7.6
_STABILITY_WIDTH = 1.8  # of the third panel
_CHARACTERS = 120  # of a line of text over that width
_ACTIVE_KL = 0.01
_STABLE = 0.7
_PALE = 0.35
_STABILITY_COLOR = "#009E73"  # bluish green of Okabe and Ito


def latent_summary(data: AnnData | pd.DataFrame, *, key: str = _keys.LATENT_SUMMARY) -> Figure:
    """Draw what every dimension carries, and what the counts lose without it, the most valuable dimension first.

    On the left the divergence from the prior in nats, on the right the nats per cell that held-out cells lose when the
    dimension is set to the prior mean, with twice its standard error to either side. Dimensions with a divergence of 0.01 nats
    or less are on gray ground. If the model has an anchor, a third panel shows the stability of each dimension's component, and
    dimensions below 0.7 are pale: other cells may give others. A sentence about posterior collapse stands above, if there is one.

    Parameters
    ----------
    data
        Annotated data with a summary in ``.uns["betavae"][key]``, or the data frame.
    key
        Name under which the summary was stored.

    Returns
    -------
    Figure
        Two or three panels with a common order of the dimensions.

    Raises
    ------
    KeyError
        If there is no summary under ``key``.
    ValueError
        If it has no rows.

    See Also
    --------
    latent_summary_frame : the data behind this picture.
    scbetavae.model.BetaVAE.get_latent_summary : makes the summary.

    Examples
    --------
    >>> import pandas as pd
    >>> import scbetavae
    >>> summary = pd.DataFrame({"dimension": [0, 1], "kl": [0.001, 1.2], "active": [False, True], "order": [2, 1]})
    >>> summary = summary.assign(reconstruction_lost=[0.0, 20.0], reconstruction_lost_se=[0.1, 2.0])
    >>> figure = scbetavae.pl.latent_summary(summary)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['1', 'inactive 0']
    """
    frame = latent_summary_frame(data, key=key)
    sentence = textwrap.fill(_sentence(data, key), _CHARACTERS)
    has_stability = "stability" in frame and bool(frame["stability"].notna().any())
    width = _WIDTH + _STABILITY_WIDTH * has_stability
    figure = Picture(width, max(len(frame) * _ROW, 1.0) + 0.9 + 0.18 * (sentence.count("\n") + bool(sentence)))
    figure.get_layout_engine().set(w_pad=0.06, wspace=0.02)
    left, right, *third = figure.subplots(
        1, 2 + has_stability, sharey=True, width_ratios=[3, 3, 1.4][: 2 + has_stability]
    )
    _draw_bars(left, frame, "kl", "divergence from the prior (nats)")
    _draw_bars(right, frame, "reconstruction_lost", "lost without the dimension (nats per cell)")
    if third:
        _draw_stability(third[0], frame)
    labels = [f"{row.dimension}" if row.active else f"inactive {row.dimension}" for row in frame.itertuples()]
    left.set_yticks(range(len(frame)), labels, fontsize="small")
    left.set_ylabel("dimension")
    left.set_ylim(len(frame) - 0.5, -0.5)
    if sentence:
        figure.suptitle(sentence, fontsize="small", x=0.01, ha="left")
    handles = []
    if not frame["active"].all():
        handles.append(Patch(facecolor=_EMPTY_ROW, edgecolor="#B0B0B0", label=f"inactive: {_ACTIVE_KL:g} nats or less"))
    if _is_pale(frame).any():
        label = f"pale: stability below {_STABLE:g}"
        handles.append(Patch(facecolor=_COLORS["reconstruction_lost"], alpha=_PALE, label=label))
    if handles:
        right.legend(handles=handles, loc="lower right", frameon=False, fontsize="small")
    return figure


def latent_summary_frame(data: AnnData | pd.DataFrame, *, key: str = _keys.LATENT_SUMMARY) -> pd.DataFrame:
    """Summary in the order in which :func:`latent_summary` draws it.

    Parameters
    ----------
    data
        Annotated data with a summary in ``.uns["betavae"][key]``, or the data frame.
    key
        Name under which the summary was stored.

    Returns
    -------
    DataFrame
        The rows of the summary by ``order``; columns as :meth:`scbetavae.model.BetaVAE.get_latent_summary` says.

    Raises
    ------
    KeyError
        If there is no summary under ``key``.
    ValueError
        If it has no rows.
    """
    return read_table(data, key, _COLUMNS, _MAKE).sort_values("order", kind="stable").reset_index(drop=True)


def _sentence(data: AnnData | pd.DataFrame, key: str) -> str:
    """The sentence about inactive dimensions, which only an AnnData holds."""
    return "" if isinstance(data, pd.DataFrame) else str(_stored.parameters(data, key).get("collapse", ""))


def _draw_bars(axes: Axes, frame: pd.DataFrame, column: str, label: str) -> None:
    active = frame["active"].to_numpy(dtype=bool)
    _shade(axes, active)
    rows, values = np.arange(len(frame)), frame[column].to_numpy(float)
    error = np.zeros(len(frame))
    if column == "reconstruction_lost":
        error = 2 * np.nan_to_num(frame["reconstruction_lost_se"].to_numpy(float))
    bars = axes.barh(
        rows,
        values,
        xerr=error if error.any() else None,
        height=0.66,
        color=np.where(active, _COLORS[column], _EMPTY_COLOR),
        error_kw={"linewidth": 1.0, "ecolor": "#202020"},
        zorder=2,
    )
    for pale, bar in zip(_is_pale(frame), bars, strict=True):
        bar.set_alpha(_PALE if pale else None)
    for row, (value, end) in enumerate(zip(values, np.maximum(values + error, 0.0), strict=True)):
        number = f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
        axes.annotate(number, (end, row), (3, 0), textcoords="offset points", va="center", fontsize="x-small")
    axes.margins(x=0.16)  # room for the numbers
    axes.axvline(0.0, color="#404040", linewidth=0.8, zorder=3)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_stability(axes: Axes, frame: pd.DataFrame) -> None:
    """A dot for each dimension with a component, pale where it is below the line."""
    _shade(axes, frame["active"].to_numpy(dtype=bool))
    pale = _is_pale(frame)
    known = frame["stability"].notna().to_numpy()
    for rows, alpha in ((known & ~pale, None), (pale, _PALE)):
        axes.scatter(
            frame["stability"][rows], np.flatnonzero(rows), s=28, color=_STABILITY_COLOR, alpha=alpha, zorder=2
        )
    axes.axvline(_STABLE, color="#404040", linewidth=0.8, linestyle="--", zorder=1)
    axes.set_xlim(-0.05, 1.05)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel("stability")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _is_pale(frame: pd.DataFrame) -> np.ndarray:
    """Dimensions whose component resampled cells do not give again; unknown stability is not low."""
    if "stability" not in frame:
        return np.zeros(len(frame), dtype=bool)
    return frame["stability"].to_numpy(float) < _STABLE


def _shade(axes: Axes, active: np.ndarray) -> None:
    """Gray ground for inactive dimensions."""
    for height in np.flatnonzero(~active):
        axes.axhspan(height - 0.5, height + 0.5, color=_EMPTY_ROW, linewidth=0, zorder=0)
