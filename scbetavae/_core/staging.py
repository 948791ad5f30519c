"""Compute on a staged copy of an AnnData, and commit only on success."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pandas as pd
from anndata import AnnData

from scbetavae._core import keys


@contextmanager
def staged(
    adata: AnnData, *, obs: Mapping[str, Any] | None = None, obsm: Mapping[str, Any] | None = None
) -> Iterator[AnnData]:
    """A staged copy with the cells of ``adata``, without its counts: ``.obs``, ``.obsm`` and ``.uns["betavae"]``.

    What the block adds or replaces in ``.obs``, ``.obsm``, ``.layers`` and ``.uns["betavae"]`` is written to ``adata`` when the
    block ends, and nothing if it raises. ``obs`` are columns that the block reads in place of those of ``adata`` and that are
    not written back; ``obsm`` are entries that are written back. Nested blocks commit to the copy of the outer block.
    """
    cells = cast("pd.DataFrame", adata.obs)
    before = cells.assign(**(obs or {}))
    matrices: dict[str, Any] = {**adata.obsm, **(obsm or {})}
    copy: Any = AnnData(obs=before.copy(), obsm=matrices)
    if keys.UNS in adata.uns:
        copy.uns[keys.UNS] = dict(adata.uns[keys.UNS])
    yield copy
    for name, column in copy.obs.items():
        if name not in before or (name not in (obs or {}) and not column.equals(before[name])):
            cells[name] = column
    for name, matrix in copy.obsm.items():
        if name not in adata.obsm or adata.obsm[name] is not matrix:
            adata.obsm[name] = matrix
    for name, matrix in copy.layers.items():
        if name is not None:
            adata.layers[name] = matrix
    if keys.UNS in copy.uns:
        adata.uns[keys.UNS] = copy.uns[keys.UNS]


@contextmanager
def results_kept(adata: AnnData) -> Iterator[None]:
    """Put back ``.uns["betavae"]`` if the block fails: results are replaced there, never changed in place."""
    before = adata.uns.get(keys.UNS)
    try:
        yield
    except BaseException:
        if before is None:
            adata.uns.pop(keys.UNS, None)
        else:
            adata.uns[keys.UNS] = before
        raise
