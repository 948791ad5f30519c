"""A figure that a notebook shows once, made without pyplot."""

from __future__ import annotations

import textwrap
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure


class Picture(Figure):
    """A matplotlib Figure that displays itself in Jupyter.

    A figure of pyplot would appear twice when it ends a cell and stay in memory until closed; a bare one appears as
    its text unless ``%matplotlib inline`` was run. Layout is constrained: labels and legends get the room they need.
    """

    def __init__(self, width: float, height: float):
        super().__init__(figsize=(width, height), layout="constrained")

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


class PictureAxes(Axes):
    """The one panel of a picture, which displays itself in Jupyter as the picture does."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.get_figure().savefig(buffer, format="png", dpi=100, bbox_inches="tight")
        return buffer.getvalue()


def write_reason(axes: Axes, title: str, reason: str) -> Axes:
    """Say on empty axes why there is nothing to draw, instead of drawing."""
    axes.set_axis_off()
    axes.set_title(title, fontsize="medium")
    axes.text(0.5, 0.5, textwrap.fill(reason, 56), transform=axes.transAxes, ha="center", va="center", fontsize="small")
    return axes


def single_panel(width: float, height: float) -> PictureAxes:
    """Axes of a new picture.

    Parameters
    ----------
    width, height
        Size of the picture in inches.

    Returns
    -------
    Its only axes.
    """
    return Picture(width, height).add_subplot(axes_class=PictureAxes)
