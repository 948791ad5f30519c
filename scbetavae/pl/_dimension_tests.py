"""Which dimensions differ between two levels of a covariate: effect sizes with intervals, or a heatmap of many groups."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scbetavae._core import keys, palette
from scbetavae.pl._figure import (
    Picture,
    dimension_labels,
    dot_handle,
    label_rows,
    panel_grid,
    read_table,
    shorten,
    write_reason,
)

_NUMBERS = ("effect_size", "ci_low", "ci_high", "p_adjusted")
_COLUMNS = ("group", "dimension", "active", "covariate", "reference", "target", *_NUMBERS, "flag")
_MAKE = "scbetavae.tl.test_dimensions(adata, covariate, donor_key=...)"
_SIGNIFICANT = 0.05
_MOST_PANELS = 4
_ROW_HEIGHT, _PANEL_WIDTH = 0.26, 2.3  # inches
_CELL, _CHARACTER = 0.3, 0.08  # inches of a cell of the heatmap, and of a letter
_LONGEST = 24  # characters of a group
_ROOM = 2.5  # largest effect size times this is the end of the axis; intervals beyond are cut
_COLOR = palette.BLUE


def dimension_tests(data: AnnData | pd.DataFrame, *, key: str = keys.DIMENSION_TESTS) -> Figure:
    """Draw which dimensions differ between two levels of a covariate, one panel per group.

    The dot is the effect size (Hedges' g, target minus reference, in standard deviations between donors) and the line its 95%
    interval; intervals much longer than the effects are cut at the frame. Open circles: not significant after correction over
    groups and dimensions. More than four groups are drawn as a heatmap of effect sizes, one column per group, with a dot
    where they are significant; what was not tested is gray.

    Parameters and errors are as in :func:`batch_dimensions`.

    Examples
    --------
    >>> import numpy as np, scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(400, 50, seed=0)
    >>> rng = np.random.default_rng(0)
    >>> adata.obs["donor"] = rng.choice(["d1", "d2", "d3", "d4"], size=400)
    >>> adata.obsm["X_betavae"] = rng.normal(size=(400, 3))
    >>> frame = scbetavae.tl.test_dimensions(adata, "condition", donor_key="donor")
    >>> figure = scbetavae.pl.dimension_tests(adata)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['0', '1', '2']
    """
    frame = _frame(data, key)
    groups = dict(iter(frame.groupby("group", sort=False)))
    first = frame.iloc[0]
    label = f"{first['covariate']}: {first['target']} vs {first['reference']} (Hedges' g)"
    return _panels(groups, label) if len(groups) <= _MOST_PANELS else _heatmap(groups, label)


def _frame(data: AnnData | pd.DataFrame, key: str = keys.DIMENSION_TESTS) -> pd.DataFrame:
    """Active dimensions of every group, with a last column ``significant``."""
    table = read_table(data, key, _COLUMNS, _MAKE)
    frame = table[table["active"].to_numpy(dtype=bool)].reset_index(drop=True)
    frame["group"] = np.asarray(frame["group"], dtype=object)  # an h5ad file returns text as categories
    if frame["effect_size"].isna().all():
        msg = "No dimension in the table was tested, so there is nothing to draw."
        raise ValueError(msg)
    return frame.assign(significant=frame["p_adjusted"] < _SIGNIFICANT)


def _panels(groups: dict[Any, pd.DataFrame], label: str) -> Figure:
    """Effect sizes and intervals, one panel per group."""
    rows = max(map(len, groups.values()))
    size = _PANEL_WIDTH if len(groups) > 1 else 1.6 * _PANEL_WIDTH, _ROW_HEIGHT * rows + 0.5
    figure, panels, _ = panel_grid(len(groups), _MOST_PANELS, *size, extra=(0.8, 0.6))
    together = pd.concat(groups.values())
    largest = together["effect_size"].abs().max()
    reach = together[["ci_low", "ci_high"]].abs().max(axis=None)
    end = 1.06 * min(reach, max(_ROOM * largest, 1.0))
    labels = dimension_labels(next(iter(groups.values())))
    for axes, (name, part) in zip(panels, groups.items(), strict=True):
        title = shorten(str(name), _LONGEST)
        if part["effect_size"].isna().all():
            write_reason(axes, title, str(part["flag"].iloc[0]), width=26)
            continue
        for height, (_, row) in enumerate(part.iterrows()):
            axes.plot([row["ci_low"], row["ci_high"]], [height, height], color=_COLOR, linewidth=1.6, zorder=3)
            fill = _COLOR if row["significant"] else "white"
            axes.plot(row["effect_size"], height, color=_COLOR, marker="o", markersize=5.5, mfc=fill, zorder=4)
        axes.axvline(0.0, color=palette.MIDDLE, linewidth=1, zorder=1)
        label_rows(axes, labels)
        if any(labels):  # the first panel that is drawn
            axes.set_ylabel("dimension")
            labels = [""] * len(part)
        axes.set_xlim(-end, end)
        axes.set_title(title, fontsize="medium")
    figure.supxlabel(label, fontsize="medium")
    figure.legend(handles=_handles(together), loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    return figure


def _handles(frame: pd.DataFrame) -> list[Line2D]:
    """Entries of the legend of panels."""
    filled = dot_handle(f"adjusted p < {_SIGNIFICANT:g}, 95% interval", _COLOR)
    open_ = dot_handle(f"adjusted p ≥ {_SIGNIFICANT:g}", _COLOR, hollow=True)
    if not frame["significant"].any():
        open_.set_label(f"adjusted p ≥ {_SIGNIFICANT:g}, 95% interval")
        return [open_]
    return [filled] if frame["significant"].all() else [filled, open_]


def _heatmap(groups: dict[Any, pd.DataFrame], label: str) -> Figure:
    """Effect sizes by dimension and group, with a dot where they are significant."""
    names = [shorten(str(name), _LONGEST) for name in groups]
    effects, significant = (
        np.column_stack([part[column] for part in groups.values()]) for column in ("effect_size", "significant")
    )
    rows = _CELL * len(effects)
    figure = Picture(max(_CELL * len(names), 2.0) + 2.2, max(rows, 2.0) + _CHARACTER * max(map(len, names)) + 0.6)
    axes: Axes = figure.add_subplot()
    axes.set_facecolor(palette.LIGHT)
    end = max(float(np.nanmax(np.abs(effects))), 0.1)
    style = {"cmap": "RdBu_r", "vmin": -end, "vmax": end, "edgecolors": "white", "linewidth": 0.5}
    mesh = axes.pcolormesh(np.ma.masked_invalid(effects.astype(float)), **style)
    y, x = np.nonzero(significant)
    axes.scatter(x + 0.5, y + 0.5, s=22, color=palette.BLACK, edgecolor="white", linewidth=0.6)
    axes.set_ylim(len(effects), 0)
    axes.set_yticks(np.arange(len(effects)) + 0.5, dimension_labels(next(iter(groups.values()))))
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("dimension")
    bar = figure.colorbar(mesh, ax=axes, shrink=min(1.0, 2.0 / max(rows, 2.0)), aspect=14)
    bar.set_label(label, fontsize="small")
    dot = dot_handle(f"adjusted p < {_SIGNIFICANT:g}", palette.BLACK, linestyle="")
    figure.legend(handles=[dot], loc="outside upper center", frameon=False, fontsize="small")
    return figure
