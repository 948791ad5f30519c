"""Score how the latent dimensions of a model line up with recorded covariates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from scbetavae import tl
from scbetavae._core import keys
from scbetavae._core.checks import as_list, check_adata, read_options
from scbetavae._core.columns import class_columns, scored_columns
from scbetavae._core.options import SCORING, Resampling
from scbetavae._core.staging import staged

from ._latent import cells_of, class_overrides, write_latent

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData

    from ._betavae import BetaVAE


def score_disentanglement(  # noqa: PLR0913 - self and eight arguments
    self: BetaVAE,
    covariates: str | Iterable[str],
    *,
    adata: AnnData | None = None,
    obsm_key: str = keys.LATENT,
    donor_key: str | None = None,
    confounder: str | None = None,
    categorical: str | Iterable[str] | None = None,
    metrics: str | Iterable[str] | None = None,
    key_added: str = keys.DISENTANGLEMENT,
    **options: Unpack[Resampling],
) -> pd.DataFrame:
    """Score how the latent dimensions line up with covariates: :func:`scbetavae.tl.score_disentanglement`.

    The posterior means are scored. Inactive dimensions, with a mean KL divergence below 0.01 nats, take no part, and the
    posterior variances give the total correlation of samples in addition to that of means.

    Parameters
    ----------
    covariates
        Columns of ``.obs``, one or several.
    adata, obsm_key, categorical
        As in :meth:`find_batch_dimensions`.
    donor_key, confounder, metrics, key_added
        As in :func:`scbetavae.tl.score_disentanglement`, which also says what is written to ``.uns["betavae"]``.
    **options
        ``n_permutations`` (100 by default), ``n_bootstrap`` (100) and ``seed`` (0), as there.

    Returns
    -------
    Tidy DataFrame, see :func:`scbetavae.tl.score_disentanglement`. With the default ``metrics`` the last two rows are the total
    correlation of posterior means and of samples, in nats. A model with ``latent_distribution="ln"`` is scored by the means of
    its simplex alone: dimensions take part by their spread, and total correlation has no row.

    Raises
    ------
    KeyError, ValueError
        As :func:`scbetavae.tl.score_disentanglement`, before anything is computed or written.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=2, enable_progress_bar=False)
    >>> frame = model.score_disentanglement(["batch", "bulk_labels", "phase"], metrics=["mig", "sap"])
    >>> frame["covariate"].unique().tolist()
    ['batch', 'bulk_labels', 'phase', 'all']
    """
    settings = read_options(score_disentanglement, options, SCORING)
    adata = cells_of(self, adata, "score_disentanglement(covariates, adata=...)")
    check_adata(adata, key_added=key_added)
    names, registered = as_list(covariates), class_columns(self.registry_.get("setup_args", {}))
    # Refuses columns that do not fit before the cells are encoded.
    scored_columns(adata, names, donor_key, confounder, categorical=categorical, registered=registered)
    with staged(adata, obs=class_overrides(self, adata, [*names, *as_list(confounder)])) as copy:
        write_latent(self, adata, copy, obsm_key)
        return tl.score_disentanglement(
            copy,
            covariates,
            obsm_key=obsm_key,
            donor_key=donor_key,
            confounder=confounder,
            categorical=as_list(categorical),
            metrics=metrics,
            key_added=key_added,
            **settings,
        )
