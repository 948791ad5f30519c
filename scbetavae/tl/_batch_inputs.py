"""What the search for batch dimensions and their removal read from an AnnData, refused before any work where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from scbetavae._core import columns
from scbetavae._core.checks import as_list, check_adata, check_choice, check_key, check_number, check_whole_number
from scbetavae._core.columns import leave_out_small
from scbetavae._core.text import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

METHODS = ("stepwise", "dominant")
_NAMED = " To name dimensions yourself, pass zero_batch_dimensions(dimensions)."
TARGETS = ("prior", "reference", "mean")
_N_NEIGHBORS = 15


@dataclass(frozen=True)
class BatchCells:
    """Batch and conserved covariates of all cells."""

    batch: pd.Series
    """Names of batches, NaN where missing."""
    conserved: pd.DataFrame
    """No columns where none is named."""
    left_out: str = ""
    """Batches and classes that are too small, as a clause; empty if there are none."""
    is_possible: bool = True
    """Whether two batches, and two classes of each conserved covariate, have enough cells."""

    @property
    def present(self) -> np.ndarray:
        """Cells that have a batch and all conserved covariates."""
        return np.flatnonzero(self.batch.notna() & self.conserved.notna().all(axis=1))

    @property
    def digest(self) -> str:
        """Number that changes with any label."""
        frame = self.conserved.astype(str).assign(**{"": self.batch.astype(str)})
        return str(int(pd.util.hash_pandas_object(frame, index=True).to_numpy().sum(dtype=np.uint64)))

    def without_small(self) -> BatchCells:
        """The same without the cells of batches and conserved classes that are too small."""
        batch, notes = self.batch.copy(), [columns.Small(self.left_out, self.is_possible)] if self.left_out else []
        while True:
            worst = [note.text for note in notes if not note.is_possible]
            clause = worst[0] if worst else "; ".join(note.text for note in notes)
            cells = replace(self, batch=batch, left_out=clause, is_possible=not worst)
            here = cells.present
            named = [(batch, "batch", ""), *((self.conserved[n], "class", f" of {n!r}") for n in self.conserved)]
            checked = [leave_out_small(column.iloc[here], noun, of) for column, noun, of in named]
            found = [note for _, note in checked if note.text]
            if not found:
                return cells
            notes += found
            batch = batch.copy()
            batch.iloc[here[np.any([column.isna() for column, _ in checked], axis=0)]] = np.nan


def read_cells(
    adata: AnnData,
    batch_key: str,
    *,
    conserve: str | Iterable[str] | None,
    categorical: str | Iterable[str] | None = None,
    registered: Iterable[str] = (),
) -> BatchCells:
    """Batch and conserved covariates, checked; ``categorical`` and ``registered`` name classes, as in `read_factors`."""
    obs, names = cast("pd.DataFrame", adata.obs), as_list(conserve)
    present = obs.columns
    check_key(batch_key, present, "batch_key", "adata.obs")
    for name in names:
        check_key(name, present, "conserve", "adata.obs")
    if batch_key in names or len(set(names)) < len(names):
        what = (
            f"{batch_key!r}, the batch itself"
            if batch_key in names
            else f"{listed(n for n in names if names.count(n) > 1)} twice"
        )
        msg = f"conserve names {what}. Name each covariate that should stay once."
        raise ValueError(msg)
    batch = columns.class_texts(obs[batch_key], "batch_key")
    for name in names:
        # Each of batch and alias determines the other; whole numbers may name the same classes, a batch 0 and 1, say.
        pairs = (
            pd.DataFrame({"batch": batch, "other": obs[name].infer_objects()}).dropna().astype(str).drop_duplicates()
        )
        if len(pairs) > 1 and not pairs["batch"].duplicated().any() and not pairs["other"].duplicated().any():
            msg = (
                f"conserve names {name!r}, an alias of {batch.name!r}: each determines the other, so one cannot be removed and "
                "the other kept. Leave it out."
            )
            raise ValueError(msg)
    cells = BatchCells(batch, columns.read_factors(adata, names, "conserve", categorical, registered))
    _check_varied(cells)
    return cells


def check_search(method: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown method and numbers out of range; ``options`` are those of `SearchOptions`."""
    check_choice(method, METHODS, "method", hint=_NAMED)
    check_whole_number(options["n_permutations"], "n_permutations", 10)
    check_number(options["fdr"], "fdr", 0, 1, open_="both")


@dataclass(frozen=True)
class Removal:
    """Checked arguments of :func:`zero_batch_dimensions`."""

    cells: BatchCells
    donors: pd.Series | None
    to: str
    reference_batch: str | None
    key_added: str
    options: dict[str, Any]
    """Those of `RemovalOptions`."""


