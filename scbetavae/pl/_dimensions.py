"""Dimension cards: all of them as one figure, or one of them large."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scbetavae._core import keys, palette, results
from scbetavae._core.checks import check_dimensions
from scbetavae._core.constants import STABLE
from scbetavae.pl._figure import Picture, hide_spines, read_table, shorten, write_reason
from scbetavae.pl._traversal import traversal

_COLUMNS = (
    "dimension", "name", "encodes", "deviance_explained", "stability", "genes_up", "genes_down",
    "gene_set_up", "gene_set_up_q", "gene_set_down", "gene_set_down_q", "warning",
)  # fmt: skip
_MAKE = "model.describe_dimensions()` or `scbetavae.tl.describe_dimensions(adata)"
_ROW = 0.52  # inches of a card
_WIDTHS = (3.5, 0.8, 0.8, 4.3, 3.1)  # inches: name, deviance explained, stability, genes, gene sets
_SIGNIFICANT = 0.05
_NAME_CHARACTERS = 40
_UP, _DOWN = palette.ORANGE_RED, palette.BLUE
_MOST_SETS = 5  # of each direction
_MOST_CLASSES = 24


def dimensions(data: AnnData | pd.DataFrame, *, key: str = keys.DIMENSIONS) -> Figure:
    """Draw the cards of all active dimensions, the most valuable first.

    One row per dimension: its number and name, and what it encodes; the share of the deviance that it explains; its stability (a
    dimension below 0.7 is pale); the genes that rise (top) and fall (bottom) along it, with log2 fold changes; and the top gene
    set of each direction, in bold if its adjusted p-value is below 0.05. A warning stands in place of what the dimension encodes.

    Parameters
    ----------
    data, key
        As in :func:`batch_dimensions`, with its errors; a frame is that of :meth:`BetaVAE.describe_dimensions`.

    Examples
    --------
    >>> import scanpy as sc, scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> sc.pp.normalize_total(adata, target_sum=1e4)
    >>> sc.pp.log1p(adata)
    >>> sc.pp.pca(adata, n_comps=3)
    >>> cards = scbetavae.tl.describe_dimensions(adata, "bulk_labels", obsm_key="X_pca", loadings_key="PCs")
    >>> len(scbetavae.pl.dimensions(cards).axes)
    5
    """
    cards = read_table(data, key, _COLUMNS, _MAKE)
    if "order" in cards and cards["order"].notna().all():
        cards = cards.sort_values("order", kind="stable")
    cards = cards.reset_index(drop=True)
    figure = Picture(sum(_WIDTHS), len(cards) * _ROW + 0.6, w_pad=0.0, wspace=0.0)
    panels = figure.subplots(1, len(_WIDTHS), sharey=True, width_ratios=_WIDTHS)
    for row in range(0, len(cards), 2):
        for axes in panels:
            axes.axhspan(row - 0.5, row + 0.5, color=palette.PALE, linewidth=0, zorder=0)
    pale = (cards["stability"] < STABLE).to_numpy()
    _write_names(panels[0], cards, pale)
    _draw_shares(panels[1], cards["deviance_explained"].to_numpy(float), pale)
    _draw_stability(panels[2], cards["stability"].to_numpy(float), pale)
    _write_lines(panels[3], "genes", cards["genes_up"], cards["genes_down"], 62)
    bold = [(cards[f"gene_set_{direction}_q"] < _SIGNIFICANT).to_numpy() for direction in ("up", "down")]
    _write_lines(panels[4], "top gene set", cards["gene_set_up"], cards["gene_set_down"], 40, bold=bold)
    panels[0].set_ylim(len(cards) - 0.5, -0.5)
    return figure


def dimension(adata: AnnData, dimension: int | str, *, key: str = keys.DIMENSIONS) -> Figure:
    """Draw one dimension: cells by class, the genes that respond along it, and its gene sets.

    Parameters
    ----------
    adata
        Annotated data after :meth:`BetaVAE.describe_dimensions`.
    dimension
        Number or name.
    key
        Name of the cards in ``.uns["betavae"]``.

    Returns
    -------
    Figure with three panels: the dimension's values in the classes of the covariate that it encodes most strongly (boxes with
    whiskers from the 5% to the 95% quantile; all cells, if it encodes none); genes along the traversal, see :func:`traversal`;
    gene sets by score, pale where the adjusted p-value is 0.05 or more.

    Raises
    ------
    KeyError, ValueError
        As :func:`batch_dimensions`, and for a dimension without a card.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=20, enable_progress_bar=False)
    >>> _ = model.describe_dimensions()
    >>> len(scbetavae.pl.dimension(adata, 0).axes) >= 3
    True
    """
    cards = read_table(adata, key, _COLUMNS, _MAKE)
    number = _number_of(dimension, cards)
    card = cards[cards["dimension"] == number].iloc[0]
    obsm_key = results.parameters(adata, key).get("obsm_key", keys.LATENT)
    figure = Picture(12.5, 4.6, w_pad=0.08)
    panels = figure.subplots(1, 3, width_ratios=[1.1, 1.2, 1.0])
    values: Any = adata.obsm[obsm_key]
    values = np.asarray(values.iloc[:, number] if isinstance(values, pd.DataFrame) else values[:, number], dtype=float)
    _draw_classes(panels[0], values, adata, str(card.get("covariate", "")))
    _draw_genes(panels[1], adata, number, card, key)
    _draw_gene_sets(panels[2], adata, number, obsm_key)
    title = f"{number}: {card['name']}"
    figure.suptitle(f"{title}\n{card['encodes']}" if card["encodes"] else title, fontsize="large")
    return figure


def _number_of(dimension: int | str, cards: pd.DataFrame) -> int:
    """Number of a dimension that has a card."""
    by_name = dict(zip(cards["name"], cards["dimension"], strict=True))
    if isinstance(dimension, str) and dimension in by_name:
        return int(by_name[dimension])
    there = cards["dimension"].to_list()
    names = [{d: name for name, d in by_name.items()}.get(d, f"dim_{d}") for d in range(max(there) + 1)]
    [number] = check_dimensions(dimension, max(there) + 1, "dimension", names)
    if number not in there:
        msg = f"dimension={dimension!r} has no card, because it is inactive. Cards are there for {there}."
        raise ValueError(msg)
    return number


def _write_names(axes: Axes, cards: pd.DataFrame, pale: np.ndarray) -> None:
    """Number, name and what the dimension encodes."""
    _empty(axes, "dimension")
    axes.set_xlim(0, _WIDTHS[0])
    for row, card in enumerate(cards.to_dict("records")):
        color = palette.MIDDLE if pale[row] else palette.BLACK
        second = str(card["warning"] or card["encodes"])
        first_line = row - (0.2 if second else 0.0)
        _write(axes, 0.02, first_line, str(card["dimension"]), color=palette.MIDDLE, fontsize="small")
        name = shorten(str(card["name"]), _NAME_CHARACTERS)
        _write(axes, 0.25, first_line, name, color=color, weight="bold", fontsize="small")
        color = _UP if card["warning"] else palette.DARK
        _write(axes, 0.25, row + 0.22, shorten(second, _NAME_CHARACTERS + 8), color=color, fontsize="x-small")


def _write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text from the left that takes no room from other panels."""
    axes.text(x, y, text, va="center", ha="left", **style).set_in_layout(False)


