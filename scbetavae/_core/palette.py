"""Colors of all plots: those of Okabe and Ito, which color-blind readers can tell apart, and shades of gray."""

import colorsys

BLUE, ORANGE_RED, GREEN, PINK, SKY, ORANGE, BLACK = CATEGORICAL = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000",
)  # fmt: skip
PALE, LIGHT, MIDDLE, DARK = "#EDEDED", "#D9D9D9", "#999999", "#404040"  # bands, grid lines, not significant, references


def colors(number: int) -> list[str]:
    """``number`` colors: `CATEGORICAL`, then a hue circle, so that no two series of a plot share one."""
    extra = max(number - len(CATEGORICAL), 0)
    circle = (colorsys.hls_to_rgb(i / extra, 0.35 + 0.3 * (i % 2), 0.6) for i in range(extra))
    extras = ("#" + "".join(f"{round(255 * channel):02X}" for channel in rgb) for rgb in circle)
    return [*CATEGORICAL, *extras][:number]
