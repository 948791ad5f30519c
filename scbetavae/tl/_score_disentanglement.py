"""How the dimensions of one embedding line up with recorded covariates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.tl import _inputs, _scoring

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike


def score_disentanglement(  # noqa: PLR0913 - independent choices, each with a default
    adata: AnnData,
    covariates: str | Iterable[str],
    *,
    obsm_key: str = _keys.LATENT,
    donor_key: str | None = None,
    confounder: str | None = None,
    categorical: str | Iterable[str] | None = None,
    metrics: str | Iterable[str] | None = None,
    n_permutations: int = 100,
    n_bootstrap: int = 100,
    active: ArrayLike | None = None,
    kl: ArrayLike | None = None,
    variances: ArrayLike | None = None,
    seed: int = 0,
    key_added: str = _keys.DISENTANGLEMENT,
) -> pd.DataFrame:
    """Score how the dimensions of an embedding line up with covariates.

    These are proxy alignment scores: they say which recorded covariates the dimensions follow, not that a dimension is a
    cause, or that one without a partner is noise. Each comes with a null, a ceiling and a confidence interval.

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
        over donors, models are tested on held-out donors, and what is constant within donors is permuted by donor.
    confounder
        Column of ``.obs`` with a confounder, for example the batch. The information scores weight the cells so that the
        covariate is independent of it; the others say in ``flag`` that they do not.
    categorical
        Columns among these whose numbers are names of classes, one or several. Other numbers are numbers, with a warning where
        they are whole and take at most 20 values; ``[]`` says that none are classes.
    metrics
        Names of scores, by default those of :func:`scbetavae.metrics.score_frame` and, if ``variances`` are given,
        ``"gaussian_total_correlation"``.
    n_permutations
        Permutations behind null and p-value, at least 0.
    n_bootstrap
        Bootstrap replicates behind the interval, at least 0.
    active
        Boolean mask of the dimensions that take part, of shape (n_dims,); by default those that
        :func:`scbetavae.metrics.active_dimensions` finds.
    kl
        Mean divergence of the posterior from the prior per dimension, of shape (n_dims,), in nats: a dimension with less than
        0.01 nats does not take part. :meth:`scbetavae.model.BetaVAE.score_disentanglement` passes it.
    variances
        Posterior variances, of shape (n_cells, n_dims), for the total correlation of posterior samples.
    seed
        Seed of all resampling.
    key_added
        Name in ``.uns["betavae"]`` of the result, and beginning of the names of what belongs to it.

    Returns
    -------
    Tidy DataFrame, a row per (metric, covariate or ``"all"``, level), with the columns of
    :func:`scbetavae.metrics.score_frame`. Covariates that are aliases of each other are named in ``flag``. Total correlation
    has the levels ``"means"`` and ``"samples"`` and is in nats.

    Written to ``adata.uns["betavae"]``, all at once and only if everything went well:

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
        For a view, no covariate, an embedding with values that are not finite, a cell without group, an unknown metric, or
        both ``active`` and ``kl``.
    TypeError
        If ``adata`` is no AnnData, or the embedding holds no numbers.

    See Also
    --------
    compare_embeddings : the same for several embeddings.
    scbetavae.pl.disentanglement, scbetavae.pl.dimension_covariate : pictures of the results.

    References
    ----------
    :cite:p:`Chen2018,Kumar2018,EastwoodWilliams2018,RidgewayMozer2018,Moinfar2024`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> codes = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    >>> codes[:, 0] += 4.0 * (adata.obs["batch"] == "batch_1")
    >>> adata.obsm["X_example"] = codes
    >>> frame = scbetavae.tl.score_disentanglement(adata, ["batch", "phase"], obsm_key="X_example", metrics="mig")
    >>> frame.set_index("covariate")["normalized"].round(1).to_dict()
    {'batch': 1.0, 'phase': 0.0, 'all': 0.5}
    """
    _inputs.check_writable(adata, key_added)
    columns = _inputs.read_columns(adata, covariates, donor_key, confounder, categorical=categorical)
    codes = _inputs.read_embedding(adata, obsm_key)
    names = _scoring.resolve_names(metrics, with_variances=variances is not None)
    mask = _scoring.resolve_mask(codes, active, kl)
    settings = _scoring.Settings(n_permutations, n_bootstrap, seed)
    frame = _scoring.score_codes(codes, columns, names, settings, mask, variances)
    _scoring.report_relations(columns.association)
    frame = _scoring.flag_aliases(frame, columns.association)
    tables = {
        "": frame,
        _keys.DIMENSIONS_SUFFIX: _scoring.dimension_table(codes, columns, mask),
        _keys.ASSOCIATION_SUFFIX: columns.association,
    }
    what = {"obsm_key": obsm_key, "donor_key": donor_key, "confounder": confounder}
    _stored.store(adata, key_added, tables, what | settings._asdict(), {obsm_key: codes})
    return frame.copy()