def _draw_shares(axes: Axes, shares: np.ndarray, pale: np.ndarray) -> None:
    """Bars of the share of the deviance."""
    _empty(axes, "deviance\nexplained")
    rows = np.arange(len(shares))
    axes.barh(
        rows, np.nan_to_num(np.maximum(shares, 0)), height=0.36, color=np.where(pale, palette.MIDDLE, palette.GREEN)
    )
    for row, share in zip(rows, shares, strict=True):
        text = "" if np.isnan(share) else f"{share:.0%}"
        axes.annotate(text, (max(share, 0), row), (2, 0), textcoords="offset points", va="center", fontsize="x-small")
    axes.set_xlim(0, 1.7 * max(np.nanmax(np.append(shares, 0.0)), 1e-9))


def _draw_stability(axes: Axes, stability: np.ndarray, pale: np.ndarray) -> None:
    """Dots from 0 to 1."""
    _empty(axes, "stability")
    axes.axvline(STABLE, color=palette.LIGHT, linewidth=1.0)
    for chosen, color in ((~pale, palette.GREEN), (pale, palette.MIDDLE)):
        axes.scatter(stability[chosen], np.flatnonzero(chosen), s=22, color=color, zorder=2)
    axes.set_xlim(-0.1, 1.1)


def _write_lines(
    axes: Axes, title: str, up: pd.Series, down: pd.Series, most: int, bold: list[np.ndarray] | None = None
) -> None:
    """Two lines per dimension: what is up, and what is down."""
    _empty(axes, title)
    axes.set_xlim(0, 1)
    for place, (texts, color, arrow) in enumerate(((up, _UP, "▲"), (down, _DOWN, "▼"))):
        for row, text in enumerate(texts):
            style: dict[str, Any] = {"fontsize": "x-small", "color": color}
            if bold is not None and bold[place][row]:
                style["weight"] = "bold"
            if text:
                _write(axes, 0.0, row + (0.22 if place else -0.2), f"{arrow} {shorten(str(text), most)}", **style)


