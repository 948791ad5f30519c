"""Batch removal: cells before and after, and the report as paired dots."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scbetavae._core import keys, palette, results
from scbetavae._core.checks import as_list, check_key
from scbetavae.pl._figure import Picture, dot_handle, label_rows, read_parameters, read_table, write_reason

_INTERVALS = tuple(f"{name}{end}" for name in ("before", "after") for end in ("", "_ci_low", "_ci_high"))
_COLUMNS = ("role", "covariate", "classifier", *_INTERVALS, "expected")
_MAKE = "model.zero_batch_dimensions(dimensions)` or `scbetavae.tl.zero_batch_dimensions(adata, dimensions, batch_key)"
_CLASSIFIERS = {"knn": "k-NN", "random_forest": "random forest", "ilisi": "iLISI (1: mixed)"}
_BEFORE, _AFTER, _EXPECTED = "#7F7F7F", palette.BLUE, palette.ORANGE_RED
_ROW_HEIGHT, _PANEL = 0.42, 3.3  # inches
_SHIFT = 0.12  # of a row, between the dots of a pair
_NUMBERS = colormaps["viridis"].with_extremes(bad=palette.LIGHT)
_MAX_INTEGER_CATEGORIES = 30
_MAX_POINT_AREA = 50  # square points


def batch_removal(
    data: AnnData | pd.DataFrame,
    color: str | Iterable[str] = (),
    *,
    basis: str = keys.LATENT_UMAP,
    zeroed_basis: str = f"{keys.LATENT_UMAP}_zeroed",
    key: str = keys.BATCH_REMOVAL,
) -> Figure:
    """Draw cells before and after batch removal, and the report.

    The report has one line per covariate and classifier, from the accuracy before (gray) to the accuracy after (blue), with 95%
    intervals. For batch, at the top, a vermilion bar is the accuracy expected from composition: dots should move there, and not
    beyond. iLISI goes the other way, up to 1 for mixed cells. To the right is the share of its accuracy that each conserved
    covariate keeps. The title names the dimensions and the status. If nothing could be measured, the reason is drawn.

    Parameters
    ----------
    data, key
        As in :func:`batch_dimensions`, with its errors; a data frame is the report, which is then drawn alone, without ``color``.
    color
        Columns of ``.obs``, one or several: one row of cells before and after for each; integers with few values are
        classes. By default the batch, if both coordinates exist; otherwise the report is drawn alone.
    basis, zeroed_basis
        Entries of ``.obsm``, of which the first two columns are the coordinates of the cells before and after. A KeyError or
        ValueError says if one is missing, has one column, or is of a model before the last training.

    Returns
    -------
    Figure with the cells before and after to the left, if there are coordinates, in the colors that scanpy stored in
    ``.uns[f"{color}_colors"]``, and the report to the right.

    Examples
    --------
    Two dimensions stand in for the UMAPs that ``scanpy.pp.neighbors`` and ``scanpy.tl.umap`` make of each of the two embeddings.

    >>> import numpy as np, scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(300, 50, n_cell_types=2, seed=0)
    >>> batch, cell_type = adata.obs["batch"] == "batch_1", adata.obs["cell_type"] == "type_1"
    >>> z = np.random.default_rng(0).normal(size=(300, 3)) + 6.0 * np.column_stack([batch, cell_type, 0 * batch])
    >>> adata.obsm["X_example"], adata.obsm["X_umap"], adata.obsm["X_umap_zeroed"] = z, z[:, :2], z[:, 1:]
    >>> _ = scbetavae.tl.zero_batch_dimensions(adata, 0, "batch", conserve="cell_type", obsm_key="X_example")
    >>> figure = scbetavae.pl.batch_removal(adata, ["batch", "cell_type"])
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['batch, before', 'batch, after', 'cell_type, before', 'cell_type, after']
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    report = _frame(table)
    if report.empty:
        flags = dict.fromkeys(flag for flag in table.get("flag", ()) if flag)
        figure = Picture(4.4, 2.4)
        reason = "; ".join(flags) or "No row of the report has a value before and after."
        write_reason(figure.subplots(), "Batch removal", reason)
        return figure
    bases = {"before": basis, "after": zeroed_basis}
    names = _names_to_draw(data, color, report, bases.values())
    shades = {name: _shades(data, name) for name in names}
    points = {when: _coordinates(data, name) for when, name in bases.items()} if names else {}
    letters = max((len(label) for _, legend in shades.values() for label in legend), default=4) + 4
    widths = (
        [_PANEL, _PANEL, 0.2 + 0.085 * letters * max(_n_columns(legend) for _, legend in shades.values())]
        if names
        else []
    )
    widths.append(3.4 + 0.075 * max(report["label"].str.len()))
    height = _ROW_HEIGHT * len(report) + 1.1
    figure = Picture(sum(widths), max(_PANEL * len(names), height if len(names) < 2 else 0.0))
    grid = figure.add_gridspec(max(len(names), 1), len(widths), width_ratios=widths)
    for line, (name, (colors, legend)) in enumerate(shades.items()):
        for place, (when, cells) in enumerate(points.items()):
            axes = figure.add_subplot(grid[line, place])
            axes.set(title=f"{name}, {when}", xticks=[], yticks=[])
            style = {"s": min(_MAX_POINT_AREA, 40_000 / max(len(cells), 1)), "linewidth": 0, "plotnonfinite": True}
            dots = axes.scatter(*cells.T, c=colors, cmap=None if legend else _NUMBERS, **style)
            if not legend:
                figure.colorbar(dots, ax=axes, pad=0.02)
        # One legend for both panels, in axes of its own, so that they stay equally wide.
        axes = figure.add_subplot(grid[line, 2])
        axes.set_axis_off()
        if legend:
            handles = [dot_handle(label, color, linestyle="") for label, color in legend.items()]
            place = {"loc": "center left", "bbox_to_anchor": (0, 0.5)}
            axes.legend(handles=handles, frameon=False, ncols=_n_columns(legend), **place)
    _draw_report(figure.add_subplot(grid[:, -1]), report)
    known = read_parameters(data, key)
    if known.get("status"):
        dimensions = str(known.get("dimensions", ""))
        of = f"Without dimension{'s' if ', ' in dimensions else ''} {dimensions}: " if dimensions else ""
        figure.suptitle(f"{of}{known['status']}", fontsize="medium")
    return figure


