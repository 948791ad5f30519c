"""Batch against conserved covariates: one point per latent dimension, chosen ones marked."""

import textwrap
from collections.abc import Iterator

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from scbetavae._core import keys, palette
from scbetavae.pl._figure import hide_spines, read_parameters, read_table, single_panel, write_reason

_DRAWN = ("dimension", "rank", "batch_given_conserved", "conserved_given_batch")
_COLUMNS = (*_DRAWN, "active", "batch_p_adjusted", "chosen")
_MAKE = "model.find_batch_dimensions(batch_key)` or `scbetavae.tl.find_batch_dimensions(adata, batch_key)"
_WIDTH, _HEIGHT = 5.2, 5.8  # inches
_LETTERS, _LINE = 62, 0.16  # letters of a line of the summary, and its height
_ABOVE, _APART = 0.038, 0.036  # shares of an axis: a label above its point, and from label to label


def batch_dimensions(data: AnnData | pd.DataFrame, *, key: str = keys.BATCH_DIMENSIONS, ax: Axes | None = None) -> Axes:
    """Draw how strongly each dimension encodes batch, and how strongly the conserved covariates.

    One point per active dimension. Upwards is the information on batch given the conserved covariates, to the right that on the
    conserved covariates given batch (nats). The further a dimension is above the diagonal, the earlier it would be removed;
    chosen dimensions are marked. Open points: batch is not significant at the false discovery rate of the search. The title is
    the summary of the search; it stands alone where too few cells made a comparison impossible.

    Parameters
    ----------
    data
        Annotated data with the result in ``.uns["betavae"][key]``, or the data frame itself.
    key
        Name of the result.
    ax
        Axes to draw on; by default of a new figure. They are returned.

    Raises
    ------
    KeyError, ValueError
        If there is no such result, or nothing in it that can be drawn, such as an active dimension.

    Examples
    --------
    >>> import numpy as np, scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(400, 50, n_cell_types=2)
    >>> adata.obsm["X_betavae"] = np.random.default_rng(0).normal(size=(400, 3))
    >>> adata.obsm["X_betavae"][:, 2] += 6.0 * (adata.obs["batch"] == "batch_1")
    >>> frame = scbetavae.tl.find_batch_dimensions(adata, "batch", conserve="cell_type")
    >>> axes = scbetavae.pl.batch_dimensions(adata)
    >>> sorted(text.get_text() for text in axes.texts)
    ['0', '1', '2']
    """
    frame = _frame(data, key)
    known = read_parameters(data, key)
    batch, summary = str(known.get("batch_key", "batch")), str(known.get("summary", ""))
    conserved = "clusters" if known.get("clustered") else str(known.get("conserve", "conserved covariates"))
    conserved = "conserved covariates" if ", " in conserved else conserved
    title = textwrap.fill(summary, _LETTERS)
    axes = single_panel(_WIDTH, _HEIGHT + max(title.count("\n") - 2, 0) * _LINE, ax)
    if frame["batch_given_conserved"].isna().all():
        return write_reason(axes, f"Dimensions that encode {batch}", summary or "These dimensions were not measured.")
    x, y = frame["conserved_given_batch"].to_numpy(), frame["batch_given_conserved"].to_numpy()
    highest = max(x.max(), y.max(), 0.05)
    low, high = -0.05 * highest, 1.1 * highest
    axes.plot([low, high], [low, high], color=palette.MIDDLE, linewidth=1, zorder=1)
    styles = (False, palette.BLUE, "o", "kept"), (True, palette.ORANGE_RED, "D", "chosen to be zeroed")
    for chosen, color, marker, label in styles:
        drawn = frame["chosen"].to_numpy() == chosen
        if drawn.any():
            faces = np.where(frame.loc[drawn, "significant"], color, "white")
            axes.scatter(x[drawn], y[drawn], c=faces, edgecolors=color, marker=marker, s=42, zorder=3, label=label)
    text = {"fontsize": "small", "ha": "center", "va": "center", "zorder": 4}
    for i, height in _label_heights(x / (high - low), y / (high - low)):
        leader = {"arrowstyle": "-", "color": palette.MIDDLE, "linewidth": 0.6} if height > 1.1 * _ABOVE else None
        place = x[i], y[i] + height * (high - low)
        axes.annotate(str(frame["dimension"].iloc[i]), (x[i], y[i]), place, arrowprops=leader, **text)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(f"I(z; {conserved} given {batch}) (nats)")
    axes.set_ylabel(f"I(z; {batch} given {conserved}) (nats)")
    hollow = None if frame["significant"].all() else "open: batch is not significant"
    axes.legend(loc="best", frameon=False, fontsize="small", title=hollow, title_fontsize="small")
    if summary:
        axes.set_title(title, fontsize="small", loc="left")
    hide_spines(axes)
    return axes


def _frame(data: AnnData | pd.DataFrame, key: str = keys.BATCH_DIMENSIONS) -> pd.DataFrame:
    """Active dimensions in order of rank, and whether each is significant for batch and chosen."""
    table = read_table(data, key, _COLUMNS, _MAKE)
    frame = table[table["active"].to_numpy(dtype=bool)].sort_values("rank").reset_index(drop=True)
    if frame.empty:
        msg = "No dimension in the table is active, so there is nothing to draw."
        raise ValueError(msg)
    significant = frame["batch_p_adjusted"] <= float(read_parameters(data, key).get("fdr", 0.05))
    return frame[[*_DRAWN]].assign(significant=significant, chosen=frame["chosen"].astype(bool))


def _label_heights(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, float]]:
    """How high above its point each label goes, in shares of the axis, so that it lies on no point and no other label."""
    taken = list(zip(x, y, strict=True))
    for i in np.lexsort((x, y)):
        height = _ABOVE
        while any(abs(y[i] + height - other_y) < _APART and abs(x[i] - other_x) < _APART for other_x, other_y in taken):
            height += _APART / 4
        taken.append((x[i], y[i] + height))
        yield int(i), height
