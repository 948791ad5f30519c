"""How the dimensions of one embedding line up with recorded covariates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from scbetavae._core import keys, results
from scbetavae._core.checks import as_list, check_adata, read_options
from scbetavae._core.columns import scored_columns
from scbetavae._core.options import SCORING, Resampling
from scbetavae.tl._embedding import read
from scbetavae.tl._scoring import score_embeddings

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData


def score_disentanglement(
    adata: AnnData,
    covariates: str | Iterable[str],
    *,
    obsm_key: str = keys.LATENT,
    donor_key: str | None = None,
    confounder: str | None = None,
    categorical: str | Iterable[str] | None = None,
    metrics: str | Iterable[str] | None = None,
    key_added: str = keys.DISENTANGLEMENT,
    **options: Unpack[Resampling],
) -> pd.DataFrame:
    """Score how the dimensions of an embedding line up with covariates.

    These are proxy alignment scores: they say which recorded covariates the dimensions follow, not that a dimension is a
    cause, or that one without a partner is noise. Each comes with a null, a ceiling and a confidence interval.

    Inactive dimensions do not take part: those with less than 0.01 nats of KL divergence where a model wrote it to
    ``.uns["betavae"]["latent"]``, otherwise those of :func:`scbetavae.metrics.active_dimensions`.

    Parameters
    ----------
    adata
        Annotated data with the embedding; not a view.
    covariates
        Columns of ``.obs``, one or several: categorical, boolean, string or numeric. A cell without a label is left out
        for that covariate alone.
    obsm_key
        Entry of ``.obsm`` to score, of shape (n_cells, n_dims).
    donor_key
        Column of ``.obs`` with the donor (or other independent unit) of every cell. The interval then comes from a bootstrap
        over donors, classifiers are tested on held-out donors, and what is constant within donors is permuted by donor.
    confounder
        Column of ``.obs`` with a confounder, for example the batch. The information scores weight the cells so that the
        covariate is independent of it; the others say in ``flag`` that they do not.
    categorical
        Columns among these whose numbers are names of classes, one or several. Other numbers are numbers, with a warning where
        they are whole and take at most 20 values; ``[]`` says that none are classes.
    metrics
        Names of scores, by default those of :func:`scbetavae.metrics.score_frame` and, where a model wrote posterior variances,
        ``"gaussian_total_correlation"``.
    key_added
        Name in ``.uns["betavae"]`` of the result, and beginning of the names of what belongs to it.
    **options
        ``n_permutations`` (100 by default) behind null and p-value and ``n_bootstrap`` (100) replicates behind the interval, at
        least 0; ``seed`` (0) of all resampling.

    Returns
    -------
    Tidy DataFrame, one row per (metric, covariate or ``"all"``, level), with the columns of
    :func:`scbetavae.metrics.score_frame`. Covariates that are aliases of each other are named in ``flag``. Total correlation
    has the levels ``"means"`` and ``"samples"`` and is in nats.

    Written to ``adata.uns["betavae"]``, all at once and only on success:

    ``key_added``
        What is returned.
    ``f"{key_added}_dimensions"``
        What each dimension encodes: :func:`scbetavae.metrics.dimension_covariate_table`.
    ``f"{key_added}_covariates"``
        How the covariates relate to each other: :func:`scbetavae.metrics.covariate_association`.
    ``f"{key_added}_params"``
        What was scored and how, a flat dict.

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` or a column of ``.obs`` is not there, with the nearest that is.
    ValueError
        For a view, no covariate, an embedding with values that are not finite, a cell without donor, or an unknown metric.
    TypeError
        If ``adata`` is no AnnData, or the embedding holds no numbers.

    See Also
    --------
    compare_embeddings : the same for several embeddings.
    scbetavae.pl.disentanglement, scbetavae.pl.dimension_covariate : plots of the results.

    References
    ----------
    :cite:p:`Chen2018,Kumar2018,EastwoodWilliams2018,RidgewayMozer2018,Moinfar2024`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> z = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    >>> z[:, 0] += 4.0 * (adata.obs["batch"] == "batch_1")
    >>> adata.obsm["X_example"] = z
    >>> frame = scbetavae.tl.score_disentanglement(adata, ["batch", "phase"], obsm_key="X_example", metrics="mig")
    >>> frame.set_index("covariate")["normalized"].round(1).to_dict()
    {'batch': 1.0, 'phase': 0.0, 'all': 0.5}
    """
    settings = read_options(score_disentanglement, options, SCORING)
    check_adata(adata, key_added=key_added, instead="For arrays use scbetavae.metrics.score_frame.")
    names = as_list(covariates)
    columns = scored_columns(adata, names, donor_key, confounder, categorical=categorical)
    embedding = read(adata, obsm_key)
    groups = None if donor_key is None else adata.obs[donor_key]
    adjusted = None if confounder is None else columns[confounder]
    scores, dimensions, association = score_embeddings(
        {obsm_key: embedding}, columns[names], metrics, adjusted, {"groups": groups, **settings}
    )
    scores, dimensions = (table.drop(columns="embedding") for table in (scores, dimensions))
    tables = {"": scores, keys.DIMENSIONS_SUFFIX: dimensions, keys.ASSOCIATION_SUFFIX: association}
    how = {"obsm_key": obsm_key, "donor_key": donor_key, "confounder": confounder, **settings}
    results.store(adata, key_added, tables, how, {obsm_key: embedding.values})
    return scores.copy()
