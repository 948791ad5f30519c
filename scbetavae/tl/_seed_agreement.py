"""Whether models that differ only in their seed find the same dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae import _keys, _stored, metrics
from scbetavae.tl import _inputs, _scoring

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData
    from numpy.typing import ArrayLike

_ENOUGH = 5


def seed_agreement(
    adata: AnnData,
    obsm_keys: Iterable[str],
    *,
    active: Mapping[str, ArrayLike] | None = None,
    key_added: str = _keys.SEED_AGREEMENT,
) -> pd.DataFrame:
    """Unsupervised disentanglement ranking of embeddings that differ only in the seed of their model.

    Models trained alike but for the seed should find the same dimensions, up to order and sign; those that do tend to be the
    disentangled ones. No label is needed.

    Parameters
    ----------
    adata
        Annotated data with the embeddings; not a view.
    obsm_keys
        Entries of ``.obsm``, at least two, one of every seed.
    active
        For some or all of them a boolean mask of the dimensions that take part, of shape (n_dims,). The others take those
        that :func:`scbetavae.metrics.active_dimensions` finds.
    key_added
        Name in ``.uns["betavae"]`` of the result.

    Returns
    -------
    DataFrame, a row an embedding: ``embedding``, ``metric`` (``"udr"``), ``value`` in [0, 1], the median over the other
    seeds, ``n_seeds``, and ``flag``, which says that the median is over few seeds (fewer than five in all), or why there is no
    value. It is written to ``adata.uns["betavae"][key_added]``.

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` is not there, with the nearest that is.
    ValueError
        For a view, fewer than two embeddings, or one that is named twice or not finite.
    TypeError
        If ``adata`` is no AnnData, or an embedding holds no numbers.

    See Also
    --------
    scbetavae.metrics.udr

    References
    ----------
    :cite:p:`Duan2020`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> codes = np.random.default_rng(0).normal(size=(adata.n_obs, 3))
    >>> adata.obsm["seed 0"], adata.obsm["seed 1"] = codes, -codes[:, ::-1]
    >>> frame = scbetavae.tl.seed_agreement(adata, ["seed 0", "seed 1"])
    >>> frame["value"].round(1).tolist()
    [1.0, 1.0]
    """
    _inputs.check_writable(adata, key_added)
    keys = [obsm_keys] if isinstance(obsm_keys, str) else list(obsm_keys)
    if len(set(keys)) < max(len(keys), 2):
        msg = f"obsm_keys={keys!r}: name at least two embeddings, one of every seed, and none of them twice."
        raise ValueError(msg)
    codes = [_inputs.read_embedding(adata, key, "obsm_keys") for key in keys]
    given = {} if active is None else active
    masks = [_scoring.resolve_mask(array, given.get(key), None) for key, array in zip(keys, codes, strict=True)]
    values = metrics.udr(codes, active=masks, minimum_seeds=2).to_numpy()
    few = f"median over only {len(keys) - 1} other seeds" if len(keys) < _ENOUGH else ""
    frame = pd.DataFrame({"embedding": keys, "metric": "udr", "value": values, "n_seeds": len(keys)})
    frame["flag"] = [few if np.isfinite(value) else "no active dimension" for value in values]
    _stored.store(adata, key_added, {"": frame}, {"n_seeds": len(keys)}, dict(zip(keys, codes, strict=True)))
    return frame.copy()
