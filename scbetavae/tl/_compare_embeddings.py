"""How the dimensions of several embeddings of the same cells line up with recorded covariates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.tl import _inputs, _scoring

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike


def compare_embeddings(  # noqa: PLR0913 - independent choices, each with a default
    adata: AnnData,
    covariates: str | Iterable[str],
    obsm_keys: str | Iterable[str],
    *,
    donor_key: str | None = None,
    confounder: str | None = None,
    categorical: str | Iterable[str] | None = None,
    metrics: str | Iterable[str] | None = None,
    n_permutations: int = 100,
    n_bootstrap: int = 100,
    active: Mapping[str, ArrayLike] | None = None,
    seed: int = 0,
    key_added: str = _keys.EMBEDDING_COMPARISON,
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
    donor_key, confounder, categorical, metrics, n_permutations, n_bootstrap
        As in :func:`score_disentanglement`.
    active
        For some or all of ``obsm_keys`` a boolean mask of the dimensions that take part, of shape (n_dims,). The others take
        those that :func:`scbetavae.metrics.active_dimensions` finds.
    seed
        Seed of all resampling, the same for every embedding.
    key_added
        Name in ``.uns["betavae"]`` of the result, and beginning of the names of what belongs to it.

    Returns
    -------
    Tidy DataFrame: that of :func:`score_disentanglement` for every embedding in turn, with a column ``embedding`` in front.

    Written to ``adata.uns["betavae"]``, all at once and only if everything went well: what is returned, and under the same
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
    score_disentanglement : for one embedding; with the divergences of a model, if there is one.
    scbetavae.pl.embedding_comparison : the picture.

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
    _inputs.check_writable(adata, key_added)
    columns = _inputs.read_columns(adata, covariates, donor_key, confounder, categorical=categorical)
    codes = _read_embeddings(adata, obsm_keys)
    names = _scoring.resolve_names(metrics, with_variances=False)
    masks = _resolve_masks(codes, active)
    settings = _scoring.Settings(n_permutations, n_bootstrap, seed)
    frames, dimensions = {}, {}
    for key, array in codes.items():
        frames[key] = _scoring.score_codes(array, columns, names, settings, masks[key])
        dimensions[key] = _scoring.dimension_table(array, columns, masks[key])
    _scoring.report_relations(columns.association)
    frame = _scoring.flag_aliases(_stack(frames), columns.association)
    tables = {"": frame, _keys.DIMENSIONS_SUFFIX: _stack(dimensions), _keys.ASSOCIATION_SUFFIX: columns.association}
    how = {"donor_key": donor_key, "confounder": confounder} | settings._asdict()
    _stored.store(adata, key_added, tables, how, codes)
    return frame.copy()


def _read_embeddings(adata: AnnData, obsm_keys: str | Iterable[str]) -> dict:
    """Codes by name, in the order in which they were named."""
    keys = [obsm_keys] if isinstance(obsm_keys, str) else list(obsm_keys)
    if not keys:
        msg = f"obsm_keys is empty: name at least one entry of adata.obsm, which has {sorted(adata.obsm)}."
        raise ValueError(msg)
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        msg = f"obsm_keys names {twice} twice. Name every embedding once."
        raise ValueError(msg)
    return {key: _inputs.read_embedding(adata, key, "obsm_keys") for key in keys}


def _resolve_masks(codes: dict, active: Mapping[str, ArrayLike] | None) -> dict:
    if active is not None and not isinstance(active, Mapping):
        msg = f"active is a {type(active).__name__}; pass a mapping from names of embeddings to boolean masks."
        raise TypeError(msg)
    given = {} if active is None else active
    for key in given:
        _inputs.check_key(key, list(codes), "active", "obsm_keys")
    return {key: _scoring.resolve_mask(array, given.get(key), None) for key, array in codes.items()}


def _stack(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One frame after the other, with a first column that says which."""
    named = []
    for key, frame in frames.items():
        part = frame.copy()
        part.insert(0, "embedding", key)
        named.append(part)
    return pd.concat(named, ignore_index=True)
