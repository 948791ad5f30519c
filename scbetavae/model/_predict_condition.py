"""Predict a covariate from latent dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from scbetavae import tl
from scbetavae._core import keys
from scbetavae._core.checks import as_list, check_adata, read_options
from scbetavae._core.columns import class_columns, scored_columns
from scbetavae._core.options import PREDICTION, Resampling
from scbetavae._core.staging import staged

from ._latent import cells_of, class_overrides, write_latent
from ._registered_cells import COUNT_LIKELIHOODS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData

    from ._betavae import BetaVAE


def predict_condition(
    self: BetaVAE,
    covariate: str,
    *,
    adata: AnnData | None = None,
    obsm_key: str = keys.LATENT,
    donor_key: str | None = None,
    categorical: str | Iterable[str] | None = None,
    technical_covariates: str | Iterable[str] | None = None,
    key_added: str = keys.CONDITION_PREDICTION,
    **options: Unpack[Resampling],
) -> pd.DataFrame:
    """Predict a covariate from single latent dimensions, and from all: :func:`scbetavae.tl.predict_condition`.

    The posterior means predict. Inactive dimensions, with a mean KL divergence below 0.01 nats, take no part. Library sizes are
    those of the counts that the model reads.

    Parameters
    ----------
    covariate
        Column of ``.obs``: categorical, boolean, string or numeric.
    adata, obsm_key
        As in :meth:`find_batch_dimensions`.
    categorical
        The covariate again, if its numbers are names of classes. Those registered as labels, batch or categorical covariates
        always are.
    donor_key, technical_covariates, key_added
        As in :func:`scbetavae.tl.predict_condition`, which also says what is written to ``.uns["betavae"]``.
    **options
        ``n_permutations`` (200 by default), ``n_bootstrap`` (100) and ``seed`` (0), as there.

    Returns
    -------
    DataFrame with one row per dimension, one for all dimensions and one for the technical covariates, see
    :func:`scbetavae.tl.predict_condition`.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`scbetavae.tl.predict_condition`, before anything is computed or written.

    See Also
    --------
    score_disentanglement : whether one dimension encodes a covariate and nothing else.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata)
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=2, enable_progress_bar=False)
    >>> frame = model.predict_condition("bulk_labels")
    >>> frame["predictor"].tolist()
    ['dimension', 'dimension', 'dimension', 'dimension', 'all', 'technical']
    """
    settings = read_options(predict_condition, options, PREDICTION)
    adata = cells_of(self, adata, "predict_condition(covariate, adata=...)")
    check_adata(adata, key_added=key_added)
    if isinstance(covariate, str):  # anything else is refused below, before anything is written
        registered = class_columns(self.registry_.get("setup_args", {}))
        scored_columns(adata, [covariate], donor_key, categorical=categorical, registered=registered)
    layer = self.registry_.get("setup_args", {}).get("layer")
    reads_layer = layer in adata.layers and self.module.gene_likelihood in COUNT_LIKELIHOODS
    technical = tl.read_technical(adata, technical_covariates, layer if reads_layer else None)
    overrides = class_overrides(self, adata, as_list(covariate))
    with staged(adata, obs={**technical, **overrides}) as copy:
        write_latent(self, adata, copy, obsm_key)
        return tl.predict_condition(
            copy,
            covariate,
            obsm_key=obsm_key,
            donor_key=donor_key,
            categorical=as_list(categorical),
            technical_covariates=list(map(str, technical)),
            key_added=key_added,
            **settings,
        )
