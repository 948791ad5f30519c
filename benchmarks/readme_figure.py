"""The figure at the top of the README, from the output of the demo.

``scbetavae --seed 0 --out demo && python benchmarks/readme_figure.py demo/betavae.h5ad`` draws what each latent dimension
encodes, and the cells before and after the batch dimension is removed, to ``docs/_static/overview.png``.
"""

import argparse
from pathlib import Path

import anndata
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

import scbetavae

FIGURE = Path(__file__).parents[1] / "docs" / "_static" / "overview.png"
BATCH, CELL_TYPE = "batch", "bulk_labels"
NAMES = {BATCH: "batch", CELL_TYPE: "cell type"}
COLORS = {BATCH: ["#0072B2", "#D55E00"], CELL_TYPE: [plt.get_cmap("tab10")(i) for i in range(10)]}
SHOWN = {"before": ("X_umap", 0), "after": ("X_umap_zeroed", 1)}


def draw_dimensions(axes: Axes, adata: anndata.AnnData, removed: list[int]) -> None:
    """Latent dimensions by what they encode: mutual information over entropy, largest over the classes of a covariate."""
    frame = scbetavae.pl.dimension_covariate_frame(adata)
    table = frame.pivot_table(index="dimension", columns="covariate", values="normalized", aggfunc="max")
    table = table[[BATCH, CELL_TYPE]].sort_index()
    mesh = axes.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(table.shape):
        value = table.iloc[row, column]
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.55 else "#333333")
    axes.set_xticks(range(2), NAMES.values())
    axes.set_yticks(range(len(table)), table.index)
    axes.tick_params(length=0)
    axes.set(ylabel="latent dimension", title="What each dimension encodes\n(mutual information / entropy)")
    axes.title.set_fontsize("medium")
    axes.spines[:].set_visible(False)
    for dimension in removed:
        outline = {"fill": False, "edgecolor": "#D55E00", "linewidth": 2.5, "clip_on": False}
        axes.add_patch(plt.Rectangle((-0.5, table.index.get_loc(dimension) - 0.5), 2, 1, **outline))
        axes.get_yticklabels()[table.index.get_loc(dimension)].set(color="#D55E00", weight="bold")
    mesh.set_rasterized(True)


def draw_cells(axes: Axes, adata: anndata.AnnData, column: str, when: str, accuracy: float) -> None:
    """UMAP of the cells, with k-NN accuracy below it."""
    basis, _ = SHOWN[when]
    values = adata.obs[column].astype("category").cat
    order = np.random.default_rng(0).permutation(adata.n_obs)
    colors = np.array([plt.matplotlib.colors.to_hex(color) for color in COLORS[column]])[values.codes]
    axes.scatter(*adata.obsm[basis][order].T, c=colors[order], s=7, linewidths=0)
    axes.set(xticks=[], yticks=[], xlabel=f"{NAMES[column]}: k-NN accuracy {accuracy:.2f}".replace("-0.00", "0.00"))
    axes.spines[:].set_color("#BBBBBB")


def draw(adata: anndata.AnnData) -> plt.Figure:
    """The whole figure."""
    stored = adata.uns["betavae"]
    removed = [int(number) for number in stored["batch_removal_params"]["dimensions"].split(", ")]
    report = stored["batch_removal"].query("classifier == 'knn'").set_index("covariate")
    figure = plt.figure(figsize=(11, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, 4, width_ratios=[0.85, 1, 1, 0.85])
    draw_dimensions(figure.add_subplot(grid[:, 0]), adata, removed)
    several = "s" if len(removed) > 1 else ""
    titles = {"before": "before", "after": f"after removal of dimension{several} {', '.join(map(str, removed))}"}
    for line, column in enumerate((BATCH, CELL_TYPE)):
        for when, (_, place) in SHOWN.items():
            axes = figure.add_subplot(grid[line, 1 + place])
            draw_cells(axes, adata, column, when, report.loc[column, when])
            if line == 0:
                axes.set_title(titles[when])
        legend = figure.add_subplot(grid[line, 3])
        legend.set_axis_off()
        names = adata.obs[column].astype("category").cat.categories
        dots = [plt.Line2D([], [], marker="o", linestyle="", color=color) for color in COLORS[column][: len(names)]]
        legend.legend(dots, names, loc="center left", bbox_to_anchor=(-0.05, 0.5), frameon=False, fontsize="small")
    return figure


def main() -> None:
    """Read the output of the demo, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="betavae.h5ad of the demo")
    parser.add_argument("--out", type=Path, default=FIGURE)
    options = parser.parse_args()
    draw(anndata.read_h5ad(options.file)).savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