def _frame(report: pd.DataFrame) -> pd.DataFrame:
    """Rows of the report with a value before and after, and a column ``label``."""
    report = report[report["before"].notna() & report["after"].notna()].reset_index(drop=True)
    classifiers = report["classifier"].map(lambda name: _CLASSIFIERS.get(str(name), str(name)))
    return report.assign(label=report["covariate"].astype(str) + ", " + classifiers)


def _names_to_draw(data: Any, color: str | Iterable[str], report: pd.DataFrame, bases: Iterable[str]) -> list[str]:
    """Columns to color by; none if cells are not to be drawn."""
    names = as_list(color)
    if isinstance(data, pd.DataFrame):
        if names:
            msg = f"color={names!r} needs cells, but a data frame was passed. Pass the AnnData."
            raise ValueError(msg)
        return []
    for name in names:
        check_key(name, list(data.obs), "color", "adata.obs")
    batch = report.loc[report["role"] == "batch", "covariate"].unique() if all(b in data.obsm for b in bases) else ()
    return names or [name for name in batch if name in data.obs]


def _coordinates(adata: Any, basis: str) -> np.ndarray:
    """Positions of the cells, (n_cells, 2)."""
    if basis not in adata.obsm:
        msg = (
            f"There is no {basis!r} in adata.obsm, which has {sorted(adata.obsm)}. "
            "Make a UMAP with `scanpy.pp.neighbors(adata, use_rep='X_betavae')` and `scanpy.tl.umap(adata)`."
        )
        raise KeyError(msg)
    results.check_embedding(adata, basis)
    points = np.asarray(adata.obsm[basis])
    if points.shape[1] < 2:
        msg = f"adata.obsm[{basis!r}] has {points.shape[1]} column; a plot needs two."
        raise ValueError(msg)
    return points[:, :2]


def _shades(adata: Any, name: str) -> tuple[np.ndarray, dict[str, str]]:
    """A number or a color per cell, and the colors of the classes by label, empty for numbers; a missing value is gray.

    Integers with few values, such as a batch 0 or 1, are classes. Colors that scanpy stored come first.
    """
    column = adata.obs[name]
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_number and (pd.api.types.is_float_dtype(column) or column.nunique() > _MAX_INTEGER_CATEGORIES):
        return column.to_numpy(dtype=float, na_value=np.nan), {}
    column = column.astype("category")
    stored = dict(zip(column.cat.categories, adata.uns.get(f"{name}_colors", ()), strict=False))
    column = column.cat.remove_unused_categories()
    own = zip(column.cat.categories, palette.colors(len(column.cat.categories)), strict=True)
    legend = {str(label): stored.get(label, color) for label, color in own}
    shades = np.array([*legend.values(), palette.LIGHT])[column.cat.codes]  # a missing value has the code -1
    return shades, legend | ({"NA": palette.LIGHT} if column.isna().any() else {})


def _n_columns(legend: dict[str, str]) -> int:
    """Columns of a legend."""
    return 1 + (len(legend) > 14) + (len(legend) > 30)


def _draw_report(axes: Axes, report: pd.DataFrame) -> None:
    """Pairs of dots with intervals, what is expected from composition, and the share that is kept."""
    for height, (_, row) in enumerate(report.iterrows()):
        ends = [height - _SHIFT, height + _SHIFT]
        axes.plot([row["before"], row["after"]], ends, color=palette.LIGHT, linewidth=1.2, zorder=1)
        if not np.isnan(row["expected"]):
            expected = np.clip(row["expected"], 0, 1)
            axes.plot([expected, expected], [height - 0.34, height + 0.34], color=_EXPECTED, linewidth=2, zorder=2)
        for name, color, place in zip(("before", "after"), (_BEFORE, _AFTER), ends, strict=True):
            interval = row[[f"{name}_ci_low", f"{name}_ci_high"]].tolist()
            axes.plot(interval, [place] * 2, color=color, linewidth=1.6, zorder=3)
            axes.plot(row[name], place, color=color, marker="o", markersize=5.5, zorder=4)
        if not np.isnan(row.get("kept", np.nan)):
            place = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": "small"}
            axes.annotate(f"keeps {row['kept']:.0%}", (1.02, height), **place)
    label_rows(axes, report["label"].tolist())
    axes.set_xlim(min(-0.04, np.nanmin(report[list(_INTERVALS)].to_numpy()) - 0.03), 1.04)
    axes.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
    axes.set_xlabel("accuracy (0 chance, 1 perfect)")
    axes.axvline(0, color=palette.LIGHT, linewidth=0.8, zorder=0)
    n_batch = int((report["role"] == "batch").sum())
    for height in np.arange(0.5, len(report) - 1):
        edge = palette.MIDDLE if height == n_batch - 0.5 else palette.PALE
        axes.axhline(height, color=edge, linewidth=0.8, zorder=0)
    handles = [dot_handle(name, color) for name, color in (("before", _BEFORE), ("after", _AFTER))]
    if report["expected"].notna().any():
        handles.append(Line2D([], [], color=_EXPECTED, linewidth=2, label="expected from composition"))
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), frameon=False, fontsize="small")
