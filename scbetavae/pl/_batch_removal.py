"""Batch removal: cells before and after, and the report as paired dots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.pl._embedding import _cells_to_draw, _draw_panel, _legend_width
from scbetavae.pl._figure import Picture, write_reason
from scbetavae.pl._score_tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INTERVALS = tuple(f"{name}{end}" for name in ("before", "after") for end in ("", "_ci_low", "_ci_high"))
_COLUMNS = ("role", "covariate", "classifier", *_INTERVALS, "expected")
_MAKE = "model.zero_batch_dimensions(dimensions)` or `scbetavae.tl.zero_batch_dimensions(adata, dimensions, batch_key)"
_PROBES = {"knn": "k-NN", "random_forest": "random forest", "ilisi": "iLISI (1: mixed)"}
_BEFORE, _AFTER, _IMPLIED = "#7F7F7F", "#0072B2", "#D55E00"  # gray; Okabe and Ito's blue and vermilion
_ROW_HEIGHT = 0.42  # inches
_SHIFT = 0.12  # of a row, between the dots of a pair
_PANEL = 3.3  # inches


def batch_removal(
    data: AnnData | pd.DataFrame,
    color: str | Iterable[str] = (),
    *,
    basis: str = _keys.LATENT_UMAP,
    zeroed_basis: str = f"{_keys.LATENT_UMAP}_zeroed",
    key: str = _keys.BATCH_REMOVAL,
) -> Figure:
    """Draw cells before and after batch removal, and the report.

    The report has a line a covariate and classifier: from the accuracy before (gray) to the accuracy after (blue), with 95%
    intervals. For
    batch, at the top, a vermilion bar marks what the conserved covariates alone imply: dots are to move there, and not beyond.
    iLISI goes the other way, up to 1 for mixed cells. To the right is the share of its accuracy that each conserved covariate
    keeps. The title names the dimensions and the status. A report in which nothing could be measured is drawn as the reason.

    Parameters
    ----------
    data
        Annotated data with the report in ``.uns["betavae"][key]``, or the report itself, which is then drawn alone.
    color
        Columns of ``.obs``, one or several: a row of cells before and after for each. By default the batch, if both
        coordinates are there; otherwise the report is drawn alone.
    basis, zeroed_basis
        Entries of ``.obsm`` with two-dimensional coordinates of the cells before and after.
    key
        Name under which the report was stored.

    Returns
    -------
    Figure
        Cells before and after to the left, if there are coordinates, and the report to the right.

    Raises
    ------
    KeyError
        If there is no report under ``key``; if ``color`` is given and a column or coordinates are not there.
    ValueError
        For a report without rows.

    See Also
    --------
    batch_removal_frame : the data behind the report.

    Examples
    --------
    Two dimensions stand in for UMAPs, which ``scanpy.pp.neighbors(adata, use_rep=name, key_added=name)`` and
    ``scanpy.tl.umap(adata, neighbors_key=name, key_added=umap)`` make of each of the two embeddings.

    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(300, 50, n_cell_types=2, seed=0)
    >>> codes = np.random.default_rng(0).normal(size=(300, 3))
    >>> codes[:, 0] += 6.0 * (adata.obs["batch"] == "batch_1")
    >>> codes[:, 1] += 6.0 * (adata.obs["cell_type"] == "type_1")
    >>> adata.obsm["X_example"] = codes
    >>> zeroed = scbetavae.tl.zero_batch_dimensions(adata, 0, "batch", conserve="cell_type", obsm_key="X_example")
    >>> adata.obsm["X_umap"], adata.obsm["X_umap_zeroed"] = codes[:, :2], zeroed[:, 1:]
    >>> figure = scbetavae.pl.batch_removal(adata, ["batch", "cell_type"])
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['batch, before', 'batch, after', 'cell_type, before', 'cell_type, after']
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    if not _is_measured(table).any():
        figure = Picture(4.4, 2.4)
        write_reason(figure.subplots(), "Batch removal", _reason(table))
        return figure
    report = batch_removal_frame(data, key=key)
    names = _names_to_draw(data, color, report, (basis, zeroed_basis))
    longest = max(report["label"].str.len())
    report_width = 3.4 + 0.075 * longest
    report_height = _ROW_HEIGHT * len(report) + 1.1
    if not names:
        figure = Picture(report_width, report_height)
        _draw_report(figure.subplots(), report)
        _write_status(figure, data, key)
        return figure
    sides = {when: _cells_to_draw(data, names, name) for when, name in (("before", basis), ("after", zeroed_basis))}
    widths = [
        _PANEL,
        _PANEL,
        0.2 + 0.085 * max(_legend_width(sides["before"].obs[name]) for name in names),
        report_width,
    ]
    figure = Picture(sum(widths), max(_PANEL * len(names), report_height if len(names) == 1 else 0))
    grid = figure.add_gridspec(len(names), 4, width_ratios=widths)
    for line, name in enumerate(names):
        panels = [figure.add_subplot(grid[line, column]) for column in range(2)]
        for axes, (when, cells), coordinates in zip(panels, sides.items(), (basis, zeroed_basis), strict=True):
            _draw_panel(axes, cells, name, coordinates)
            axes.set(title=f"{name}, {when}", xlabel="", ylabel="")
        _move_legend(panels, figure.add_subplot(grid[line, 2]))
    _draw_report(figure.add_subplot(grid[:, 3]), report)
    _write_status(figure, data, key)
    return figure


