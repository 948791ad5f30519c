"""Whether the data of a model have changed since they were set up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scvi.data._utils import _get_adata_minify_type

from scbetavae._core.checks import check_keys

from ._checks import counts_of

if TYPE_CHECKING:
    from anndata import AnnData

_CELLS = 192  # of each, an entry that is not zero and any other
_CELLS_ON_DISK = 24  # reading a cell of a file takes far longer than comparing it
_ATTRIBUTE = "_betavae_fingerprint"


class _Sample:
    """Some entries of a matrix, and its sum where the matrix is in memory."""

    def __init__(self, matrix: Any) -> None:
        """Entries at positions that are the same for every matrix of this shape and pattern of zeros."""
        rng = np.random.default_rng(0)
        n_cells = min(matrix.shape[0], _CELLS if _in_memory(matrix) else _CELLS_ON_DISK)
        cells = np.sort(rng.choice(matrix.shape[0], n_cells, replace=False))
        block = _plain(matrix[cells])
        present = []
        for i in range(n_cells):
            places = block[[i]].nonzero()[1]
            present.append(rng.choice(places) if len(places) else 0)
        self.columns = np.concatenate([present, rng.integers(matrix.shape[1], size=n_cells)]).astype(np.int64)
        self.rows = np.concatenate([cells, cells])
        self.values, self.total = self.read(matrix), _total(matrix)

    def read(self, matrix: Any) -> np.ndarray:
        """These entries of a matrix in memory or on disk, of which whole cells are read, each once and in increasing order."""
        rows, columns = self.rows, self.columns
        if not _in_memory(matrix):
            by_column = getattr(matrix, "format", None) == "csc"
            needed, place = np.unique(columns if by_column else rows, return_inverse=True)
            matrix = _plain(matrix[:, needed] if by_column else matrix[needed])
            rows, columns = (rows, place) if by_column else (place, columns)
        elif sparse.issparse(matrix) and matrix.format not in ("csr", "csc"):
            matrix = matrix.tocsr()
        found = matrix[rows, columns]
        return np.asarray(found.toarray() if sparse.issparse(found) else found, dtype=np.float64).ravel()

    def difference(self, matrix: Any) -> str:
        """How many entries have changed; empty if none has."""
        changed = ~np.isclose(self.read(matrix), self.values, rtol=1e-5, atol=1e-8)
        return f"{int(changed.sum())} of {len(changed)} sampled entries" if changed.any() else ""


@dataclass(frozen=True)
class Fingerprint:
    """What is cheap to compare of the data of a model: shape, genes, and some entries of the matrices with their sums.

    Independent of storage: a matrix that becomes sparse, dense or of another dtype keeps it. ``layer`` and ``obsm_key`` say where
    the counts and the encoder's own input are, ``None`` for ``.X`` and for no such input.
    """

    shape: tuple[int, int]
    genes: pd.Index
    layer: str | None
    obsm_key: str | None
    counts: _Sample
    encoder_input: _Sample | None

    @classmethod
    def of(cls, adata: AnnData, layer: str | None, obsm_key: str | None) -> Fingerprint:
        """The fingerprint of the current data."""
        encoder_input = None if obsm_key is None else _Sample(np.asarray(adata.obsm[obsm_key]))
        return cls(adata.shape, adata.var_names, layer, obsm_key, _Sample(counts_of(adata, layer)[0]), encoder_input)

    def change(self, adata: AnnData, *, whole: bool) -> tuple[str, str] | None:
        """What has changed, and what to do; ``whole`` compares the sum of all counts, too."""
        if adata.shape != self.shape:
            before, now = (f"{n_cells} cells x {n_genes} genes" for n_cells, n_genes in (self.shape, adata.shape))
            return f"it had {before} and has {now}", "Work on a copy, adata[:, genes].copy()"
        if not adata.var_names.equals(self.genes):
            first = int(np.flatnonzero(np.asarray(adata.var_names != self.genes))[0])
            found = f"gene {first} was {self.genes[first]!r} and is {adata.var_names[first]!r}"
            return found, "Give it the names and the order that it had"
        check_keys({"layer": self.layer}, adata.layers.keys(), "adata.layers")
        matrix, name = counts_of(adata, self.layer)
        if found := self.counts.difference(matrix):
            return f"{found} of {name} differ{self._how(matrix)}", self._remedy(adata, name)
        before, now = self.counts.total, _total(matrix) if whole else None
        if before is not None and now is not None and not np.isclose(now, before, rtol=1e-9, atol=0.0):
            return f"{name} summed to {before:.12g} and sums to {now:.12g}", self._remedy(adata, name)
        return self._change_of_encoder_input(adata)

    def _change_of_encoder_input(self, adata: AnnData) -> tuple[str, str] | None:
        """As `change`, of the encoder's own input."""
        if self.encoder_input is None or self.obsm_key is None:
            return None
        check_keys({"encoder_obsm_key": self.obsm_key}, adata.obsm.keys(), "adata.obsm")
        values, name = np.asarray(adata.obsm[self.obsm_key]), f"adata.obsm[{self.obsm_key!r}]"
        if len(values) and values.shape[1] <= self.encoder_input.columns.max():
            return f"{name} has fewer columns", "Put the old one back"
        found = self.encoder_input.difference(values)
        return (f"{found} of {name} differ", "Put the old ones back") if found else None

    def _how(self, matrix: Any) -> str:
        """How the counts probably changed."""
        before, now = self.counts.values, self.counts.read(matrix)
        if np.allclose(now, np.log1p(before), rtol=1e-4):
            return ": they were log-transformed"
        was_whole, is_whole = (np.array_equal(values, np.rint(values)) for values in (before, now))
        return ": they were normalized or log-transformed" if was_whole and not is_whole else ""

    def _remedy(self, adata: AnnData, name: str) -> str:
        """Where the old values still are, or how to keep them next time."""
        others = {f"adata.layers[{k!r}]": m for k, m in adata.layers.items() if k not in (None, self.layer)}  # None: .X
        if self.layer is not None and adata.X is not None:
            others["adata.X"] = adata.X
        for other, matrix in others.items():
            if not self.counts.difference(matrix):
                return f"{other} still holds the old values: {name} = {other}.copy()"
        keep = (
            '. Next time keep them, adata.layers["counts"] = adata.X.copy(), and set up with '
            'BetaVAE.setup_anndata(adata, layer="counts")'
        )
        return f"Put the old values back{keep if self.layer is None else ''}"


