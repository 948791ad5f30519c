"""The figure at the top of the README, from the output of the demo.

``scbetavae --seed 0 --out demo && python benchmarks/readme_figure.py demo/betavae.h5ad`` draws what each latent dimension
encodes, genes and gene sets of one, and the cells
before and after the batch dimension is removed, to ``docs/_static/overview.png``.
"""

import argparse
from pathlib import Path

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import scbetavae

FIGURE = Path(__file__).parents[1] / "docs" / "_static" / "overview.png"
BATCH, CELL_TYPE = "batch", "bulk_labels"
NAMES = {BATCH: "batch", CELL_TYPE: "cell type"}
COLORS = {BATCH: ["#0072B2", "#D55E00"], CELL_TYPE: [plt.get_cmap("tab10")(i) for i in range(10)]}
SHOWN = {"before": ("X_tsne", 0), "after": ("X_tsne_zeroed", 1)}
EXAMPLE = "CD19+ B"
"""Name of the dimension whose genes are shown."""
N_GENES, N_SETS = 8, 3


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
    names = adata.uns["betavae"]["dimensions"].set_index("dimension")["name"]
    labels = [f"{names.get(d, 'inactive').split(' (')[0]}  {d}" for d in table.index]
    axes.set_yticks(range(len(table)), labels, fontsize="small")
    axes.tick_params(length=0)
    axes.set(title="Every dimension has a name\n(information / entropy)")
    axes.title.set_fontsize("medium")
    axes.spines[:].set_visible(False)
    for dimension in removed:
        outline = {"fill": False, "edgecolor": "#D55E00", "linewidth": 2.5, "clip_on": False}
        axes.add_patch(plt.Rectangle((-0.5, table.index.get_loc(dimension) - 0.5), 2, 1, **outline))
        axes.get_yticklabels()[table.index.get_loc(dimension)].set(color="#D55E00", weight="bold")
    mesh.set_rasterized(True)


def draw_genes(genes: Axes, sets: Axes, adata: anndata.AnnData, name: str) -> None:
    """Top genes of one dimension, and its gene sets."""
    stored = adata.uns["betavae"]
    dimension = stored["dimensions"].set_index("name").loc[name, "dimension"]
    table = (
        stored["dimension_genes"].query("dimension == @dimension and rank <= @N_GENES").sort_values("log_fold_change")
    )
    colors = np.where(table["log_fold_change"] > 0, "#D55E00", "#0072B2")
    genes.barh(table["gene"], table["log_fold_change"], color=colors)
    genes.set(xlabel="log2 fold change", title=f"Genes and gene sets\nof dimension {dimension}, {name}")
    found = stored["gene_sets"].query("dimension == @dimension").sort_values("score")
    found = pd.concat([found.head(N_SETS), found.tail(N_SETS)])
    sets.barh(found["gene_set"], found["score"], color=np.where(found["score"] > 0, "#D55E00", "#0072B2"))
    sets.set(xlabel="score (t)")
    for axes in (genes, sets):
        axes.tick_params(axis="y", length=0, labelsize="small")
        axes.axvline(0, color="#333333", linewidth=0.8)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.title.set_fontsize("medium")


def draw_cells(axes: Axes, adata: anndata.AnnData, column: str, when: str, accuracy: float) -> None:
    """Layout of the cells, with k-NN accuracy below it."""
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
    figure = plt.figure(figsize=(14, 5.4), layout="constrained")
    grid = figure.add_gridspec(4, 4, width_ratios=[0.7, 0.9, 1, 1])
    draw_dimensions(figure.add_subplot(grid[:, 0]), adata, removed)
    draw_genes(figure.add_subplot(grid[:3, 1]), figure.add_subplot(grid[3, 1]), adata, EXAMPLE)
    several = "s" if len(removed) > 1 else ""
    titles = {
        "before": "Cells before",
        "after": f"and after removal of dimension{several} {', '.join(map(str, removed))}",
    }
    for line, column in enumerate((BATCH, CELL_TYPE)):
        for when, (_, place) in SHOWN.items():
            axes = figure.add_subplot(grid[2 * line : 2 * line + 2, 2 + place])
            draw_cells(axes, adata, column, when, report.loc[column, when])
            if line == 0:
                axes.set_title(titles[when], fontsize="medium")
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
