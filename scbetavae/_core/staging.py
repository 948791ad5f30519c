"""Compute on a staged copy of an AnnData, and commit only on success."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from anndata import AnnData

from scbetavae._core import keys


@contextmanager
def staged(
    adata: AnnData, *, obs: Mapping[str, Any] | None = None, obsm: Mapping[str, Any] | None = None
) -> Iterator[AnnData]:
    """A staged copy with the cells of ``adata``, without its counts: ``.obs``, ``.obsm`` and ``.uns["betavae"]``.

    What the block adds or replaces in ``.obs``, ``.obsm``, ``.layers`` and ``.uns["betavae"]`` is written to ``adata`` when the
    block ends, and nothing if it raises. ``obs`` are columns that the block reads in place of those of ``adata`` and that are
    not written back; ``obsm`` are entries that are written back.

    Nested blocks on one staged copy commit to it, so that the outermost commits all of it or nothing.
    """
    copy = AnnData(obs=adata.obs.assign(**(obs or {})), obsm={**adata.obsm, **(obsm or {})})
    if keys.UNS in adata.uns:
        copy.uns[keys.UNS] = dict(adata.uns[keys.UNS])
    before = {name: copy.obs[name] for name in copy.obs}
    matrices = {name: adata.obsm.get(name) for name in adata.obsm}
    yield copy
    columns = {
        n: copy.obs[n]
        for n in copy.obs
        if n not in before or (n not in (obs or {}) and not copy.obs[n].equals(before[n]))
    }
    for name, column in columns.items():
        adata.obs[name] = column
    for name, matrix in copy.obsm.items():
        if matrices.get(name) is not matrix:
            adata.obsm[name] = matrix
    for name, matrix in copy.layers.items():
        if name is not None:
            adata.layers[name] = matrix
    if keys.UNS in copy.uns:
        adata.uns[keys.UNS] = copy.uns[keys.UNS]
