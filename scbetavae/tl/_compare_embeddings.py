"""How the dimensions of several embeddings of the same cells line up with recorded covariates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from scbetavae._core import keys, results
from scbetavae._core.checks import as_list, check_adata, read_options
from scbetavae._core.columns import scored_columns
from scbetavae._core.options import SCORING, Resampling
from scbetavae._core.text import listed
from scbetavae.metrics import score_names
from scbetavae.tl._embedding import read
from scbetavae.tl._scoring import score_embeddings

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData


def compare_embeddings(
    adata: AnnData,
    covariates: str | Iterable[str],
    obsm_keys: str | Iterable[str],
    *,
    donor_key: str | None = None,
    confounder: str | None = None,
    categorical: str | Iterable[str] | None = None,
    metrics: str | Iterable[str] | None = None,
    key_added: str = keys.EMBEDDING_COMPARISON,
    **options: Unpack[Resampling],
) -> pd.DataFrame:
    """Score several embeddings of the same cells alike, with the same resampled cells.

    Embeddings with unlike numbers of dimensions can be compared, but not on every score: the more dimensions, the harder it is
    to leave all but one empty, so that gaps and completeness tend to fall.

    Parameters
    ----------
    adata
        Annotated data with the embeddings; not a view.
    covariates
        Columns of ``.obs``, one or several: categorical, boolean, string or numeric.
    obsm_keys
        Entries of ``.obsm`` to score, each of shape (n_cells, n_dims).
    donor_key, confounder, categorical, metrics
        As in :func:`score_disentanglement`.
    key_added
        Name in ``.uns["betavae"]`` of the result, and beginning of the names of what belongs to it.
    **options
        ``n_permutations`` (100 by default), ``n_bootstrap`` (100) and ``seed`` (0), the same for every embedding, as in
        :func:`score_disentanglement`.

    Returns
    -------
    Tidy DataFrame: that of :func:`score_disentanglement` for every embedding in turn, with a column ``embedding`` in front.

    Written to ``adata.uns["betavae"]``, all at once and only on success: what is returned, and under the same
    suffixes as in :func:`score_disentanglement` the dimension x covariate table (with the column ``embedding``), the
    association of the covariates, and the parameters.

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` or a column of ``.obs`` is not there, with the nearest that is.
    ValueError
        As :func:`score_disentanglement`, and if no embedding is named, or one twice.
    TypeError
        If ``adata`` is no AnnData, or an embedding holds no numbers.

    See Also
    --------
    score_disentanglement : for one embedding; with the posterior variances of a model, if there is one.
    scbetavae.pl.embedding_comparison : plot of the result.

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> rng = np.random.default_rng(0)
    >>> adata.obsm["X_noise"] = rng.normal(size=(adata.n_obs, 4))
    >>> adata.obsm["X_aligned"] = adata.obsm["X_noise"] + adata.obs[["n_counts"]].to_numpy() * [1, 0, 0, 0]
    >>> frame = scbetavae.tl.compare_embeddings(adata, "n_counts", ["X_noise", "X_aligned"], metrics="sap")
    >>> frame[frame["covariate"] == "n_counts"].set_index("embedding")["value"].round(1).to_dict()
    {'X_noise': 0.0, 'X_aligned': 1.0}
    """
    settings = read_options(compare_embeddings, options, SCORING)
    check_adata(adata, key_added=key_added, instead="For arrays use scbetavae.metrics.score_frame.")
    names, wanted = as_list(covariates), as_list(obsm_keys)
    columns = scored_columns(adata, names, donor_key, confounder, categorical=categorical)
    if not wanted or len(set(wanted)) < len(wanted):
        msg = f"obsm_keys={wanted!r}: name at least one entry of adata.obsm, each once. It has {listed(adata.obsm)}."
        raise ValueError(msg)
    embeddings = {key: read(adata, key, "obsm_keys") for key in wanted}
    groups = None if donor_key is None else adata.obs[donor_key]
    adjusted = None if confounder is None else columns[confounder]
    if metrics is None:  # the same scores for all, although posterior variances may be known for one of them
        metrics = score_names()
    scores, dimensions, association = score_embeddings(
        embeddings, columns[names], metrics, adjusted, {"groups": groups, **settings}
    )
    tables = {"": scores, keys.DIMENSIONS_SUFFIX: dimensions, keys.ASSOCIATION_SUFFIX: association}
    how = {"donor_key": donor_key, "confounder": confounder, **settings}
    results.store(adata, key_added, tables, how, {key: found.values for key, found in embeddings.items()})
    return scores.copy()
