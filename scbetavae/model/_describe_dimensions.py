"""A card for every latent dimension of a model: what it encodes, its genes and gene sets, and a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scbetavae import tl
from scbetavae._core import keys, results
from scbetavae._core.checks import as_list, check_adata
from scbetavae._core.columns import class_columns, scored_columns
from scbetavae._core.staging import results_kept, staged

from ._latent import cells_of, class_overrides, compute_latent, write_latent
from ._registered_cells import COUNT_LIKELIHOODS
from ._traversal import store_traversal, traverse_for_cards

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData

    from scbetavae.tl import GeneSets

    from ._betavae import BetaVAE
    from ._latent import Latent


def describe_dimensions(
    self: BetaVAE,
    covariates: str | Iterable[str] | None = None,
    *,
    gene_sets: GeneSets | None = None,
    gene_symbols: str | None = None,
    names: Mapping[int | str, str] | None = None,
    adata: AnnData | None = None,
    key_added: str = keys.DIMENSIONS,
) -> pd.DataFrame:
    """Describe every active dimension and name it: :func:`scbetavae.tl.describe_dimensions`.

    The latent summary, a traversal of all active dimensions from -3 to 3, and their top genes are made unless they are there.
    Genes change from the low to the high end of a dimension, the 1% and 99% quantiles of the cells. Names are kept with the
    model, also when it is saved, until it is trained again.

    Parameters
    ----------
    covariates
        Columns of ``.obs`` that dimensions may encode; by default the batch, labels and categorical covariates of
        :meth:`setup_anndata`.
    gene_sets, gene_symbols, names, key_added
        As in :func:`scbetavae.tl.describe_dimensions`.
    adata
        Cells; those of the model unless given. Not a view.

    Returns
    -------
    DataFrame with one row per active dimension, see :func:`scbetavae.tl.describe_dimensions`; empty if none is active.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`scbetavae.tl.describe_dimensions`, before anything is computed.

    See Also
    --------
    scbetavae.pl.dimensions : the cards as a figure. write_report : the cards and all other results as one page.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=20, enable_progress_bar=False)
    >>> cards = model.describe_dimensions(names={0: "my dimension"})
    >>> cards["name"].iloc[0]
    'my dimension'
    """
    adata = cells_of(self, adata, "describe_dimensions(adata=...)")
    check_adata(adata, key_added=key_added)
    registered = class_columns(self.registry_.get("setup_args", {}))
    columns = registered if covariates is None else as_list(covariates)
    overrides = class_overrides(self, adata, columns)
    if columns:
        scored_columns(adata, columns, registered=registered)
    network, symbols = tl.check_description(adata, gene_sets, gene_symbols)
    known = self.dimension_names_ or {}
    labels = [known.get(d, f"dim_{d}") for d in range(self.module.n_dimensions)]
    given = known | tl.read_names(names, _labels(adata, labels))
    setup = self.registry_.get("setup_args", {})
    layer = setup.get("layer") if self.module.gene_likelihood in COUNT_LIKELIHOODS else None
    technical = tl.read_technical(adata, None, layer if layer in list(adata.layers) else None, genes_detected=True)
    with results_kept(adata):
        if not _is_there(adata, keys.LATENT_SUMMARY):
            self.get_latent_summary(adata=adata)
        if self.module.guided is not None and not _is_there(adata, keys.GUIDED):
            self.describe_guided(adata=adata, gene_symbols=gene_symbols)
        with staged(adata, obs=overrides) as copy:
            write_latent(self, adata, copy)
            latent = compute_latent(self, adata, normal=True)
            changes = None
            if latent.active.any():
                made = traverse_for_cards(self, adata, latent)
                changes = tl.gene_changes(made.ends)
                if not _is_there(copy, keys.TRAVERSAL):
                    store_traversal(self, copy, latent, made.steps, made.how, keys.TRAVERSAL)
                if not _is_there(copy, keys.DIMENSION_GENES):
                    _store_genes(copy, made.ends, symbols, latent)
            sources = tl.Sources(changes, technical, symbols, network, {"gene_symbols": gene_symbols})
            cards = tl.run_description(copy, columns, sources, obsm_key=keys.LATENT, names=given, key_added=key_added)
    self.dimension_names_ = given or None
    return cards


def _is_there(adata: AnnData, key: str) -> bool:
    """Whether there is such a result about this latent representation, which stays."""
    made = results.parameters(adata, key)
    return bool(made) and results.describes(adata, key, keys.LATENT)


def _store_genes(adata: AnnData, traversal: pd.DataFrame, symbols: pd.Series, latent: Latent) -> None:
    """Store the top genes of every dimension as `rank_dimension_genes` does, between the ends of the cells."""
    table = tl.rank_dimension_genes(traversal)
    if (symbols.to_numpy() != symbols.index.to_numpy()).any():
        table.insert(list(table).index("gene") + 1, "symbol", table["gene"].map(symbols))
    how = {"rank_by": "log_fold_change", "in_range_only": True}
    results.store(adata, keys.DIMENSION_GENES, {"": table}, how, {keys.LATENT: latent.means})


def _labels(adata: AnnData, labels: list[str]) -> list[str]:
    """Current names of the dimensions in the data, or those of the model."""
    table = adata.uns.get(keys.UNS, {}).get(keys.LATENT_TABLE)
    known = isinstance(table, pd.DataFrame) and len(table) == len(labels)
    return [str(name) for name in table["name"]] if known else labels