def batch_removal_frame(data: AnnData | pd.DataFrame, *, key: str = _keys.BATCH_REMOVAL) -> pd.DataFrame:
    """Rows of the report that :func:`batch_removal` draws.

    Parameters
    ----------
    data
        Annotated data with the report in ``.uns["betavae"][key]``, or the report itself.
    key
        Name under which the report was stored.

    Returns
    -------
    DataFrame
        The rows of the report (:func:`scbetavae.metrics.evaluate_batch_removal`) that have a value before and after, in its
        order, with a
        column ``label``.

    Raises
    ------
    KeyError
        If there is no report under ``key``.
    ValueError
        If no row has a value before and after.
    """
    report = read_table(data, key, _COLUMNS, _MAKE)
    report = report[_is_measured(report)].reset_index(drop=True)
    if report.empty:
        msg = "No row of the report has a value before and after, so there is nothing to draw. Its flags say why."
        raise ValueError(msg)
    classifiers = report["classifier"].map(lambda name: _PROBES.get(name, name))
    return report.assign(label=report["covariate"].astype(str) + ", " + classifiers)


def _is_measured(report: pd.DataFrame) -> pd.Series:
    """Rows with a value before and after."""
    return report["before"].notna() & report["after"].notna()


def _reason(report: pd.DataFrame) -> str:
    """Why no row has a value, from the flags."""
    flags = [flag for flag in report.get("flag", pd.Series(dtype=object)) if flag]
    return "; ".join(dict.fromkeys(flags)) or "No row of the report has a value before and after."


def _names_to_draw(
    data: AnnData | pd.DataFrame, color: str | Iterable[str], report: pd.DataFrame, bases: tuple[str, str]
) -> list[str]:
    """Columns to color by; none if cells are not to be drawn."""
    names = [color] if isinstance(color, str) else list(color)
    if not hasattr(data, "obsm"):
        if names:
            msg = f"color={names!r} needs cells, but a data frame was given. Give the AnnData."
            raise ValueError(msg)
        return []
    if names:
        return names
    batch = report.loc[report["role"] == "batch", "covariate"].unique()
    return [name for name in batch if name in data.obs] if all(basis in data.obsm for basis in bases) else []


def _move_legend(panels: list[Axes], beside: Axes) -> None:
    """One legend for both panels, in an axes of its own, so that they stay equally wide."""
    beside.set_axis_off()
    legends = [axes.get_legend() for axes in panels]
    if legends[1] is not None:
        handles, labels = legends[1].legend_handles, [text.get_text() for text in legends[1].get_texts()]
        n_columns = 1 + (len(labels) > 14) + (len(labels) > 30)  # as scanpy breaks them
        beside.legend(handles, labels, loc="center left", bbox_to_anchor=(0, 0.5), frameon=False, ncols=n_columns)
    for legend in legends:
        if legend is not None:
            legend.remove()


def _write_status(figure: Picture, data: AnnData | pd.DataFrame, key: str) -> None:
    """Dimensions and status as the title, where they are known."""
    known = {} if isinstance(data, pd.DataFrame) else _stored.parameters(data, key)
    if known.get("status"):
        dimensions = str(known.get("dimensions", ""))
        of = f"Without dimension{'s' if ', ' in dimensions else ''} {dimensions}: " if dimensions else ""
        figure.suptitle(f"{of}{known['status']}", fontsize="medium")


def _draw_report(axes: Axes, report: pd.DataFrame) -> None:
    heights = np.arange(len(report))
    for row, height in zip(report.itertuples(), heights, strict=True):
        ends = [height - _SHIFT, height + _SHIFT]
        axes.plot([row.before, row.after], ends, color="#C8C8C8", linewidth=1.2, zorder=1)
        if not np.isnan(row.expected):
            expected = np.clip(row.expected, 0, 1)
            axes.plot([expected, expected], [height - 0.34, height + 0.34], color=_IMPLIED, linewidth=2, zorder=2)
        for name, color, shift in (("before", _BEFORE, -_SHIFT), ("after", _AFTER, _SHIFT)):
            low, high = getattr(row, f"{name}_ci_low"), getattr(row, f"{name}_ci_high")
            axes.plot([low, high], [height + shift] * 2, color=color, linewidth=1.6, zorder=3)
            axes.plot(getattr(row, name), height + shift, color=color, marker="o", markersize=5.5, zorder=4)
        if not np.isnan(getattr(row, "kept", np.nan)):
            axes.annotate(
                f"keeps {row.kept:.0%}",
                (1.02, height),
                xycoords=axes.get_yaxis_transform(),
                va="center",
                fontsize="small",
            )
    values = report[list(_INTERVALS)].to_numpy()
    axes.set_xlim(min(-0.04, np.nanmin(values) - 0.03), 1.04)
    axes.set_ylim(len(report) - 0.5, -0.5)
    axes.set_yticks(heights, report["label"])
    axes.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
    axes.set_xlabel("accuracy (0 chance, 1 perfect)")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.axvline(0, color="#E4E4E4", linewidth=0.8, zorder=0)
    of_batch = int((report["role"] == "batch").sum())
    for height in np.arange(0.5, len(report) - 1):
        edge = height == of_batch - 0.5
        axes.axhline(height, color="#9A9A9A" if edge else "#F0F0F0", linewidth=0.8, zorder=0)
    handles = [
        Line2D([], [], color=color, marker="o", markersize=5.5, linewidth=1.6, label=name)
        for name, color in (("before", _BEFORE), ("after", _AFTER))
    ]
    if report["expected"].notna().any():
        handles.append(Line2D([], [], color=_IMPLIED, linewidth=2, label="expected by the conserved"))
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=1, frameon=False, fontsize="small"
    )
