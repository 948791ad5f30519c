"""Cells in two dimensions, colored by what is known about them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import pandas as pd

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.pl._figure import Picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colors without their yellow, too pale for small points; then Tol's "muted" set and a gray
# darker than that of missing values.
# Both are told apart under the common color blindnesses. Nobody tells apart more than ten: scanpy's sets follow.
_FEW = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_TEN = (
    "#332288",
    "#CC6677",
    "#117733",
    "#88CCEE",
    "#DDCC77",
    "#882255",
    "#44AA99",
    "#AA4499",
    "#999933",
    "#777777",
)
_MAX_INTEGER_CATEGORIES = 30
_MAX_POINT_AREA = 50  # square points


def embedding(adata: AnnData, color: str | Sequence[str] = (), *, basis: str = _keys.LATENT_UMAP) -> Figure:
    """Draw cells in two dimensions, one panel a covariate.

    The scatter is :func:`scanpy.pl.embedding`'s; what is added is room for long labels, colors that color-blind
    readers tell apart, and whole numbers with few values drawn as categories (a batch ``0`` and ``1``). ``adata``
    is not changed. Colors stored by scanpy in ``.uns[f"{color}_colors"]`` are used where present.

    Parameters
    ----------
    adata
        Cells with coordinates in ``.obsm[basis]``.
    color
        Columns of ``.obs``, one or several; none draws the cells in gray.
    basis
        Entry of ``.obsm``, of shape ``(n_cells, 2)`` or wider: the first two columns are drawn.

    Returns
    -------
    Figure
        One row of panels, in the order of ``color``.

    Raises
    ------
    KeyError
        If ``basis`` is not in ``.obsm``, or a name of ``color`` not in ``.obs``.
    ValueError
        If ``.obsm[basis]`` has fewer than two columns, or is the latent representation before the last training.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> import scbetavae
    >>> adata = AnnData(obsm={"X_umap": np.arange(6.0).reshape(3, 2)}, obs={"batch": ["a", "b", "a"]})
    >>> figure = scbetavae.pl.embedding(adata, "batch")
    >>> figure.axes[0].get_title()
    'batch'
    """
    names = [color] if isinstance(color, str) else list(color)
    cells = _cells_to_draw(adata, names, basis)
    panels = names or [None]
    longest = max((_legend_width(cells.obs[name]) for name in names), default=0)
    figure = Picture((3.6 + 0.085 * longest) * len(panels), 3.6)
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, cells, name, basis)
    return figure


def _cells_to_draw(adata: AnnData, names: list[str], basis: str) -> AnnData:
    """What is drawn, apart from ``adata``: scanpy writes colors and categories into what it is given."""
    from anndata import AnnData

    if basis not in adata.obsm:
        msg = (
            f"There is no {basis!r} in adata.obsm, which has {sorted(adata.obsm)}. "
            "Make a UMAP with `scanpy.pp.neighbors(adata, use_rep='X_betavae')` and `scanpy.tl.umap(adata)`."
        )
        raise KeyError(msg)
    _stored.check_embedding(adata, basis)
    if adata.obsm[basis].shape[1] < 2:
        msg = f"adata.obsm[{basis!r}] has {adata.obsm[basis].shape[1]} column; a picture needs two."
        raise ValueError(msg)
    for name in names:
        if name not in adata.obs:
            nearest = difflib.get_close_matches(name, list(adata.obs), n=1)
            hint = f"Did you mean {nearest[0]!r}?" if nearest else f"It has {list(adata.obs)}."
            msg = f"There is no column {name!r} in adata.obs. {hint}"
            raise KeyError(msg)
    obs = pd.DataFrame({name: _as_drawn(adata.obs[name]) for name in names}, index=adata.obs_names)
    stored = [f"{name}_colors" for name in names]
    uns = {name: list(adata.uns[name]) for name in stored if name in adata.uns}
    return AnnData(obs=obs, obsm={basis: adata.obsm[basis]}, uns=uns)


def _as_drawn(column: pd.Series) -> pd.Series:
    """Categories for anything but measurements."""
    is_measured = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_measured and (pd.api.types.is_float_dtype(column) or column.nunique() > _MAX_INTEGER_CATEGORIES):
        return column
    return column.cat.remove_unused_categories() if column.dtype == "category" else column.astype("category")


def _legend_width(column: pd.Series) -> int:
    """Characters that the legend needs beside the panel."""
    if column.dtype != "category":
        return 8
    # scanpy breaks a legend of more than 14 entries into two columns, and of more than 30 into three.
    n_columns = 1 + (column.cat.categories.size > 14) + (column.cat.categories.size > 30)
    return n_columns * (4 + max((len(str(label)) for label in column.cat.categories), default=0))


def _draw_panel(axes: Axes, cells: AnnData, name: str | None, basis: str) -> None:
    import scanpy as sc

    palette = None
    if name is not None and cells.obs[name].dtype == "category" and f"{name}_colors" not in cells.uns:
        n_categories = cells.obs[name].cat.categories.size
        palette = next((list(colors[:n_categories]) for colors in (_FEW, _TEN) if n_categories <= len(colors)), None)
    axes_name = basis.removeprefix("X_")
    sc.pl.embedding(
        cells,
        axes_name if f"X_{axes_name}" in cells.obsm else basis,
        color=name,
        ax=axes,
        palette=palette,
        color_map="viridis",
        size=min(_MAX_POINT_AREA, 40_000 / cells.n_obs),
        colorbar_loc=None,
        frameon=True,
        show=False,
    )
    axes.set_title(name or "")
    if name is not None and cells.obs[name].dtype != "category":
        # scanpy's own color bar goes through pyplot and opens an empty figure there.
        axes.figure.colorbar(axes.collections[0], ax=axes, pad=0.02)
