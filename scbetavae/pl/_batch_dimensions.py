"""Batch against biology: a point a latent dimension, those marked that can be given up."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.pl._figure import single_panel, write_reason
from scbetavae.pl._score_tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from matplotlib.axes import Axes

_COLUMNS = (
    "dimension",
    "active",
    "batch_given_conserved",
    "conserved_given_batch",
    "batch_p_adjusted",
    "rank",
    "chosen",
)
_MAKE = "model.find_batch_dimensions(batch_key)` or `scbetavae.tl.find_batch_dimensions(adata, batch_key)"
_CHOSEN, _OTHER = "#D55E00", "#0072B2"
_WIDTH, _HEIGHT = 5.2, 5.8  # inches
_LETTERS, _LINE = 62, 0.16  # letters of a line of the summary, and its height
_ABOVE, _APART = 0.038, 0.036  # shares of an axis: a label above its point, and from label to label


def batch_dimensions(
    data: AnnData | pd.DataFrame, *, key: str = _keys.BATCH_DIMENSIONS, ax: Axes | None = None
) -> Axes:
    """Draw how much batch and how much of the conserved covariates each dimension holds.

    A point is a dimension. Upwards is the batch that the conserved covariates do not explain, to the right the conserved
    covariate that batch does not explain, both in nats. The further above the diagonal, the earlier it would go; those
    that the rule chose are marked. A hollow point tells no more of batch than chance. The summary is the title,
    and all there is where too few cells made a comparison impossible.

    Parameters
    ----------
    data
        Annotated data with the result in ``.uns["betavae"][key]``, or the data frame itself.
    key
        Name under which it was stored.
    ax
        Axes to draw on; a new figure unless given.

    Returns
    -------
    Axes

    Raises
    ------
    KeyError
        If there is no such result.
    ValueError
        If no dimension is active.

    See Also
    --------
    batch_dimensions_frame : the data behind this picture.

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(400, 50, n_cell_types=2)
    >>> adata.obsm["X_betavae"] = np.random.default_rng(0).normal(size=(400, 3))
    >>> adata.obsm["X_betavae"][:, 2] += 6.0 * (adata.obs["batch"] == "batch_1")
    >>> frame = scbetavae.tl.find_batch_dimensions(adata, "batch", conserve="cell_type")
    >>> axes = scbetavae.pl.batch_dimensions(adata)
    >>> sorted(text.get_text() for text in axes.texts)
    ['0', '1', '2']
    """
    frame = batch_dimensions_frame(data, key=key)
    batch, conserved, summary = _describe(data, key)
    title = textwrap.fill(summary, _LETTERS)
    extra = max(title.count("\n") - 2, 0) * _LINE
    axes = single_panel(_WIDTH, _HEIGHT + extra) if ax is None else ax
    if frame["batch_given_conserved"].isna().all():
        return write_reason(axes, f"Dimensions that hold {batch}", summary or "Nothing is known of these dimensions.")
    x, y = frame["conserved_given_batch"].to_numpy(), frame["batch_given_conserved"].to_numpy()
    highest = max(x.max(), y.max(), 0.05)
    low, high = -0.05 * highest, 1.1 * highest
    axes.plot([low, high], [low, high], color="#BBBBBB", linewidth=1, zorder=1)
    for chosen, color, marker, label in ((False, _OTHER, "o", "kept"), (True, _CHOSEN, "D", "chosen to be zeroed")):
        drawn = frame["chosen"].to_numpy() == chosen
        if not drawn.any():
            continue
        faces = np.where(frame.loc[drawn, "significant"], color, "white")
        axes.scatter(x[drawn], y[drawn], c=faces, edgecolors=color, marker=marker, s=42, zorder=3, label=label)
    for i, height in _label_heights(x / (high - low), y / (high - low)):
        leader = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6} if height > 1.1 * _ABOVE else None
        place = (x[i], y[i] + height * (high - low))
        axes.annotate(
            str(frame["dimension"].iloc[i]),
            (x[i], y[i]),
            place,
            fontsize="small",
            ha="center",
            va="center",
            arrowprops=leader,
            zorder=4,
        )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.set_xlabel(f"{conserved} that {batch} does not explain (nats)")
    axes.set_ylabel(f"{batch} that what is conserved does not explain (nats)")
    hollow = None if frame["significant"].all() else "open: batch is not significant"
    axes.legend(loc="best", frameon=False, fontsize="small", title=hollow, title_fontsize="small")
    if summary:
        axes.set_title(title, fontsize="small", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def batch_dimensions_frame(data: AnnData | pd.DataFrame, *, key: str = _keys.BATCH_DIMENSIONS) -> pd.DataFrame:
    """What :func:`batch_dimensions` draws.

    Parameters
    ----------
    data
        Annotated data with the result in ``.uns["betavae"][key]``, or the data frame itself.
    key
        Name under which it was stored.

    Returns
    -------
    DataFrame
        A row an active dimension, in order of rank: ``dimension``, ``rank``, ``batch_given_conserved`` and
        ``conserved_given_batch`` (nats), ``significant`` (adjusted p-value for batch at most the false discovery rate, 0.05
        for a data frame), ``chosen``.

    Raises
    ------
    KeyError
        If there is no such result.
    ValueError
        If no dimension is active.
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    rate = 0.05 if isinstance(data, pd.DataFrame) else float(_stored.parameters(data, key).get("fdr", 0.05))
    active = table["active"].to_numpy(dtype=bool)
    if not active.any():
        msg = "No dimension in the table is active, so there is nothing to draw."
        raise ValueError(msg)
    frame = table[active].sort_values("rank").reset_index(drop=True)
    frame["significant"] = frame["batch_p_adjusted"] <= rate
    frame["chosen"] = frame["chosen"].astype(bool)
    columns = ["dimension", "rank", "batch_given_conserved", "conserved_given_batch", "significant", "chosen"]
    return frame[columns]


def _describe(data: AnnData | pd.DataFrame, key: str) -> tuple[str, str, str]:
    """Names of batch and of what is conserved, and the summary, as far as they are known."""
    if isinstance(data, pd.DataFrame):
        return "batch", "biology", ""
    known = _stored.parameters(data, key)
    conserved = str(known.get("conserve", "biology"))
    if known.get("clustered"):
        conserved = "clusters"
    elif ", " in conserved:
        conserved = "what is conserved"
    return str(known.get("batch_key", "batch")), conserved, str(known.get("summary", ""))


def _label_heights(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, float]]:
    """How high above its point each label goes, in shares of the axis, so that it lies on no point and no other label."""
    taken = list(zip(x, y, strict=True))
    for i in np.lexsort((x, y)):
        height = _ABOVE
        while any(abs(y[i] + height - other_y) < _APART and abs(x[i] - other_x) < _APART for other_x, other_y in taken):
            height += _APART / 4
        taken.append((x[i], y[i] + height))
        yield int(i), height
