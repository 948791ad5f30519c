"""Find the latent dimensions that encode batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from scbetavae import tl
from scbetavae._core import keys
from scbetavae._core.checks import check_adata, read_options
from scbetavae._core.columns import class_columns
from scbetavae._core.options import SEARCH, SearchOptions
from scbetavae._core.staging import staged

from ._latent import batch_columns, cells_of, write_latent

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData

    from ._betavae import BetaVAE


def find_batch_dimensions(
    self: BetaVAE,
    batch_key: str | None = None,
    *,
    conserve: str | Iterable[str] | None = None,
    categorical: str | Iterable[str] | None = None,
    adata: AnnData | None = None,
    obsm_key: str = keys.LATENT,
    method: str = "stepwise",
    key_added: str = keys.BATCH_DIMENSIONS,
    **options: Unpack[SearchOptions],
) -> pd.DataFrame:
    """Find the latent dimensions that encode batch and can be removed: :func:`scbetavae.tl.find_batch_dimensions`.

    Parameters
    ----------
    batch_key
        Column of ``.obs`` with the batch of every cell; ``None`` for the one given to :meth:`setup_anndata`.
    conserve
        Conserved covariates, columns of ``.obs``. ``None`` takes the ``labels_key`` given to :meth:`setup_anndata`; without one,
        or for an empty list, clusters of the latent representation.
    categorical
        Conserved columns whose numbers are names of classes, in addition to those registered as labels, batch or categorical
        covariates.
    adata
        Cells to search; those of the model unless given.
    obsm_key
        Entry of ``.obsm`` that receives the posterior means.
    method, key_added
        As in :func:`scbetavae.tl.find_batch_dimensions`, which also says what is written to ``.uns["betavae"]``.
    **options
        ``n_permutations`` (100 by default), ``fdr`` (0.05) and ``seed`` (0), as there.

    Returns
    -------
    DataFrame with one row per dimension, see :func:`scbetavae.tl.find_batch_dimensions`. It may say that none can be removed.

    Raises
    ------
    KeyError, ValueError, TypeError
        As :func:`scbetavae.tl.find_batch_dimensions`; nothing is written then. A ValueError also if no batch is known, the
        decoder is conditioned on this batch, or the model has collapsed.

    See Also
    --------
    zero_batch_dimensions : remove them, with a report.
    scbetavae.pl.batch_dimensions : plot of the result.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=2, enable_progress_bar=False)
    >>> frame = model.find_batch_dimensions()
    >>> len(frame), adata.uns["betavae"]["batch_dimensions_params"]["conserve"]
    (4, 'bulk_labels')
    """
    settings = read_options(find_batch_dimensions, options, SEARCH)
    adata = cells_of(self, adata, "find_batch_dimensions(batch_key, adata=...)")
    check_adata(adata, key_added=key_added)
    tl.check_search(method, settings)
    batch_key, conserve = batch_columns(self, batch_key, conserve)
    registered = class_columns(self.registry_["setup_args"])
    cells = tl.read_cells(adata, batch_key, conserve=conserve, categorical=categorical, registered=registered)
    with staged(adata) as copy:
        write_latent(self, adata, copy, obsm_key)
        return tl.run_search(copy, cells, obsm_key, key_added, method, settings)
