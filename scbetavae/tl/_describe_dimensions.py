"""A card for every latent dimension: what it encodes, its genes and gene sets, and a name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import as_list, check_adata
from scbetavae._core.columns import scored_columns
from scbetavae._core.genes import gene_symbols_of
from scbetavae.tl._dimension_names import Card, name_cards, read_names
from scbetavae.tl._embedding import Embedding, read
from scbetavae.tl._enrich_dimensions import (
    LEAST_GENES,
    GeneSets,
    check_decoupler,
    has_decoupler,
    measured_sets,
    read_gene_sets,
    run_enrichment,
)
from scbetavae.tl._gene_changes import GeneChanges, read_changes
from scbetavae.tl._guided_cards import ENCODES_NOTHING, guided_cards
from scbetavae.tl._technical import read_technical

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

_logger = logging.getLogger(__name__)

_TOP_GENES = 5
_SIGNIFICANT = 0.05
FOLLOWS_TECHNICAL = 0.5
"""Correlation with a technical covariate from which a card gives a warning."""
_SUMMARY = ("order", "reconstruction_lost", "deviance_explained", "stability")
_COLUMNS = (
    "dimension", "name", "named_by", "role", "order", "kl", "reconstruction_lost", "deviance_explained", "stability",
    "covariate", "class", "information", "direction", "encodes", "genes_up", "genes_down",
    "gene_set_up", "gene_set_up_score", "gene_set_up_q", "gene_set_down", "gene_set_down_score", "gene_set_down_q",
    "technical", "technical_r", "warning",
)  # fmt: skip


def describe_dimensions(
    adata: AnnData,
    covariates: str | Iterable[str] | None = None,
    *,
    obsm_key: str = keys.LATENT,
    loadings_key: str | None = None,
    gene_sets: GeneSets | None = None,
    gene_symbols: str | None = None,
    names: Mapping[int | str, str] | None = None,
    key_added: str = keys.DIMENSIONS,
) -> pd.DataFrame:
    """Describe every active dimension of an embedding, and name it.

    A name is that of the class or covariate that the dimension encodes (normalized information of at least 0.3, at one end of the
    dimension), of the technical covariate that it follows (absolute correlation of at least 0.7), of its top gene set (adjusted
    p-value below 0.05), or its top genes. A gene set with an adjusted p-value below 0.001 is added to the name of a covariate.
    Names depend on the data alone, and no two dimensions have the same.

    Parameters
    ----------
    adata
        Annotated data with an embedding and a traversal of it (:meth:`BetaVAE.traverse`) or its loadings; not a view.
    covariates
        Columns of ``.obs`` that dimensions may encode; without any, cards name genes alone.
    obsm_key, loadings_key, gene_symbols
        As in :func:`enrich_dimensions`.
    gene_sets
        As in :func:`enrich_dimensions`. The default, a few sets of markers, is left out with a log message if decoupler is not
        installed or the genes are not human symbols.
    names
        Names of your own by dimension, such as ``{3: "interferon"}``. They are kept when the dimensions are described again.
    key_added
        Name of the result in ``.uns["betavae"]``.

    Returns
    -------
    DataFrame with one row per active dimension, NaN or empty where something is not known:

    ``dimension``, ``name``, ``named_by``, ``role``
        Number from 0; name; ``"derived"`` or ``"user"``; ``"free"`` or guided by a covariate.
    ``order``, ``kl``, ``reconstruction_lost``, ``deviance_explained``, ``stability``
        As in :meth:`BetaVAE.get_latent_summary`, if ``.uns["betavae"]["latent_summary"]`` describes this embedding.
    ``covariate``, ``class``, ``information``, ``direction``, ``encodes``
        What the dimension encodes most strongly, with the normalized information in [0, 1], the rank correlation in [-1, 1], see
        :func:`scbetavae.metrics.dimension_covariate_table`, and the same in words. Empty if nothing is significant.
    ``genes_up``, ``genes_down``
        Five genes that change most along the dimension, with log2 fold change (or loading).
    ``gene_set_up``, ``gene_set_up_score``, ``gene_set_up_q``, and the same for ``down``
        Top gene set, its score and its adjusted p-value.
    ``technical``, ``technical_r``, ``warning``
        The technical covariate (library size, genes detected, percent mitochondrial) with the largest Pearson correlation, and a
        sentence if that is at least 0.5 in absolute value.

    Also written: under ``"gene_sets"`` all gene sets, see :func:`enrich_dimensions`.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`enrich_dimensions`, and for names that are empty, not unique or of dimensions that do not exist.

    See Also
    --------
    scbetavae.pl.dimensions : the cards as a figure.

    Examples
    --------
    >>> import scanpy as sc, scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> sc.pp.normalize_total(adata, target_sum=1e4)
    >>> sc.pp.log1p(adata)
    >>> sc.pp.pca(adata, n_comps=3)
    >>> cards = scbetavae.tl.describe_dimensions(adata, "bulk_labels", obsm_key="X_pca", loadings_key="PCs")
    >>> cards["genes_up"].iloc[0].split(" ")[0]
    'CST3'
    """
    check_adata(adata, key_added=key_added)
    columns = as_list(covariates)
    if columns:
        scored_columns(adata, columns)
    network, symbols = check_description(adata, gene_sets, gene_symbols)
    embedding = read(adata, obsm_key)
    read_names(names, embedding.names)
    changes = read_changes(adata, embedding, loadings_key)
    technical = read_technical(adata, None, None, genes_detected=True)
    how = {"gene_symbols": gene_symbols, "loadings_key": loadings_key}
    sources = Sources(changes, technical, symbols, network, how)
    return run_description(adata, columns, sources, obsm_key=obsm_key, names=names, key_added=key_added)


@dataclass(frozen=True)
class Sources:
    """What cards are made from, besides the embedding."""

    changes: GeneChanges | None
    """``None`` if there is no active dimension."""
    technical: pd.DataFrame
    symbols: pd.Series
    network: pd.DataFrame | None
    """Gene sets; ``None`` for none."""
    how: dict[str, Any]
    """Parameters to store."""


def check_description(
    adata: AnnData, gene_sets: GeneSets | None, gene_symbols: str | None
) -> tuple[pd.DataFrame | None, pd.Series]:
    """Gene sets and symbols after all checks of them; ``None`` if the sets are the default and cannot be used."""
    symbols = gene_symbols_of(adata, gene_symbols)
    genes = pd.Index(symbols.unique())
    if gene_sets is not None:
        check_decoupler()
        network = read_gene_sets(gene_sets)
        measured_sets(network, genes, LEAST_GENES)
        return network, symbols
    if not has_decoupler():
        _logger.warning('Cards have no gene sets without decoupler: pip install "scbetavae[enrichment]".')
        return None, symbols
    network = read_gene_sets(None)
    try:
        measured_sets(network, genes, LEAST_GENES)
    except ValueError as error:
        _logger.warning("Cards have no gene sets. %s", error)
        return None, symbols
    return network, symbols


def run_description(
    adata: AnnData,
    covariates: list[str],
    sources: Sources,
    *,
    obsm_key: str,
    names: Mapping[Any, str] | None,
    key_added: str,
) -> pd.DataFrame:
    """Make the cards, name them, and store them with their gene sets."""
    embedding = read(adata, obsm_key)
    n_dims = embedding.values.shape[1]
    given = _earlier_names(adata, key_added, obsm_key) | read_names(names, embedding.names)
    sets = None
    if sources.network is not None and sources.changes is not None:
        sets = run_enrichment(sources.changes.change, sources.symbols, sources.network)
    encoded = _strongest(embedding, scored_columns(adata, covariates)) if covariates else {}
    encoded |= guided_cards(adata, embedding)
    summary = _read_summary(adata, obsm_key, n_dims)
    cards = [
        _make_card(int(d), embedding, sources, encoded.get(int(d)), sets, summary)
        for d in np.flatnonzero(embedding.active)
    ]
    name_cards(cards, {d: name for d, name in given.items() if embedding.active[d]})
    table = pd.DataFrame(cards, columns=list(_COLUMNS))
    embeddings = {obsm_key: embedding.values}
    if sets is not None:
        results.store(adata, keys.GENE_SETS, {"": sets}, {"obsm_key": obsm_key, **sources.how}, embeddings)
    how = {"obsm_key": obsm_key, "covariates": ", ".join(covariates), **sources.how}
    results.store(adata, key_added, {"": table.copy()}, how, embeddings)
    _rename_latent(adata, obsm_key, dict(zip(table["dimension"], table["name"], strict=True)))
    return table


def _make_card(
    dimension: int,
    embedding: Embedding,
    sources: Sources,
    encoded: Card | None,
    sets: pd.DataFrame | None,
    summary: pd.DataFrame,
) -> Card:
    """What is known of one dimension, with that from which it is named: ``top``, ``named_after`` and ``marks_class``."""
    nothing = {"covariate": "", "class": "", "encodes": "", "marks_class": False}
    nothing |= {"information": np.nan, "direction": np.nan}
    card: Card = {"dimension": dimension, "role": embedding.roles[dimension]}
    card["kl"] = np.nan if embedding.kl is None else float(embedding.kl[dimension])
    card |= dict(zip(_SUMMARY, summary.loc[dimension, list(_SUMMARY)].to_numpy(float), strict=True)) | (
        encoded or ENCODES_NOTHING
    )
    card["top"] = {"up": [], "down": []}
    if sources.changes is not None and dimension in sources.changes.change.index:
        card["top"] = sources.changes.top(dimension, _TOP_GENES, sources.symbols)
    for direction in ("up", "down"):
        card[f"genes_{direction}"] = ", ".join(f"{gene} {change:+.1f}" for gene, change in card["top"][direction])
        best = None
        if sets is not None:
            best = next(sets[(sets["dimension"] == dimension) & (sets["direction"] == direction)].itertuples(), None)
        card[f"gene_set_{direction}"] = "" if best is None else best.gene_set
        card[f"gene_set_{direction}_score"] = np.nan if best is None else best.score
        card[f"gene_set_{direction}_q"] = np.nan if best is None else best.p_adjusted
    card["named_after"] = _set_for_name(dimension, sources.network, sets)
    return card | _follows(embedding.values[:, dimension], sources.technical)


def _set_for_name(
    dimension: int, network: pd.DataFrame | None, sets: pd.DataFrame | None
) -> tuple[str, str, list[str], float]:
    """The significant gene set with the highest score (one of cell quality only if it is alone), its direction, genes and q."""
    if network is None or sets is None:
        return "", "up", [], 1.0
    quality = set(network.loc[network["kind"] == "quality", "source"]) if "kind" in network else set()
    found = sets[(sets["dimension"] == dimension) & (sets["p_adjusted"] < _SIGNIFICANT)]
    rows = sorted(found.to_dict("records"), key=lambda row: (row["gene_set"] in quality, -abs(row["score"])))
    if not rows:
        return "", "up", [], 1.0
    return rows[0]["gene_set"], rows[0]["direction"], rows[0]["genes"].split(", "), rows[0]["p_adjusted"]


def _follows(values: np.ndarray, technical: pd.DataFrame) -> Card:
    """The technical covariate that a dimension follows most, and a warning if it does so closely."""
    correlations = {
        name: float(np.corrcoef(values, column)[0, 1]) for name, column in technical.items() if column.std() > 0
    }
    if not correlations:
        return {"technical": "", "technical_r": np.nan, "warning": ""}
    name = max(correlations, key=lambda known: abs(correlations[known]))
    r = correlations[name]
    warning = f"follows {name}, r = {r:.2f}" if abs(r) >= FOLLOWS_TECHNICAL else ""
    return {"technical": str(name), "technical_r": r, "warning": warning}


def _strongest(embedding: Embedding, factors: pd.DataFrame) -> dict[int, Card]:
    """What each dimension encodes most strongly: a class, a covariate of two classes, or a number."""
    table = metrics.dimension_covariate_table(embedding.values, factors, active=embedding.active)
    table = table[(table["p_adjusted"] < _SIGNIFICANT) & table["direction"].notna()]
    n_classes = {name: column.nunique() for name, column in factors.items()}
    strength = table["normalized"] * table["direction"].abs()
    table = table.assign(strength=strength, is_low=table["direction"] < 0)
    # Of two classes with the same information, the one that is high.
    table = table.sort_values(["strength", "is_low"], ascending=[False, True], kind="stable")
    found = {}
    for row in table.drop_duplicates("dimension").to_dict("records"):
        side, moves = ("high", "rises") if row["direction"] > 0 else ("low", "falls")
        found[int(row["dimension"])] = {
            "covariate": str(row["covariate"]),
            "class": str(row["class"]),
            "information": float(row["normalized"]),
            "direction": float(row["direction"]),
            "encodes": f"{side} in {row['class']}" if row["class"] else f"{moves} with {row['covariate']}",
            "marks_class": bool(row["class"]) and n_classes[row["covariate"]] > 2,
        }
    return found


def _read_summary(adata: AnnData, obsm_key: str, n_dims: int) -> pd.DataFrame:
    """Columns of the latent summary of this embedding, NaN without one."""
    table = adata.uns.get(keys.UNS, {}).get(keys.LATENT_SUMMARY)
    known = isinstance(table, pd.DataFrame) and obsm_key == keys.LATENT and len(table) == n_dims
    if not known or not results.describes(adata, keys.LATENT_SUMMARY, obsm_key):
        return pd.DataFrame(np.nan, index=range(n_dims), columns=list(_SUMMARY))
    return table.set_index("dimension").reindex(columns=list(_SUMMARY)).astype(float)


def _earlier_names(adata: AnnData, key_added: str, obsm_key: str) -> dict[int, str]:
    """Names that the user gave to dimensions of this embedding before."""
    table = adata.uns.get(keys.UNS, {}).get(key_added)
    is_of_this = results.parameters(adata, key_added).get("obsm_key") == obsm_key
    if not isinstance(table, pd.DataFrame) or not is_of_this or not results.describes(adata, key_added, obsm_key):
        return {}
    table = table[table["named_by"] == "user"]
    return {int(d): str(name) for d, name in zip(table["dimension"], table["name"], strict=True)}


def _rename_latent(adata: AnnData, obsm_key: str, names: Mapping[int, str]) -> None:
    """Write the names to the table of the latent representation, from which plots and tables read them."""
    table = adata.uns[keys.UNS].get(keys.LATENT_TABLE)
    if isinstance(table, pd.DataFrame) and results.parameters(adata, keys.LATENT_TABLE).get("obsm_key") == obsm_key:
        current = zip(table["dimension"], table["name"], strict=True)
        table = table.assign(name=[names.get(int(dimension), str(name)) for dimension, name in current])
        adata.uns[keys.UNS] = {**adata.uns[keys.UNS], keys.LATENT_TABLE: table}
