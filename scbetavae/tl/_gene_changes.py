"""How every gene changes along every dimension: from a traversal, or from loadings in ``.varm``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scbetavae._core import keys, results
from scbetavae._core.checks import check_key, finite_matrix
from scbetavae.tl._rank_dimension_genes import MIN_EXPRESSION, rank_dimension_genes

if TYPE_CHECKING:
    from scbetavae.tl._embedding import Embedding

STORED_WHOLE = "all genes"
"""Parameter ``stored`` of a traversal that holds every gene."""


@dataclass(frozen=True)
class GeneChanges:
    """Changes of genes from the low end to the high end of dimensions, two frames of shape (n_dims, n_genes)."""

    change: pd.DataFrame
    """Log2 fold change, or loading; 0 for genes that do not change."""
    expression: pd.DataFrame
    """Counts of a cell of 10,000 at the higher end, or infinity where that is not known."""

    def top(self, dimension: int, n_genes: int, symbols: pd.Series) -> dict[str, list[tuple[str, float]]]:
        """Symbols and changes of the genes that change most, by direction, without those that are hardly expressed."""
        row = list(self.change.index).index(dimension)
        change, expression = (frame.to_numpy(float)[row] for frame in (self.change, self.expression))
        genes = [str(symbols.get(str(gene), gene)) for gene in self.change.columns]
        found = {}
        for direction, sign in (("up", 1.0), ("down", -1.0)):
            order = np.argsort(-sign * change, kind="stable")
            order = order[(sign * change[order] > 0) & (expression[order] >= MIN_EXPRESSION)][:n_genes]
            found[direction] = [(genes[g], float(change[g])) for g in order]
        return found


def gene_changes(traversal: pd.DataFrame) -> GeneChanges:
    """Changes along a traversal, between its ends in the observed range; dimensions without two such ends are not there."""
    ranked = rank_dimension_genes(traversal, n_genes=None, min_expression=0.0)
    genes = [str(name) for name in traversal["gene"].unique()]
    change, expression = (
        ranked.pivot(index="dimension", columns="gene", values=name).reindex(columns=genes).fillna(0.0)
        for name in ("log_fold_change", "expression")
    )
    return GeneChanges(change, expression)


def read_changes(adata: AnnData, embedding: Embedding, loadings_key: str | None) -> GeneChanges:
    """The changes of the stored traversal, or the loadings of the active dimensions."""
    if loadings_key is not None:
        return _read_loadings(adata, embedding, loadings_key)
    stored = results.parameters(adata, keys.TRAVERSAL)
    if keys.TRAVERSAL not in adata.uns.get(keys.UNS, {}) or not results.describes(
        adata, keys.TRAVERSAL, embedding.obsm_key
    ):
        varm = [name for name in adata.varm if adata.varm[name].shape[1] == embedding.values.shape[1]]
        example = varm[0] if varm else "PCs"
        msg = (
            f"There is no traversal of adata.obsm[{embedding.obsm_key!r}], so nothing says how genes change along it. "
            f"For a BetaVAE call the method of the model, which makes it; for any other embedding name its loadings, a matrix of "
            f"shape (n_genes, n_dims) in adata.varm, such as loadings_key={example!r}."
        )
        raise KeyError(msg)
    if stored.get("stored", STORED_WHOLE) != STORED_WHOLE:
        msg = (
            "The stored traversal holds only the top genes, but enrichment compares them with all others. Call the method of the "
            "model, or pass the frame: scbetavae.tl.enrich_dimensions(model.traverse())."
        )
        raise ValueError(msg)
    return gene_changes(results.read(adata, keys.TRAVERSAL, "model.traverse()"))


def _read_loadings(adata: AnnData, embedding: Embedding, loadings_key: str) -> GeneChanges:
    check_key(loadings_key, list(adata.varm), "loadings_key", "adata.varm")
    loadings: Any = finite_matrix(adata.varm[loadings_key], f"adata.varm[{loadings_key!r}]", rows=adata.var_names)
    n_dims = embedding.values.shape[1]
    if loadings.shape[1] != n_dims:
        msg = (
            f"adata.varm[{loadings_key!r}] has {loadings.shape[1]} columns, but adata.obsm[{embedding.obsm_key!r}] has {n_dims} "
            "dimensions. Name the loadings of this embedding."
        )
        raise ValueError(msg)
    dimensions = pd.Index(np.flatnonzero(embedding.active), name="dimension")
    frame = pd.DataFrame(loadings.T[embedding.active], index=dimensions, columns=adata.var_names.astype(str))
    return GeneChanges(frame, pd.DataFrame(np.inf, index=frame.index, columns=frame.columns))
