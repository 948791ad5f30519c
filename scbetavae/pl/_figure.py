"""What several plots share: the table that is drawn, figures that a notebook shows once (without pyplot), and their parts."""

import math
import textwrap
from collections.abc import Iterable
from io import BytesIO
from typing import Any, cast

import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from scbetavae._core import keys, results

_MOST_CHARACTERS = 44  # of the name of a dimension
ROWS_ONLY = ("top", "right", "left")


class Picture(Figure):
    """A matplotlib Figure that displays itself in Jupyter.

    A figure of pyplot would appear twice when it ends a cell and stay in memory until closed; a bare one appears as
    its text unless ``%matplotlib inline`` was run. Layout is constrained: labels and legends get the room they need.
    """

    def __init__(self, width: float, height: float, **padding: float):
        super().__init__(figsize=(width, height), layout="constrained")
        engine: Any = self.get_layout_engine()
        engine.set(**padding)

    def draw(self, renderer: Any) -> None:
        """Draw texts as they are: a gene or class may have dollar signs in its name, which are no mathematics."""
        for text in self.findobj(Text):
            cast("Text", text).set_parse_math(False)
        super().draw(renderer)

    def _repr_png_(self, **how: Any) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=100, **how)
        return buffer.getvalue()


class _PictureAxes(Axes):
    """The one panel of a picture, which displays itself in Jupyter as the picture does."""

    def _repr_png_(self) -> bytes:
        picture: Any = self.get_figure()
        return picture._repr_png_(bbox_inches="tight")


def single_panel(width: float, height: float, ax: Axes | None = None) -> Axes:
    """The user's axes, or those of a new picture (inches)."""
    return Picture(width, height).add_subplot(axes_class=_PictureAxes) if ax is None else ax


def panel_grid(
    number: int, most_columns: int, width: float, height: float, *, extra: Any = (0.0, 0.0), **pad: float
) -> tuple[Picture, list[Axes], int]:
    """A picture with ``number`` panels of this size in rows, the panels, and the number of columns."""
    n_columns = min(most_columns, number)
    n_rows = math.ceil(number / n_columns)
    figure = Picture(width * n_columns + extra[0], height * n_rows + extra[1], **pad)
    return figure, [figure.add_subplot(n_rows, n_columns, i) for i in range(1, number + 1)], n_columns


def hide_spines(axes: Axes, sides: tuple[str, ...] = ("top", "right")) -> None:
    """Remove the frame at these sides; without a left side there are no ticks at the rows either."""
    axes.spines[list(sides)].set_visible(False)
    if "left" in sides:
        axes.tick_params(axis="y", length=0)


def label_rows(axes: Axes, labels: list[str], **text: Any) -> None:
    """One row per label, the first at the top, and a frame at the bottom alone."""
    hide_spines(axes, ROWS_ONLY)
    axes.set_yticks(range(len(labels)), labels, **text)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def dot_handle(label: str, color: str, *, hollow: bool = False, **line: Any) -> Line2D:
    """Entry of a legend: a dot on its line, open if ``hollow``."""
    style = {"marker": "o", "markersize": 5.5, "markerfacecolor": "white" if hollow else color} | line
    return Line2D([], [], color=color, label=label, **style)


def dimension_labels(frame: Any) -> list[str]:
    """Numbers of the dimensions with their names, if they have any, and a note at inactive ones."""
    names = frame["name"] if "name" in frame else frame["dimension"].map(unnamed)
    rows = zip(frame["dimension"], frame["active"], names, strict=True)
    return [label_of(number, name) if active else f"inactive {number}" for number, active, name in rows]


def unnamed(number: int) -> str:
    """Name of a dimension that was not described."""
    return f"dim_{number}"


def label_of(number: int, name: str) -> str:
    """Number and name of a dimension."""
    return f"{number}" if name == unnamed(number) else shorten(f"{number} {name}", _MOST_CHARACTERS)


def shorten(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def write_reason(axes: Axes, title: str, reason: str, width: int = 56) -> Axes:
    """Say on empty axes why there is nothing to draw."""
    axes.set_axis_off()
    axes.set_title(title, fontsize="medium")
    axes.text(
        0.5, 0.5, textwrap.fill(reason, width), transform=axes.transAxes, ha="center", va="center", fontsize="small"
    )
    return axes


def read_table(
    data: AnnData | pd.DataFrame, key: str, columns: Iterable[str], make: str, suffix: str = ""
) -> pd.DataFrame:
    """The table ``.uns["betavae"][key + suffix]``, or the one passed; refused without rows or one of ``columns``."""
    given = isinstance(data, pd.DataFrame)
    table = data if given else results.read(data, key, make, suffix)
    where = "The data frame" if given else f"The table {key + suffix!r}"
    missing = [name for name in columns if name not in table]
    if missing:
        msg = f"{where} has no column {missing[0]!r}. Make it with `{make}`."
        raise KeyError(msg)
    if table.empty:
        msg = f"{where} has no rows. Make it with `{make}`."
        raise ValueError(msg)
    return table if given or "name" in table or "dimension" not in table else _with_names(table, data, key)


def _with_names(table: pd.DataFrame, adata: AnnData, key: str) -> pd.DataFrame:
    """Names of the dimensions as a column ``name``, if the table is about the latent representation that was described."""
    latent = adata.uns.get(keys.UNS, {}).get(keys.LATENT_TABLE)
    obsm_key = results.parameters(adata, keys.LATENT_TABLE).get("obsm_key", "")
    if not isinstance(latent, pd.DataFrame) or not results.describes(adata, key, obsm_key):
        return table
    names = table["dimension"].map(dict(zip(latent["dimension"], latent["name"], strict=True)))
    if "embedding" in table:
        names = names.where(table["embedding"] == obsm_key)
    return table.assign(name=names.fillna(table["dimension"].map(unnamed)))


def read_parameters(data: AnnData | pd.DataFrame, key: str) -> dict[str, Any]:
    """How the result was made, as far as that is known."""
    return dict(cast("dict[str, Any]", data.attrs)) if isinstance(data, pd.DataFrame) else results.parameters(data, key)