def check_removal(
    adata: AnnData,
    batch_key: str,
    conserve: str | Iterable[str] | None,
    *,
    to: str,
    reference_batch: str | None,
    key_added: str,
    options: dict[str, Any],
    registered: Iterable[str] = (),
) -> Removal:
    """Arguments of a removal, each checked once; ``registered`` are columns of classes, as in `read_factors`."""
    check_adata(adata, key_added=key_added)
    check_whole_number(options["n_bootstrap"], "n_bootstrap")
    check_choice(options["method"], METHODS, "method", hint=_NAMED)
    check_choice(to, TARGETS, "to")
    categorical, donor_key = options["categorical"], options["donor_key"]
    donors = None if donor_key is None else columns.read_donors(adata, donor_key)
    cells = read_cells(adata, batch_key, conserve=conserve, categorical=categorical, registered=registered)
    if to != "reference" and reference_batch is not None:
        msg = f'reference_batch={reference_batch!r} is only used with to="reference", but to={to!r}.'
        raise ValueError(msg)
    names, given = sorted(cells.batch.dropna().unique()), reference_batch
    reference_batch = None if given is None else columns.class_name(given)
    if to == "reference" and reference_batch not in names:
        what = "is missing" if given is None else f"is {given!r}, which is not a batch of {batch_key!r}"
        hint = did_you_mean(reference_batch, names)
        msg = f'reference_batch {what}.{hint} With to="reference", choose from {listed(names)}.'
        raise ValueError(msg)
    return Removal(cells, donors, to, reference_batch, key_added, options)


def check_left(active: np.ndarray, obsm_key: str, dimensions: Iterable[int] = ()) -> None:
    """Refuse an embedding without an active dimension, or with none left once these are removed."""
    if not active.any():
        msg = (
            f"None of the {len(active)} dimensions of {obsm_key!r} is active: the latent representation has collapsed. "
            "Train with a smaller beta or a longer warm-up."
        )
        raise ValueError(msg)
    if set(np.flatnonzero(active)) <= set(dimensions):
        msg = (
            f"dimensions={sorted(dimensions)} are all of the {int(active.sum())} active dimensions, so nothing would be left. "
            "Leave out at least one that encodes biology."
        )
        raise ValueError(msg)


def find_clusters(embedding: np.ndarray, batch: pd.Series, name: str, seed: int) -> pd.Series:
    """Leiden clusters of the embedding, to be conserved where no covariate is named; missing where batch is missing.

    Each batch is centered first, since clusters of the embedding as it is would be batches, and be conserved.
    """
    present = np.flatnonzero(batch.notna())
    part = embedding[present]
    centered = part - pd.DataFrame(part).groupby(batch.iloc[present].to_numpy()).transform("mean").to_numpy()
    clusters = np.full(len(batch), np.nan, dtype=object)
    clusters[present] = _leiden(centered, seed)
    return pd.Series(clusters, index=batch.index, name=name).astype("category")


def _leiden(embedding: np.ndarray, seed: int) -> np.ndarray:
    """Leiden clusters of the symmetric k-nearest-neighbor graph, as texts."""
    import scanpy as sc
    from sklearn.neighbors import kneighbors_graph

    graph: Any = kneighbors_graph(embedding, min(_N_NEIGHBORS, len(embedding) - 1))
    cells = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(embedding))]))
    settings = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": seed}
    sc.tl.leiden(cells, adjacency=graph.maximum(graph.T), **settings)
    return cells.obs["leiden"].astype(str).to_numpy()


def _check_varied(cells: BatchCells) -> None:
    """Refuse what cannot be compared, on the cells that have batch and conserved covariates."""
    batch, conserved = cells.batch.iloc[cells.present], cells.conserved.iloc[cells.present]
    if len(batch) == 0:
        also = f" and all of {list(conserved)}" if conserved.shape[1] else ""
        msg = f"No cell has {batch.name!r}{also}. Name columns that are known for the same cells."
        raise ValueError(msg)
    among = f"among the {len(batch)} cells that have {'it' if conserved.empty else 'it and all conserved covariates'}"
    if batch.nunique() < 2:
        msg = (
            f"batch_key={batch.name!r} has one category, {batch.iloc[0]!r}, {among}, so there is no batch effect to find. "
            "To remove batch from query cells of one batch, pass them together with the reference cells in one AnnData."
        )
        raise ValueError(msg)
    for name, column in conserved.items():
        if column.nunique() < 2:
            msg = f"conserve names {name!r}, which has one value, {column.iloc[0]!r}, {among}. Leave it out."
            raise ValueError(msg)
