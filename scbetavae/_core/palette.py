"""Colors of all plots: those of Okabe and Ito, which color-blind readers can tell apart, and shades of gray."""

BLUE, ORANGE_RED, GREEN, PINK, SKY, ORANGE, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000",
)  # fmt: skip
CATEGORICAL = (BLUE, ORANGE_RED, GREEN, PINK, SKY, ORANGE, BLACK)
"""Colors of up to seven series; `colors` repeats them for more."""

PALE, LIGHT, MIDDLE, DARK = "#EDEDED", "#D9D9D9", "#999999", "#404040"
"""Grays: empty rows and bands, grid lines, what is not significant, reference lines."""


def colors(number: int) -> list[str]:
    """``number`` colors: `CATEGORICAL`, then a hue circle, so that no two series of a plot share one."""
    if number <= len(CATEGORICAL):
        return list(CATEGORICAL[:number])
    import colorsys

    extra = number - len(CATEGORICAL)
    circle = (colorsys.hls_to_rgb(i / extra, 0.35 + 0.3 * (i % 2), 0.6) for i in range(extra))
    return [*CATEGORICAL, *("#" + "".join(f"{round(255 * channel):02X}" for channel in rgb) for rgb in circle)]
