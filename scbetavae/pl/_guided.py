"""Guided covariates: what is left of them in the free dimensions, and the genes that their levels move."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scbetavae._core import keys, palette
from scbetavae.pl._figure import Picture, label_rows, read_table, shorten

_TABLE = ("covariate", "accuracy", "ci_low", "ci_high", "held_out_accuracy", "held_out_ci_low", "held_out_ci_high")
_GENES = (
    "covariate",
    "level",
    "reference",
    "gene",
    "rank",
    "log2_fold_change",
    "additive",
    "departure",
    "departure_group",
)
_MAKE = "model.describe_guided()"
_TOP = 12
_LONGEST = 24  # characters of a name
_PALE = 0.45  # opacity of bars
_ROW_HEIGHT, _PANEL_WIDTH, _LEFT_WIDTH = 0.24, 2.9, 3.2  # inches
_MOST_PANELS = 3


def guided(adata: AnnData, *, key: str = keys.GUIDED) -> Figure:
    """Draw what :meth:`scbetavae.model.BetaVAE.describe_guided` found.

    The first panel shows the accuracy for each guided covariate that is left in the free dimensions, with 95% intervals: filled
    for all cells, open for those held out of training; 0 is chance. Each further panel shows the genes that one level moves most
    (at most three levels are drawn): the bar is the mean log2 fold change, the line the part of the path that all cells share,
    and the dot the group of cells that departs most from the mean.

    Parameters
    ----------
    adata
        Annotated data with the result.
    key
        Name of the result in ``.uns["betavae"]``.

    Raises
    ------
    KeyError, ValueError
        If there is no such result, or it lacks columns.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, guided_keys="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=5, enable_progress_bar=False)
    >>> _ = model.describe_guided(n_bootstrap=20)
    >>> len(scbetavae.pl.guided(adata).axes)
    2
    """
    table = read_table(adata, key, _TABLE, _MAKE)
    genes = read_table(adata, f"{key}{keys.GENES_SUFFIX}", _GENES, _MAKE)
    levels = list(genes.groupby(["covariate", "level"], sort=False, observed=True))[:_MOST_PANELS]
    n_rows = max(len(table), min(_TOP, max((len(part) for _, part in levels), default=1)))
    widths = [_LEFT_WIDTH, *[_PANEL_WIDTH] * len(levels)]
    figure = Picture(sum(widths), _ROW_HEIGHT * n_rows + 1.3)
    axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _draw_left(axes[0], table)
    for panel, ((name, level), part) in zip(axes[1:], levels, strict=True):
        _draw_genes(panel, f"{shorten(str(name), _LONGEST)}: {shorten(str(level), _LONGEST)}", part.head(_TOP))
    handles = [
        Patch(color=palette.BLUE, alpha=_PALE, label="mean change"),
        Line2D([], [], color=palette.DARK, linewidth=1.8, label="shared by all cells"),
        Line2D([], [], color=palette.ORANGE, marker="o", markersize=4, linestyle="", label="group that departs most"),
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize="small")
    return figure


def _draw_left(axes: Axes, table: pd.DataFrame) -> None:
    """Accuracy left in the free dimensions, one row per covariate."""
    for height, row in enumerate(table.itertuples()):
        for offset, prefix, fill in ((-0.12, "", palette.BLUE), (0.12, "held_out_", "white")):
            value = getattr(row, f"{prefix}accuracy")
            if np.isfinite(value):
                ends = [getattr(row, f"{prefix}ci_{end}") for end in ("low", "high")]
                axes.plot(ends, [height + offset] * 2, color=palette.BLUE, linewidth=1.6, zorder=3)
                axes.plot(value, height + offset, color=palette.BLUE, marker="o", markersize=5.5, mfc=fill, zorder=4)
    axes.axvline(0.0, color=palette.MIDDLE, linewidth=1, zorder=1)
    label_rows(axes, [shorten(str(name), _LONGEST) for name in table["covariate"]])
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.2), max(high, 1.0))
    axes.set_xlabel("accuracy left in free dimensions\n(filled: all cells, open: held out)")


def _draw_genes(axes: Axes, title: str, part: pd.DataFrame) -> None:
    """Log2 fold changes of the genes that one level moves most."""
    heights = np.arange(len(part))
    axes.barh(heights, part["log2_fold_change"], color=palette.BLUE, height=0.6, alpha=_PALE, zorder=2)
    axes.vlines(part["additive"], heights - 0.36, heights + 0.36, color=palette.DARK, linewidth=1.8, zorder=4)
    known = part["departure"].notna().to_numpy()
    if known.any():
        extreme = (part["log2_fold_change"] + part["departure"])[known]
        axes.scatter(extreme, heights[known], s=14, color=palette.ORANGE, zorder=5)
    axes.axvline(0.0, color=palette.MIDDLE, linewidth=1, zorder=1)
    label_rows(axes, [shorten(str(name), _LONGEST) for name in part.get("symbol", part["gene"])])
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel(f"log2 fold change\nfrom {shorten(str(part['reference'].iloc[0]), _LONGEST)}")
