"""What each latent dimension encodes, and what the counts lose without it."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from scbetavae._core import keys, palette
from scbetavae._core.constants import ACTIVE_KL, STABLE
from scbetavae.pl._figure import Picture, dimension_labels, label_rows, read_parameters, read_table

_COLUMNS = ("dimension", "kl", "active", "reconstruction_lost", "reconstruction_lost_se", "order")
_MAKE = "model.get_latent_summary()"
_PANELS = {
    "kl": (palette.BLUE, "KL divergence from the prior (nats)"),
    "reconstruction_lost": (palette.ORANGE_RED, "lost without the dimension (nats per cell)"),
}
_ROW = 0.24  # inches
_WIDTH, _STABILITY_WIDTH = 7.6, 1.8  # inches of two panels, and of the third
_CHARACTER = 0.07  # inches of a letter of a name
_CHARACTERS = 120  # of a line of text over that width
_PALE = 0.35


def latent_summary(data: AnnData | pd.DataFrame, *, key: str = keys.LATENT_SUMMARY) -> Figure:
    """Draw what every dimension encodes, and what the counts lose without it, the most valuable dimension first.

    On the left the KL divergence from the prior in nats, on the right the nats per cell that held-out cells lose when the
    dimension is set to the prior mean, with twice its standard error to either side. Inactive dimensions (0.01 nats or less) have
    a gray background. If the model has an anchor, a third panel shows the stability of each dimension's component, and
    dimensions below 0.7 are pale: other cells may give others. A sentence about posterior collapse is the title, if there is one.

    Parameters and errors are as in :func:`batch_dimensions`. The Figure has two or three panels.

    Examples
    --------
    >>> import pandas as pd, scbetavae
    >>> summary = pd.DataFrame({"dimension": [0, 1], "kl": [0.001, 1.2], "active": [False, True], "order": [2, 1]})
    >>> summary = summary.assign(reconstruction_lost=[0.0, 20.0], reconstruction_lost_se=[0.1, 2.0])
    >>> figure = scbetavae.pl.latent_summary(summary)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['1', 'inactive 0']
    """
    frame = read_table(data, key, _COLUMNS, _MAKE).sort_values("order", kind="stable").reset_index(drop=True)
    stability = frame["stability"].to_numpy(float) if "stability" in frame else np.full(len(frame), np.nan)
    sentence = textwrap.fill(str(read_parameters(data, key).get("collapse", "")), _CHARACTERS)
    n_panels = 2 + int(np.isfinite(stability).any())
    height = max(len(frame) * _ROW, 1.0) + 0.9 + 0.18 * (sentence.count("\n") + bool(sentence))
    labels = dimension_labels(frame)
    width = _WIDTH + _STABILITY_WIDTH * (n_panels - 2) + _CHARACTER * max(map(len, labels))
    figure = Picture(width, height, w_pad=0.06, wspace=0.02)
    panels = figure.subplots(1, n_panels, sharey=True, width_ratios=[3, 3, 1.4][:n_panels])
    pale = stability < STABLE  # unknown stability is not low
    active = frame["active"].to_numpy(dtype=bool)
    for axes, name in zip(panels, _PANELS, strict=False):
        _draw_bars(axes, name, frame, active, pale)
    if n_panels > 2:
        for rows, alpha in ((np.isfinite(stability) & ~pale, None), (pale, _PALE)):
            panels[2].scatter(stability[rows], np.flatnonzero(rows), s=28, color=palette.GREEN, alpha=alpha, zorder=2)
        panels[2].axvline(STABLE, color=palette.DARK, linewidth=0.8, linestyle="--", zorder=1)
        panels[2].set(xlim=(-0.05, 1.05), xlabel="stability", xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    for axes in panels:
        for row in np.flatnonzero(~active):
            axes.axhspan(row - 0.5, row + 0.5, color=palette.PALE, linewidth=0, zorder=0)
        label_rows(axes, labels, fontsize="small")
    panels[0].set_ylabel("dimension")
    if sentence:
        figure.suptitle(sentence, fontsize="small", x=0.01, ha="left")
    inactive = Patch(facecolor=palette.PALE, edgecolor=palette.MIDDLE, label=f"inactive: {ACTIVE_KL:g} nats or less")
    unstable = Patch(facecolor=palette.ORANGE_RED, alpha=_PALE, label=f"pale: stability below {STABLE:g}")
    if not active.all() or pale.any():
        handles = [inactive] * (not active.all()) + [unstable] * bool(pale.any())
        panels[1].legend(handles=handles, loc="lower right", frameon=False, fontsize="small")
    return figure


def _draw_bars(axes: Axes, name: str, frame: pd.DataFrame, active: np.ndarray, pale: np.ndarray) -> None:
    """One bar per dimension, with its number."""
    values = frame[name].to_numpy(float)
    error = 2 * np.nan_to_num(frame["reconstruction_lost_se"].to_numpy(float)) * (name != "kl")
    color, label = _PANELS[name]
    style = {"height": 0.66, "color": np.where(active, color, palette.MIDDLE), "zorder": 2}
    spread = {"xerr": error, "error_kw": {"linewidth": 1.0, "ecolor": palette.DARK}} if error.any() else {}
    bars = axes.barh(np.arange(len(values)), values, **style, **spread)
    for bar in np.array(bars.patches)[pale]:
        bar.set_alpha(_PALE)
    text: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": "x-small"}
    for row, (value, end) in enumerate(zip(values, np.maximum(values + error, 0.0), strict=True)):
        axes.annotate(f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}", (end, row), (3, 0), **text)
    axes.margins(x=0.16)  # room for the numbers
    axes.axvline(0.0, color=palette.DARK, linewidth=0.8, zorder=3)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
