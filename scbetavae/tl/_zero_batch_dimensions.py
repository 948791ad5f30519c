"""Set dimensions of an embedding to a constant, and report what that does."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata, check_dimensions, check_whole_number
from scbetavae._core.columns import leave_out_small
from scbetavae._core.staging import staged
from scbetavae.tl import _embedding
from scbetavae.tl._batch_inputs import (
    BatchCells,
    check_left,
    check_search,
    check_target,
    find_clusters,
    read_cells,
    read_donors,
)
from scbetavae.tl._batch_text import describe_removal, nothing_removed
from scbetavae.tl._find_batch_dimensions import search_and_store, stored_search

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

    from scbetavae.tl._embedding import Embedding


def zero_batch_dimensions(  # noqa: PLR0913 - independent choices, each with a default
    adata: AnnData,
    dimensions: int | Iterable[int] | None = None,
    batch_key: str = "batch",
    *,
    conserve: str | Iterable[str] | None = None,
    categorical: str | Iterable[str] | None = None,
    obsm_key: str = keys.LATENT,
    method: str = "stepwise",
    to: str = "mean",
    reference_batch: str | None = None,
    donor_key: str | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
    key_added: str = keys.BATCH_REMOVAL,
) -> np.ndarray:
    """Set dimensions of an embedding to a constant, and report what that does to batch and to the conserved covariates.

    Works on any embedding whose dimensions are interpretable one by one (a beta-VAE, ICA, PCA).

    Parameters
    ----------
    adata
        Annotated data with the embedding; not a view.
    dimensions
        Dimensions to set to a constant, from 0. ``None`` takes those that :func:`find_batch_dimensions` chose for the same
        embedding, labels, method and seed. Without such a search it is made, and stored unless another one is there.
    batch_key
        Column of ``.obs`` with the batch.
    conserve
        Conserved covariates: columns of ``.obs``, categorical or numeric. ``None`` conserves clusters of the embedding, which
        batch may have shaped. Cells without a label are left out for that covariate only.
    categorical
        Conserved columns whose numbers are names of classes, as in :func:`find_batch_dimensions`.
    obsm_key
        Entry of ``.obsm`` with the embedding, of shape (n_cells, n_dims).
    method
        As in :func:`find_batch_dimensions`. Not used with ``dimensions``.
    to
        Value of the removed dimensions: ``"mean"`` over all cells, ``"reference"``, the mean over the cells of one batch, or
        ``"prior"``, 0, for an embedding of a model. The constant changes no distance between cells, but a decoder reads it.
    reference_batch
        The batch of ``to="reference"``.
    donor_key
        Column of ``.obs`` with the donor of every cell. Classifiers are then tested on held-out donors, and the intervals come
        from a bootstrap over donors.
    n_bootstrap
        Replicates behind the intervals of the report, at least 0.
    seed
        Seed of everything that is drawn.
    key_added
        Name of the report in ``.uns["betavae"]``; other than the default one, also the ending of the entry of ``.obsm``.

    Returns
    -------
    Array of shape (n_cells, n_dims): the embedding with the dimensions set to a constant. Where nothing was chosen, the
    embedding unchanged, with a warning.

    Written to ``adata``, all at once and only if everything went well:

    ``.obsm[f"{obsm_key}_zeroed"]``
        What is returned; ``.obsm[f"{obsm_key}_{key_added}"]`` with a name of your own.
    ``.uns["betavae"][key_added]``
        The batch-removal report, a DataFrame: :func:`scbetavae.metrics.evaluate_batch_removal`. Where dimensions were found
        by a search, it is computed on the cells that took no part in choosing them. Inactive dimensions take no part.
    ``.uns["betavae"][f"{key_added}_params"]``
        What was removed and how, a flat dict, with ``summary``, a few sentences, and ``status``. The status is decided
        on the 95% intervals of both classifiers: ``"batch remains"`` if one is wholly more than 0.15 above what is expected from
        composition; ``"biology lost"`` if that of ``kept`` is wholly below 95%; ``"undecided"`` if one holds its
        threshold and reaches 0.2 beyond it; else ``"clean"``. Also ``"batch unknown"`` and ``"nothing zeroed"``.
    ``.uns["betavae"]["batch_dimensions"]`` and what belongs to it
        What :func:`find_batch_dimensions` writes, if there was no search yet.

    Raises
    ------
    KeyError
        If a column of ``.obs`` or an entry of ``.obsm`` does not exist; the nearest name is suggested.
    ValueError
        For a view, a dimension that does not exist, all dimensions, an embedding in which no dimension is active, a batch
        with one category, a conserved covariate that is the batch or its alias, and a reference batch that does not exist.
    TypeError
        If ``adata`` is not an AnnData, or the embedding does not hold numbers.

    Warns
    -----
    UserWarning
        If nothing was removed, or if a conserved covariate lost more than 5% of its accuracy, beyond noise, or batch accuracy
        fell below what the conserved covariates alone imply.

    See Also
    --------
    find_batch_dimensions : which dimensions encode batch.
    scbetavae.metrics.evaluate_batch_removal : the report, from arrays.
    scbetavae.pl.batch_removal : plot of the result.

    References
    ----------
    :cite:p:`Korsunsky2019`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(600, 50, n_cell_types=2, seed=0)
    >>> codes = np.random.default_rng(0).normal(size=(600, 4))
    >>> codes[:, 1] += 6.0 * (adata.obs["batch"] == "batch_1")
    >>> codes[:, 3] += 6.0 * (adata.obs["cell_type"] == "type_1")
    >>> adata.obsm["X_example"] = codes
    >>> zeroed = scbetavae.tl.zero_batch_dimensions(adata, 1, "batch", conserve="cell_type", obsm_key="X_example")
    >>> float(np.ptp(zeroed[:, 1]))
    0.0
    >>> report = adata.uns["betavae"]["batch_removal"]
    >>> report.loc[report["classifier"] == "knn", ["before", "after"]].round(1).abs().to_numpy().tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    >>> adata.uns["betavae"]["batch_removal_params"]["status"]
    'clean'
    """
    check_adata(adata, key_added=key_added)
    check_whole_number(n_bootstrap, "n_bootstrap")
    check_search(method)
    cells = read_cells(adata, batch_key, conserve=conserve, categorical=categorical)
    reference = check_target(to, reference_batch, cells.batch)
    settings = {"method": method, "to": to, "donor_key": donor_key, "n_bootstrap": n_bootstrap, "seed": seed}
    return run_removal(adata, cells, dimensions, reference, obsm_key=obsm_key, key_added=key_added, **settings)


def run_removal(  # noqa: PLR0913 - the checked arguments of zero_batch_dimensions
    adata: AnnData,
    cells: BatchCells,
    dimensions: int | Iterable[int] | None,
    reference: str | None,
    *,
    obsm_key: str,
    method: str,
    to: str,
    donor_key: str | None,
    n_bootstrap: int,
    seed: int,
    key_added: str,
) -> np.ndarray:
    """`zero_batch_dimensions` of checked arguments."""
    embedding = _embedding.read(adata, obsm_key)
    active = embedding.active
    guided = embedding.guided_by(str(cells.batch.name))
    wanted = guided or None if dimensions is None else dimensions
    given = None if wanted is None else sorted(check_dimensions(wanted, len(active), names=embedding.names))
    check_left(active, obsm_key, given or ())
    donors = read_donors(adata, donor_key)
    constants = _constants(embedding, to, reference, cells.batch)
    zeroed_key = f"{obsm_key}_zeroed" if key_added == keys.BATCH_REMOVAL else f"{obsm_key}_{key_added}"
    clustered = cells.conserved.empty

    with staged(adata) as copy:
        if given is None:
            search, searched = _search(copy, embedding, cells, method, seed)
            cells = BatchCells(cells.batch, searched.conserved, searched.left_out)
            chosen, held_out = search.chosen, search.held_out
        else:
            search, chosen, held_out = None, given, None
        if cells.conserved.empty:
            name = f"{key_added}{keys.CLUSTERS_SUFFIX}"
            clusters = find_clusters(embedding.values[:, embedding.free], cells.batch, name, seed)
            cells = BatchCells(cells.batch, clusters.to_frame(), cells.left_out)
            copy.obs[name] = clusters
        zeroed = embedding.values.copy()
        zeroed[:, chosen] = constants[chosen]
        report = _report(embedding.values[:, active], zeroed[:, active], cells, donors, held_out, n_bootstrap, seed)
        if chosen or search is None:
            summary = describe_removal(report, chosen, clusters=clustered)
        else:
            summary = nothing_removed(search, cells.left_out)
        parameters = {
            "dimensions": ", ".join(map(str, chosen)),
            "method": method if given is None else "guided" if dimensions is None else "given",
            "inactive": ", ".join(map(str, np.flatnonzero(~active))),
            "to": to,
            "reference_batch": reference,
            "batch_key": str(cells.batch.name),
            "conserve": ", ".join(map(str, cells.conserved)),
            "clustered": clustered,
            "donor_key": donor_key,
            "obsm_key": obsm_key,
            "zeroed_key": zeroed_key,
            "n_bootstrap": n_bootstrap,
            "seed": seed,
            "status": summary.status,
            "summary": summary.sentence,
        }
        results.store(copy, key_added, {"": report}, parameters, {obsm_key: embedding.values, zeroed_key: zeroed})
        kind = getattr(adata.obsm[obsm_key], "dtype", None)
        copy.obsm[zeroed_key] = zeroed.astype(
            kind if kind is not None and np.issubdtype(kind, np.floating) else np.float64
        )
    if summary.warning:
        warnings.warn(summary.warning, UserWarning, stacklevel=3)
    return np.array(adata.obsm[zeroed_key])


def _search(
    adata: AnnData, embedding: Embedding, cells: BatchCells, method: str, seed: int
) -> tuple[metrics.BatchSearch, BatchCells]:
    """The stored search if it answers the same question, otherwise a new one; a stored one for another question stays."""
    found = stored_search(adata, embedding, cells, method, seed)
    if found is not None:
        return found
    key = keys.BATCH_DIMENSIONS
    other = bool(results.parameters(adata, key)) and results.describes(adata, key, embedding.obsm_key)
    return search_and_store(adata, embedding, cells, method=method, seed=seed, key_added=None if other else key)


def _constants(embedding: Embedding, to: str, reference: str | None, batch: pd.Series) -> np.ndarray:
    """Value of each dimension where it is removed, (n_dims,)."""
    if to == "prior":
        if embedding.kl is None:
            msg = f'to="prior" needs the embedding of a model, but {embedding.obsm_key!r} has no prior. Pass to="mean".'
            raise ValueError(msg)
        return np.zeros(embedding.values.shape[1])
    rows = slice(None) if reference is None else (batch == reference).to_numpy()
    return embedding.values[rows].mean(axis=0)


def _report(
    before: np.ndarray,
    after: np.ndarray,
    cells: BatchCells,
    donors: pd.Series | None,
    held_out: np.ndarray | None,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """The report, with classes that are too small left out and named in the flags."""
    batch, note = leave_out_small(cells.batch, "batch")
    checked = {str(name): leave_out_small(column, "class") for name, column in cells.conserved.items()}
    report = metrics.evaluate_batch_removal(
        before,
        after,
        batch=batch,
        conserved=pd.DataFrame({name: column for name, (column, _) in checked.items()}),
        groups=donors,
        test=held_out if held_out is not None and held_out.any() else None,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    notes = (
        report["covariate"]
        .map({name: note for name, (_, note) in checked.items()} | {str(batch.name): note})
        .fillna("")
    )
    return report.assign(flag=notes.where(notes != "", report["flag"]))