def _empty(axes: Axes, title: str) -> None:
    """A panel without frame and ticks."""
    axes.set_title(title, fontsize="small", loc="left")
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)


def _draw_classes(axes: Axes, values: np.ndarray, adata: AnnData, covariate: str) -> None:
    """Boxes of the dimension in every class, or its course along a number."""
    hide_spines(axes)
    axes.set_xlabel("value of the dimension")
    column: Any = adata.obs.get(covariate)
    axes.set_title(f"cells by {covariate}" if column is not None else "cells", fontsize="medium")
    if column is not None and pd.api.types.is_numeric_dtype(column) and column.nunique() > _MOST_CLASSES:
        axes.scatter(values, column, s=3, color=palette.BLUE, linewidth=0, rasterized=True)
        axes.set_ylabel(covariate)
        return
    labels = pd.Series("all cells", index=range(len(values))) if column is None else column.astype(str)
    groups = pd.Series(values).groupby(labels.to_numpy())
    medians = groups.median().sort_values()
    medians = medians if len(medians) <= _MOST_CLASSES else pd.concat([medians.head(12), medians.tail(12)])
    parts = [groups.get_group(name).to_numpy() for name in medians.index]
    boxes = axes.boxplot(parts, orientation="horizontal", whis=(5, 95), showfliers=False, widths=0.6, patch_artist=True)
    for box in boxes["boxes"]:
        box.set_facecolor(palette.LIGHT)
    for median in boxes["medians"]:
        median.set_color(palette.ORANGE_RED)
    names = [f"{shorten(str(name), 28)} ({len(part)})" for name, part in zip(medians.index, parts, strict=True)]
    axes.set_yticks(np.arange(1, len(names) + 1), names, fontsize="small")


def _draw_genes(axes: Axes, adata: AnnData, number: int, card: pd.Series, key: str) -> None:
    """Genes along the traversal, or the top genes of the loadings."""
    stored = results.parameters(adata, keys.TRAVERSAL)
    table = adata.uns[keys.UNS].get(keys.TRAVERSAL)
    if stored and isinstance(table, pd.DataFrame) and number in set(table["dimension"]):
        symbols = results.parameters(adata, key).get("gene_symbols")
        traversal(adata, number, n_genes=8, gene_symbols=symbols, ax=axes)
        axes.set_title("genes along the dimension", fontsize="medium")
        return
    text = "\n".join(textwrap.fill(str(card[f"genes_{side}"]), 40) for side in ("up", "down"))
    write_reason(axes, "genes", text or "no traversal is stored")


def _draw_gene_sets(axes: Axes, adata: AnnData, number: int, obsm_key: str) -> None:
    """Bars of the gene sets with the highest scores."""
    table = adata.uns[keys.UNS].get(keys.GENE_SETS)
    known = isinstance(table, pd.DataFrame) and results.parameters(adata, keys.GENE_SETS).get("obsm_key") == obsm_key
    part = table[table["dimension"] == number] if known else pd.DataFrame()
    if part.empty:
        write_reason(axes, "gene sets", "no gene sets were tested")
        return
    part = part.sort_values("score")
    chosen = pd.concat([part[part["score"] < 0].head(_MOST_SETS), part[part["score"] > 0].tail(_MOST_SETS)])
    hide_spines(axes)
    colors = np.where(chosen["score"] > 0, _UP, _DOWN)
    bars = axes.barh(np.arange(len(chosen)), chosen["score"], height=0.66, color=colors)
    for bar, q in zip(bars, chosen["p_adjusted"], strict=True):
        bar.set_alpha(1.0 if q < _SIGNIFICANT else 0.3)
    axes.axvline(0.0, color=palette.DARK, linewidth=0.8)
    axes.set_yticks(np.arange(len(chosen)), [shorten(str(name), 34) for name in chosen["gene_set"]], fontsize="small")
    axes.set_xlabel("score (t); pale: adjusted p ≥ 0.05")
    axes.set_title("gene sets", fontsize="medium")