def remember_data(manager: Any) -> None:
    """Keep the fingerprint of registered data with their registry; minified data have no counts."""
    if _get_adata_minify_type(manager.adata) is None:
        arguments = manager.registry["setup_args"]
        fingerprint = Fingerprint.of(manager.adata, arguments.get("layer"), arguments.get("encoder_obsm_key"))
        setattr(manager, _ATTRIBUTE, fingerprint)


def check_unchanged(manager: Any, *, whole: bool = False) -> None:
    """Refuse data that changed since they were set up; ``whole`` compares the sum of all counts, too, which reads all of them.

    Data without a fingerprint, as after an assignment to ``model.adata``, get one.
    """
    if _get_adata_minify_type(manager.adata) is not None:
        return
    if not hasattr(manager, _ATTRIBUTE):
        remember_data(manager)
        return
    change = getattr(manager, _ATTRIBUTE).change(manager.adata, whole=whole)
    if change is not None:
        msg = (
            f"The data of this model have changed since they were set up: {change[0]}. Results would mix old and new data. "
            f"{change[1]}; or set up the new data and build the model anew: BetaVAE.setup_anndata(adata), BetaVAE(adata)."
        )
        raise ValueError(msg)


def _in_memory(matrix: Any) -> bool:
    return sparse.issparse(matrix) or isinstance(matrix, np.ndarray)


def _plain(block: Any) -> Any:
    """Part of a matrix as a compressed sparse matrix or an array."""
    block = block.compute() if hasattr(block, "compute") else block
    return block.tocsr() if sparse.issparse(block) else np.asarray(block)


def _total(matrix: Any) -> float | None:
    """Sum of a matrix in memory."""
    values = matrix.data if sparse.issparse(matrix) else matrix
    return float(values.sum(dtype=np.float64)) if _in_memory(matrix) else None
