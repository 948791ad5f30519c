"""What the search for batch dimensions and their removal read from an AnnData, refused before any work where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scbetavae._core import columns
from scbetavae._core.checks import as_list, check_choice, check_key, check_keys, check_number, check_whole_number
from scbetavae._core.columns import leave_out_small
from scbetavae._core.text import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Iterable

METHODS = ("stepwise", "dominant")
TARGETS = ("prior", "reference", "mean")
N_PERMUTATIONS, FDR = 100, 0.05
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

    @property
    def present(self) -> np.ndarray:
        """Cells that have a batch and all conserved covariates."""
        return np.flatnonzero(self.batch.notna() & self.conserved.notna().all(axis=1))

    @property
    def is_possible(self) -> bool:
        """Whether two batches, and two classes of each conserved covariate, have enough cells."""
        return not self.left_out.startswith("not possible")

    @property
    def digest(self) -> str:
        """Number that changes with any label."""
        frame = self.conserved.astype(str).assign(**{"": self.batch.astype(str)})
        return str(int(pd.util.hash_pandas_object(frame, index=True).to_numpy().sum(dtype=np.uint64)))

    def without_small(self) -> BatchCells:
        """The same without the cells of batches and conserved classes that are too small."""
        batch, notes = self.batch.copy(), [self.left_out] if self.left_out else []
        while True:
            clause = next((note for note in notes if note.startswith("not")), "; ".join(notes))
            cells = replace(self, batch=batch, left_out=clause)
            here = cells.present
            named = [(batch, "batch", ""), *((self.conserved[n], "class", f" of {n!r}") for n in self.conserved)]
            checked = [leave_out_small(column.iloc[here], noun, of) for column, noun, of in named]
            found = [note for _, note in checked if note]
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
    obs, names = columns.obs_of(adata), as_list(conserve)
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
    _check_aliases(batch, obs[names])
    cells = BatchCells(batch, columns.read_factors(adata, names, "conserve", categorical, registered))
    _check_varied(cells)
    return cells


def check_search(method: str, n_permutations: int = N_PERMUTATIONS, fdr: float = FDR) -> None:
    """Refuse an unknown method and numbers out of range."""
    hint = "" if isinstance(method, str) else " To name dimensions yourself, pass zero_batch_dimensions(dimensions)."
    check_choice(method, METHODS, "method", hint=hint)
    check_whole_number(n_permutations, "n_permutations", 10)
    check_number(fdr, "fdr", 0, 1, open_="both")


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


def check_target(to: str, reference_batch: str | None, batch: pd.Series) -> str | None:
    """Name of the reference batch; refuses an unknown target and a reference batch that is missing, unknown or not used."""
    check_choice(to, TARGETS, "to")
    names = sorted(batch.dropna().unique())
    if to != "reference":
        if reference_batch is not None:
            msg = f'reference_batch={reference_batch!r} is only used with to="reference", but to={to!r}.'
            raise ValueError(msg)
        return None
    name = None if reference_batch is None else columns.class_name(reference_batch)
    if name not in names:
        what = "is missing" if name is None else f"is {reference_batch!r}, which is not a batch of {batch.name!r}"
        msg = f'reference_batch {what}.{did_you_mean(name, names)} With to="reference", choose from {listed(names)}.'
        raise ValueError(msg)
    return name


def read_donors(adata: AnnData, donor_key: str | None) -> pd.Series | None:
    """Donor of every cell."""
    check_keys({"donor_key": donor_key}, adata.obs.columns, "adata.obs")
    if donor_key is None:
        return None
    donors = columns.obs_of(adata)[donor_key]
    if donors.isna().any():
        msg = (
            f"donor_key={donor_key!r} is missing for {int(donors.isna().sum())} cells. "
            f"Leave them out: adata = adata[adata.obs[{donor_key!r}].notna()].copy()."
        )
        raise ValueError(msg)
    return donors


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


def _check_aliases(batch: pd.Series, conserved: pd.DataFrame) -> None:
    """Refuse a conserved covariate that names the batches: each determines the other."""
    for name, column in conserved.items():
        # Whole numbers may name the same classes: a batch 0 and 1, say.
        classes = column if columns.holds_fractions(column) else columns.as_classes(column, "conserve")
        both = (batch.notna() & column.notna()).to_numpy()
        pairs = pd.DataFrame({"batch": batch[both].astype(str), "other": classes[both].astype(str)}).drop_duplicates()
        if len(pairs) > 1 and not pairs["batch"].duplicated().any() and not pairs["other"].duplicated().any():
            msg = (
                f"conserve names {name!r}, an alias of {batch.name!r}: each determines the other, so one cannot be removed and "
                "the other kept. Leave it out."
            )
            raise ValueError(msg)


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
