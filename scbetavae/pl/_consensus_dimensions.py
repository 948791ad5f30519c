"""How well several models agree on each latent dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from scbetavae._core import keys as _keys
from scbetavae.pl._figure import single_panel
from scbetavae.pl._score_tables import read_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

_COLUMNS = ("dimension", "embedding", "matched_dimension", "sign", "agreement")
_MAKE = "scbetavae.tl.consensus_dimensions(adata, obsm_keys)"
_COLOR, _MEAN = "#56B4E9", "#000000"
_ROW_HEIGHT = 0.26  # inches
_SPREAD = 0.5  # of a row, over which the dots of its embeddings lie


def consensus_dimensions(data: AnnData | pd.DataFrame, *, key: str = _keys.CONSENSUS, ax: Axes | None = None) -> Axes:
    """Draw the agreement of several embeddings on each dimension.

    A dot is the agreement of one embedding with the others, the mean absolute Spearman correlation of its matched dimension with
    theirs; the vertical bar is the mean over embeddings. A dimension that some embeddings lack has fewer dots.

    Parameters
    ----------
    data
        Annotated data with a consensus in ``.uns["betavae"][key]``, or its table of matches.
    key
        Name under which the consensus was stored.
    ax
        Axes to draw into; a new figure unless given.

    Returns
    -------
    Axes

    Raises
    ------
    KeyError
        If there is no consensus under ``key``.
    ValueError
        If it has no rows.

    See Also
    --------
    consensus_dimensions_frame : the data behind this picture.
    scbetavae.tl.consensus_dimensions : makes the consensus.

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> z = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
    >>> adata.obsm["seed 0"], adata.obsm["seed 1"] = z, -z[:, ::-1]
    >>> frame = scbetavae.tl.consensus_dimensions(adata, ["seed 0", "seed 1"])
    >>> axes = scbetavae.pl.consensus_dimensions(adata)
    >>> axes.get_xlabel()
    'agreement (mean |Spearman correlation|)'
    """
    frame = consensus_dimensions_frame(data, key=key)
    dimensions = frame["dimension"].unique()
    embeddings = list(dict.fromkeys(frame["embedding"]))
    if ax is None:
        ax = single_panel(5.0, _ROW_HEIGHT * len(dimensions) + 1.1)
    shift = {name: _SPREAD * ((i + 0.5) / len(embeddings) - 0.5) for i, name in enumerate(embeddings)}
    heights = frame["dimension"].to_numpy(float) + frame["embedding"].map(shift).to_numpy(float)
    ax.scatter(frame["agreement"], heights, s=22, color=_COLOR, edgecolor="white", linewidth=0.5, zorder=3)
    means = frame.drop_duplicates("dimension")
    ax.scatter(means["mean"], means["dimension"], marker="|", s=150, linewidth=1.8, color=_MEAN, zorder=4)
    n_matched = frame.groupby("dimension").size()
    labels = [
        str(d) if n_matched[d] == len(embeddings) else f"{d} ({n_matched[d]} of {len(embeddings)})" for d in dimensions
    ]
    ax.set_yticks(dimensions, labels)
    ax.set_ylim(dimensions.max() + 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    ax.grid(axis="x", color="#E4E4E4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_ylabel("consensus dimension")
    ax.set_xlabel("agreement (mean |Spearman correlation|)")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    handles = [
        Line2D([], [], linestyle="", marker="o", color=_COLOR, label="one embedding"),
        Line2D([], [], linestyle="", marker="|", markersize=11, markeredgewidth=1.8, color=_MEAN, label="mean"),
    ]
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize="small")
    return ax


def consensus_dimensions_frame(data: AnnData | pd.DataFrame, *, key: str = _keys.CONSENSUS) -> pd.DataFrame:
    """What :func:`consensus_dimensions` draws.

    Parameters
    ----------
    data
        Annotated data with a consensus in ``.uns["betavae"][key]``, or its table of matches.
    key
        Name under which the consensus was stored.

    Returns
    -------
    DataFrame
        One row per dimension and embedding with a match, as :func:`scbetavae.tl.consensus_dimensions` writes them, with a last
        column ``mean``: the agreement of the dimension, over all embeddings.

    Raises
    ------
    KeyError
        If there is no consensus under ``key``.
    ValueError
        If it has no rows.
    """
    table = read_table(data, key, _COLUMNS, _MAKE, _keys.MATCHES_SUFFIX)
    frame = table.sort_values("dimension", kind="stable").reset_index(drop=True)
    # A h5ad file brings texts back as categories.
    frame["embedding"] = np.asarray(frame["embedding"], dtype=object)
    return frame.assign(mean=frame.groupby("dimension")["agreement"].transform("mean"))
