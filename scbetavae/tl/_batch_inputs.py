"""What finding batch dimensions reads: columns of `.obs`, a rule, and clusters where nothing is conserved by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from scbetavae import metrics
from scbetavae._core import columns
from scbetavae.metrics._held_out import leave_out_small
from scbetavae.tl import _inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

RULES = ("stepwise", "dominant")
MINIMUM_PERMUTATIONS = 10
_N_CLUSTERS, _N_NEIGHBORS = 10, 15


class Search(NamedTuple):
    """What is looked for."""

    batch: pd.Series
    """Categories as strings, missing where they are missing."""
    conserved: pd.DataFrame
    """No columns if nothing is conserved by name."""
    dimensions: tuple[int, ...] | None
    """Dimensions, if the rule is a list of them."""
    left_out: str = ""
    """What there is to say of batches and classes that are too small; empty if none is."""

    @property
    def cells(self) -> np.ndarray:
        """Cells that have a batch and all conserved covariates."""
        return np.flatnonzero(self.batch.notna() & self.conserved.notna().all(axis=1))

    @property
    def is_possible(self) -> bool:
        """Whether two batches, and two classes of each conserved covariate, have the cells that it takes."""
        return not self.left_out.startswith("not possible")

    def without_small(self) -> Search:
        """The same without the cells of batches and conserved classes that are too small."""
        batch, notes = self.batch.copy(), [self.left_out] if self.left_out else []
        while True:
            search = self._replace(batch=batch, left_out=next((n for n in notes if n[:3] == "not"), "; ".join(notes)))
            here = search.cells
            named = [(batch, "batch", ""), *((self.conserved[n], "class", f" of {n!r}") for n in self.conserved)]
            checked = [leave_out_small(column.iloc[here], noun, of) for column, noun, of in named]
            told = [note for _, note in checked if note]
            if not told:
                return search
            notes += told
            batch = batch.copy()
            batch.iloc[here[np.any([column.isna() for column, _ in checked], axis=0)]] = np.nan


def read_search(  # noqa: PLR0913 - independent choices
    adata: AnnData,
    batch_key: str,
    n_dims: int,
    *,
    conserve: str | Iterable[str] | None,
    rule: str | Sequence[int],
    n_permutations: int,
    fdr: float,
    categorical: str | Iterable[str] | None = None,
    registered: Iterable[str] = (),
) -> Search:
    """All that can be read and refused without looking at the codes.

    ``categorical`` and ``registered`` name conserved columns that are classes, as in `read_factors`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As :func:`scbetavae.tl.find_batch_dimensions`.
    """
    _check_numbers(n_permutations, fdr)
    dimensions = _check_rule(rule, n_dims)
    batch, conserved = _read_columns(adata, batch_key, conserve, categorical, registered)
    search = Search(batch, conserved, dimensions)
    _check_labels(batch.iloc[search.cells], conserved.iloc[search.cells])
    return search


def _check_numbers(n_permutations: int, fdr: float) -> None:
    """Refuse too few permutations and a rate that is none.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """
    is_integer = isinstance(n_permutations, int | np.integer) and not isinstance(n_permutations, bool)
    if not is_integer or n_permutations < MINIMUM_PERMUTATIONS:
        msg = f"n_permutations={n_permutations!r}: give an integer of at least {MINIMUM_PERMUTATIONS}; 100 is the default."
        raise ValueError(msg)
    if isinstance(fdr, bool) or not isinstance(fdr, int | float | np.floating) or not 0 < fdr < 1:
        msg = f"fdr={fdr!r} is no false discovery rate. Give a number between 0 and 1, for example 0.05."
        raise ValueError(msg)


def _check_rule(rule: str | Sequence[int], n_dims: int) -> tuple[int, ...] | None:
    """Dimensions, if the rule is a list of them; otherwise ``None``.

    Raises
    ------
    ValueError
        For an unknown name, and for a list that is empty or names a dimension twice or one that does not exist.
    """
    if isinstance(rule, str):
        if rule in RULES:
            return None
        msg = f"rule={rule!r} is not known. Take one of {list(RULES)}, or a list of dimensions, for example [0, 3]."
        raise ValueError(msg)
    listed = rule if isinstance(rule, Iterable) else [rule]
    dimensions = [d.item() if isinstance(d, np.generic) else d for d in listed]
    wrong = [d for d in dimensions if isinstance(d, bool) or not isinstance(d, int) or not 0 <= d < n_dims]
    if wrong:
        msg = (
            f"rule names {wrong[0]!r}, which is no dimension. There are {n_dims}: whole numbers from 0 to {n_dims - 1}."
        )
        raise ValueError(msg)
    if not dimensions or len(set(dimensions)) < len(dimensions):
        what = "no dimension" if not dimensions else "a dimension twice"
        msg = f"rule={dimensions} names {what}. List each dimension once, or take one of {list(RULES)}."
        raise ValueError(msg)
    return tuple(dimensions)


def check_active(active: np.ndarray, obsm_key: str, dimensions: tuple[int, ...] | None) -> None:
    """Refuse an embedding in which nothing is active, or nothing would be.

    Raises
    ------
    ValueError
        If no dimension is active, or all that are would be zeroed.
    """
    if not active.any():
        msg = (
            f"None of the {len(active)} dimensions of {obsm_key!r} is active: the latent space has collapsed and holds "
            "neither batch nor biology. Train with a smaller beta or a longer warm-up."
        )
        raise ValueError(msg)
    if dimensions is not None and set(np.flatnonzero(active)) <= set(dimensions):
        msg = (
            f"rule={list(dimensions)} names every active dimension, so nothing would be left of the cells. "
            "Leave out at least one that holds biology."
        )
        raise ValueError(msg)


def _read_columns(
    adata: AnnData,
    batch_key: str,
    conserve: str | Iterable[str] | None,
    categorical: str | Iterable[str] | None,
    registered: Iterable[str],
) -> tuple[pd.Series, pd.DataFrame]:
    """Batch as strings, and the conserved columns.

    Raises
    ------
    KeyError
        For a column that is not there, with the nearest that is.
    ValueError
        For a batch of fractions, a conserved column named twice, or one that is the batch.
    TypeError
        If a column holds dates, durations or complex numbers.
    """
    there = list(adata.obs.columns)
    names = [] if conserve is None else [conserve] if isinstance(conserve, str) else list(conserve)
    _inputs.check_key(batch_key, there, "batch_key", "adata.obs")
    for name in names:
        _inputs.check_key(name, there, "conserve", "adata.obs")
    if batch_key in names:
        msg = (
            f"conserve names {batch_key!r}, the batch itself: what is to be removed cannot be conserved. Leave it out."
        )
        raise ValueError(msg)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        msg = f"conserve names {twice} twice. Name every column once."
        raise ValueError(msg)
    batch = columns.class_texts(adata.obs[batch_key], "batch_key")
    _check_aliases(batch, adata.obs[names])
    return batch, columns.read_factors(adata, names, "conserve", categorical, registered)


def _check_aliases(batch: pd.Series, conserved: pd.DataFrame) -> None:
    if conserved.shape[1] == 0:
        metrics.covariate_association(batch.to_frame())
        return
    # Whole numbers may name the same classes: a batch 0 and 1, say.
    classes = {
        name: column if columns.holds_fractions(column) else columns.as_classes(column, "conserve")
        for name, column in conserved.items()
    }
    association = metrics.covariate_association(pd.DataFrame({batch.name: batch} | classes))
    aliases = association[(association["first"] == batch.name) & (association["relation"] == "alias")]
    if len(aliases):
        name = aliases["second"].iloc[0]
        msg = (
            f"conserve names {name!r}, an alias of {batch.name!r}: each determines the other, so one cannot be removed and "
            "the other kept. Leave it out."
        )
        raise ValueError(msg)


def _check_labels(batch: pd.Series, conserved: pd.DataFrame) -> None:
    """Refuse what cannot be compared, on the cells that have batch and conserved covariates.

    Raises
    ------
    ValueError
        If no cell has them all, batch has one category, or a conserved covariate one value.
    """
    if len(batch) == 0:
        also = f" and all of {list(conserved)}" if conserved.shape[1] else ""
        msg = f"No cell has {batch.name!r}{also}. Name columns that are known for the same cells."
        raise ValueError(msg)
    among = f"among the {len(batch)} cells that have {'it' if conserved.empty else 'it and all that is conserved'}"
    if batch.nunique() < 2:
        msg = f"batch_key={batch.name!r} has one category, {batch.iloc[0]!r}, {among}: there is no batch to find."
        raise ValueError(msg)
    for name, column in conserved.items():
        if column.nunique() < 2:
            msg = f"conserve names {name!r}, which has one value, {column.iloc[0]!r}, {among}. Leave it out."
            raise ValueError(msg)


def find_clusters(codes: np.ndarray, batch: pd.Series, name: str, seed: int) -> pd.Series:
    """Clusters of the embedding to conserve, missing where batch is missing.

    Batches are centered first: clusters of the codes as they are would be batches, and be conserved.

    Returns
    -------
    Categorical series ``name``; ``attrs["method"]`` says how it was made.
    """
    present = np.flatnonzero(batch.notna())
    centered = codes[present] - pd.DataFrame(codes[present]).groupby(batch.iloc[present].to_numpy()).transform("mean")
    centered = centered.to_numpy()
    if importlib.util.find_spec("igraph") is not None:
        labels, method = _leiden(centered, seed), "Leiden"
    else:
        from sklearn.cluster import KMeans

        model = KMeans(min(_N_CLUSTERS, len(present)), n_init=4, random_state=seed)
        labels, method = model.fit_predict(centered).astype(str), "k-means"
    clusters = pd.Series(pd.NA, index=batch.index, name=name, dtype=object)
    clusters.iloc[present] = labels
    clusters = clusters.where(clusters.notna(), np.nan).astype("category")
    clusters.attrs["method"] = method
    return clusters


def _leiden(codes: np.ndarray, seed: int) -> np.ndarray:
    import scanpy as sc
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(codes, min(_N_NEIGHBORS, len(codes) - 1))
    cells = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(codes))]))
    sc.tl.leiden(
        cells, adjacency=graph.maximum(graph.T), flavor="igraph", n_iterations=2, directed=False, random_state=seed
    )
    return cells.obs["leiden"].astype(str).to_numpy()
