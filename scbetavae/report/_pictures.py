"""Pictures of the page as data URIs, each with a text for those who cannot see it."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbetavae import pl
from scbetavae._core import keys, palette, results

from ._contents import table_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 110
_LAYOUTS = ("X_tsne", "X_umap")
_ZEROED = "_zeroed"
_MOST_CELLS = 20_000  # drawn; a sample of more
_MOST_CLASSES = 20


def pictures(adata: AnnData) -> dict[str, dict[str, str]]:
    """Data URI and description of every picture that can be drawn, by its place on the page."""
    return {place: {"uri": _as_uri(figure), "alt": alt} for place, figure, alt in _drawn(adata)}


def _drawn(adata: AnnData) -> Iterator[tuple[str, Any, str]]:
    stored = adata.uns[keys.UNS]
    cells = _draw_cells(adata)
    if cells is not None:
        yield "cells", cells, "Cells in two dimensions, before and after batch removal where it was done, by covariate"
    if table_of(adata, keys.DISENTANGLEMENT) is not None:
        alt = "Heatmap of latent dimensions and covariates: normalized information of each dimension about each class"
        yield "scores", pl.dimension_covariate(adata), alt
    if table_of(adata, keys.LATENT_SUMMARY) is not None:
        alt = "Bars of the KL divergence and of the likelihood lost without each dimension, and its stability"
        yield "summary", pl.latent_summary(adata), alt
    if table_of(adata, keys.GUIDED) is not None:
        alt = "Accuracy for guided covariates left in the free dimensions, and the genes that their levels move"
        yield "guided", pl.guided(adata), alt
    if table_of(adata, keys.BATCH_REMOVAL) is not None:
        yield "removal", pl.batch_removal(adata), "Accuracy for batch and conserved covariates before and after removal"
    if isinstance(stored.get(keys.HISTORY), pd.DataFrame):
        yield "history", pl.history(adata), "Training curves: objective, reconstruction and KL by epoch"
    if table_of(adata, keys.COUNTERFACTUAL) is not None:
        yield "counterfactual", pl.counterfactual(adata), "Error of the counterfactual prediction and of its baselines"


def _as_uri(drawn: Figure | Axes) -> str:
    """A picture inside the page."""
    figure: Any = drawn if hasattr(drawn, "savefig") else drawn.figure
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", facecolor="white")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _draw_cells(adata: AnnData) -> Figure | None:
    """One panel per layout and covariate: before removal, and below it after."""
    from scbetavae.pl import panel_grid

    layouts = [f"{name}{end}" for end in ("", _ZEROED) for name in _LAYOUTS if f"{name}{end}" in adata.obsm]
    if not layouts:
        return None
    covariates = _covariates(adata)
    figure, panels, _ = panel_grid(len(layouts) * max(len(covariates), 1), max(len(covariates), 1), 4.2, 3.3)
    rows = np.arange(adata.n_obs)
    if len(rows) > _MOST_CELLS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_CELLS, replace=False))
    places = [(layout, name) for layout in layouts for name in covariates or [""]]
    for axes, (layout, name) in zip(panels, places, strict=True):
        points: Any = np.asarray(adata.obsm[layout])[rows, :2]
        when = "after removal" if layout.endswith(_ZEROED) else "before removal" if len(layouts) > 1 else "cells"
        _draw_points(axes, points, adata.obs[name].iloc[rows] if name else None)
        axes.set_title(f"{when}: {name}" if name else when, fontsize="medium")
    return figure


def _covariates(adata: AnnData) -> list[str]:
    """Batch and one conserved covariate, as far as they are known."""
    known = results.parameters(adata, keys.BATCH_REMOVAL)
    params = dict(adata.uns[keys.UNS].get(keys.PARAMS) or {})
    described = str(results.parameters(adata, keys.DIMENSIONS).get("covariates", "")).split(", ")
    wanted = [known.get("batch_key"), params.get("setup_batch_key"), params.get("setup_labels_key"), *described]
    return [name for name in dict.fromkeys(wanted) if name and name in adata.obs][:2]


def _draw_points(axes: Axes, points: np.ndarray, column: pd.Series | None) -> None:
    """Cells, colored by class or by number."""
    style: dict[str, Any] = {"s": max(1.0, min(9.0, 6000 / len(points))), "linewidth": 0, "rasterized": True}
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if column is None:
        axes.scatter(*points.T, color=palette.BLUE, **style)
        return
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > _MOST_CLASSES:
        axes.scatter(*points.T, c=column.to_numpy(float), cmap="viridis", **style)
        return
    counts = column.astype(str).value_counts()
    shown = list(counts.index[:_MOST_CLASSES])
    for name, color in zip(shown, palette.colors(len(shown)), strict=True):
        axes.scatter(*points[(column.astype(str) == name).to_numpy()].T, color=color, label=name, **style)
    others = ~column.astype(str).isin(shown).to_numpy()
    axes.scatter(*points[others].T, color=palette.LIGHT, **style)
    legend = axes.legend(
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
        fontsize="x-small",
        markerscale=2,
        ncols=1 + (len(shown) > 12),
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
