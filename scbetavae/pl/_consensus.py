"""How well several models agree on each latent dimension."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scbetavae._core import keys, palette
from scbetavae.pl._figure import ROWS_ONLY, dot_handle, hide_spines, read_table, single_panel

_COLUMNS = ("dimension", "embedding", "matched_dimension", "sign", "agreement")
_MAKE = "scbetavae.tl.consensus_dimensions(adata, obsm_keys)"
_ROW_HEIGHT = 0.26  # inches
_SPREAD = 0.5  # of a row, over which the dots of its embeddings lie


def consensus(data: AnnData | pd.DataFrame, *, key: str = keys.CONSENSUS, ax: Axes | None = None) -> Axes:
    """Draw the agreement of several embeddings on each dimension.

    A dot is the agreement of one embedding with the others, the mean absolute Spearman correlation of its matched dimension with
    theirs; the vertical bar is the mean over embeddings. A dimension that some embeddings lack has fewer dots.

    Parameters, Axes and errors are as in :func:`batch_dimensions`; a data frame is that of the matches.

    Examples
    --------
    >>> import numpy as np, scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> z = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
    >>> adata.obsm["seed 0"], adata.obsm["seed 1"] = z, -z[:, ::-1]
    >>> frame = scbetavae.tl.consensus_dimensions(adata, ["seed 0", "seed 1"])
    >>> axes = scbetavae.pl.consensus(adata)
    >>> axes.get_xlabel()
    'agreement (mean |Spearman correlation|)'
    """
    frame = _frame(data, key)
    n_matched = frame.groupby("dimension").size()
    embeddings = list(dict.fromkeys(frame["embedding"]))
    n_all = len(embeddings)
    axes = single_panel(5.0, _ROW_HEIGHT * len(n_matched) + 1.1, ax)
    shift = {name: _SPREAD * ((i + 0.5) / n_all - 0.5) for i, name in enumerate(embeddings)}
    heights = frame["dimension"].to_numpy(float) + frame["embedding"].map(shift).to_numpy(float)
    axes.scatter(frame["agreement"], heights, s=22, color=palette.SKY, edgecolor="white", linewidth=0.5, zorder=3)
    means = frame.drop_duplicates("dimension")
    axes.scatter(means["mean"], means["dimension"], marker="|", s=150, linewidth=1.8, color=palette.BLACK, zorder=4)
    labels = [str(d) if n == n_all else f"{d} ({n} of {n_all})" for d, n in n_matched.items()]
    axes.set_yticks(list(n_matched.index), labels)
    axes.set(xlim=(-0.02, 1.02), ylim=(n_matched.index.max() + 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="x", color=palette.LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylabel("consensus dimension")
    axes.set_xlabel("agreement (mean |Spearman correlation|)")
    hide_spines(axes, ROWS_ONLY)
    bar = dot_handle("mean", palette.BLACK, linestyle="", marker="|", markersize=11, markeredgewidth=1.8)
    handles = [dot_handle("one embedding", palette.SKY, linestyle=""), bar]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize="small")
    return axes


def _frame(data: AnnData | pd.DataFrame, key: str = keys.CONSENSUS) -> pd.DataFrame:
    """Matches by dimension, with a last column ``mean``: the agreement over all embeddings."""
    table = read_table(data, key, _COLUMNS, _MAKE, keys.MATCHES_SUFFIX)
    frame = table.sort_values("dimension", kind="stable").reset_index(drop=True)
    frame["embedding"] = np.asarray(frame["embedding"], dtype=object)  # an h5ad file returns text as categories
    return frame.assign(mean=frame.groupby("dimension")["agreement"].transform("mean"))
