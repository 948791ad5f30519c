"""What models that differ in their seed have in common: matched dimensions, their agreement and their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import as_list, check_adata
from scbetavae.tl._embedding import read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData


def consensus_dimensions(
    adata: AnnData,
    obsm_keys: Iterable[str],
    *,
    key_added: str = keys.CONSENSUS,
) -> pd.DataFrame:
    r"""Match the latent dimensions of several models, and report how well they agree.

    Models that were trained alike but for the seed should find the same dimensions, up to order and sign. The embedding that the
    others resemble most is the reference. The active dimensions of every other embedding are assigned to those of the
    reference one to one, so that the sum of the absolute Spearman correlations is largest, and oriented as in the reference.

    The mean embedding is the mean of the oriented, standardized dimensions, times their mean standard deviation: each embedding
    counts the same, a weak dimension stays weak, and one that the embeddings disagree on becomes weaker.

    Parameters
    ----------
    adata
        Annotated data with the embeddings; not a view.
    obsm_keys
        Entries of ``.obsm``, at least two.
    key_added
        Name in ``.uns["betavae"]`` of the result, and ending of the entry of ``.obsm``.

    Returns
    -------
    DataFrame, one row per active dimension of the reference, in its order:

    ``dimension``
        Counted from 0; column of the mean embedding.
    ``agreement``
        Mean absolute Spearman correlation over all pairs of matched dimensions, in [0, 1]; NaN if no other embedding has a match.
    ``n_embeddings``
        Embeddings with a match, the reference included.

    Written to ``adata``:

    ``.uns["betavae"][key_added]``
        What is returned.
    ``.uns["betavae"][f"{key_added}_matches"]``
        One row per dimension and embedding that has a match: ``dimension``, ``embedding``, ``matched_dimension`` (column of that
        embedding), ``sign`` (1 or -1) and ``agreement``, the mean over pairs with this embedding.
    ``.uns["betavae"][f"{key_added}_params"]``
        A flat dict: ``reference``; and one value per embedding in ``embeddings``, ``active_dimensions``, ``agreement`` (mean
        over its active dimensions, 0 for one without a match) and ``udr``, its unsupervised disentanglement ranking
        (:func:`scbetavae.metrics.udr`), the median over the others, which says little with fewer than five embeddings.
        NaN for an embedding without active dimensions.
    ``.obsm[f"X_{key_added}"]``
        Mean embedding, of shape (n_cells, n_dimensions).

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` is not there, with the nearest that is.
    ValueError
        For a view, fewer than two embeddings, one that is named twice or not finite, or if none has an active dimension.
    TypeError
        If ``adata`` is no AnnData, or an embedding holds no numbers.

    See Also
    --------
    scbetavae.pl.consensus : plot of the result.
    scbetavae.metrics.match_dimensions : the matching, of arrays.

    References
    ----------
    :cite:p:`Duan2020`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> z = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
    >>> adata.obsm["seed 0"], adata.obsm["seed 1"] = z, -z[:, ::-1]
    >>> frame = scbetavae.tl.consensus_dimensions(adata, ["seed 0", "seed 1"])
    >>> frame["agreement"].round(2).tolist()
    [1.0, 1.0, 1.0]
    >>> adata.uns["betavae"]["consensus_matches"].query("embedding == 'seed 1'")["matched_dimension"].tolist()
    [2, 1, 0]
    """
    check_adata(adata, key_added=key_added)
    wanted = as_list(obsm_keys)
    if len(set(wanted)) < max(len(wanted), 2):
        msg = f"obsm_keys={wanted!r}: name at least two embeddings, one per seed, each once."
        raise ValueError(msg)
    mean_key = f"X_{key_added}"
    if mean_key in wanted:
        msg = f"The mean embedding would replace adata.obsm[{mean_key!r}], which is one of obsmkeys. Change key_added."
        raise ValueError(msg)
    embeddings = {key: read(adata, key, "obsm_keys") for key in wanted}
    values, masks = [e.values for e in embeddings.values()], [e.free for e in embeddings.values()]
    n_active = np.array([int(mask.sum()) for mask in masks])
    if not n_active.any():
        msg = f"None of obsm_keys={wanted!r} has an active dimension, so there is nothing to match. Train with a smaller beta."
        raise ValueError(msg)
    found = metrics.match_dimensions(values, active=masks)
    frame, matches = _tables(found, wanted)
    parameters = {
        "reference": wanted[found.reference],
        "embeddings": wanted,
        "active_dimensions": n_active,
        "agreement": np.nansum(found.agreement, axis=1) / np.where(n_active > 0, n_active, np.nan),
        "udr": metrics.udr(values, active=masks, minimum_seeds=2).to_numpy(),
    }
    adata.obsm[mean_key] = _mean_embedding(values, found)
    tables = {"": frame, keys.MATCHES_SUFFIX: matches}
    results.store(adata, key_added, tables, parameters, {key: e.values for key, e in embeddings.items()})
    return frame.copy()


def _tables(found: metrics.DimensionMatches, names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per dimension, and one row per dimension and embedding."""
    dimension, embedding = np.nonzero(found.dimensions.T >= 0)
    matches = pd.DataFrame(
        {
            "dimension": dimension,
            "embedding": np.array(names, dtype=object)[embedding],
            "matched_dimension": found.dimensions[embedding, dimension],
            "sign": found.signs[embedding, dimension],
            "agreement": found.agreement[embedding, dimension],
        }
    )
    # Every match takes part in as many pairs as the others of its dimension, so that the mean over matches is that over pairs.
    rows = matches.groupby("dimension")["agreement"]
    frame = pd.DataFrame({"agreement": rows.mean(), "n_embeddings": rows.size()}).reset_index()
    return frame, matches


def _mean_embedding(values: list[np.ndarray], found: metrics.DimensionMatches) -> np.ndarray:
    """Mean of the oriented, standardized matches times their mean standard deviation, (n_cells, n_dimensions)."""
    total = np.zeros((len(values[0]), found.dimensions.shape[1]))
    spread, count = np.zeros(total.shape[1]), (found.dimensions >= 0).sum(axis=0)
    for array, dimensions, signs in zip(values, found.dimensions, found.signs, strict=True):
        there = dimensions >= 0
        own = array[:, dimensions[there]]
        sd = own.std(axis=0)
        total[:, there] += signs[there] * (own - own.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
        spread[there] += sd
    return (total * (spread / count**2)).astype(np.float32)
