"""Set dimensions of an embedding to a constant, and report what that does."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack, cast

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import check_dimensions, read_options
from scbetavae._core.columns import leave_out_small
from scbetavae._core.options import REMOVAL, SEARCH, RemovalOptions
from scbetavae._core.staging import staged
from scbetavae.tl import _embedding
from scbetavae.tl._batch_inputs import BatchCells, Removal, check_left, check_removal, find_clusters
from scbetavae.tl._batch_text import describe_removal, nothing_removed
from scbetavae.tl._find_batch_dimensions import search_and_store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

    from scbetavae.tl._embedding import Embedding


def zero_batch_dimensions(
    adata: AnnData,
    dimensions: int | Iterable[int] | None = None,
    batch_key: str = "batch",
    *,
    conserve: str | Iterable[str] | None = None,
    obsm_key: str = keys.LATENT,
    to: str = "mean",
    reference_batch: str | None = None,
    key_added: str = keys.BATCH_REMOVAL,
    **options: Unpack[RemovalOptions],
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
    obsm_key
        Entry of ``.obsm`` with the embedding, of shape (n_cells, n_dims).
    to
        Value of the removed dimensions: ``"mean"`` over all cells, ``"reference"``, the mean over the cells of one batch, or
        ``"prior"``, 0, for an embedding of a model. The constant changes no distance between cells, but a decoder reads it.
    reference_batch
        The batch of ``to="reference"``.
    key_added
        Name of the report in ``.uns["betavae"]``; other than the default one, also the ending of the entry of ``.obsm``.
    **options
        ``categorical`` (``None`` by default): conserved columns whose numbers are names of classes, and ``method``
        (``"stepwise"``), not used with ``dimensions``, both as in :func:`find_batch_dimensions`. ``donor_key`` (``None``): column
        of ``.obs`` with the donor of every cell; classifiers are then tested on held-out donors, and the intervals come from a
        bootstrap over donors. ``n_bootstrap`` (200): replicates behind the intervals of the report, at least 0. ``seed`` (0) of
        everything that is drawn.

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
    removal = check_removal(
        adata,
        batch_key,
        conserve,
        to=to,
        reference_batch=reference_batch,
        key_added=key_added,
        options=read_options(zero_batch_dimensions, options, REMOVAL),
    )
    return run_removal(adata, removal, dimensions, obsm_key)


def run_removal(adata: AnnData, removal: Removal, dimensions: int | Iterable[int] | None, obsm_key: str) -> np.ndarray:
    """`zero_batch_dimensions` of checked arguments."""
    embedding = _embedding.read(adata, obsm_key)
    values, active, cells, options = embedding.values, embedding.active, removal.cells, removal.options
    wanted = (embedding.guided_by(str(cells.batch.name)) or None) if dimensions is None else dimensions
    given = None if wanted is None else sorted(check_dimensions(wanted, len(active), names=embedding.names))
    check_left(active, obsm_key, given or ())
    if removal.to == "prior" and embedding.kl is None:
        msg = f'to="prior" needs the embedding of a model, but {obsm_key!r} has no prior. Pass to="mean".'
        raise ValueError(msg)
    of_batch = slice(None) if removal.reference_batch is None else (cells.batch == removal.reference_batch).to_numpy()
    constants = np.zeros(len(active)) if removal.to == "prior" else values[of_batch].mean(axis=0)
    ending = "zeroed" if removal.key_added == keys.BATCH_REMOVAL else removal.key_added
    zeroed_key, clustered, search, chosen = f"{obsm_key}_{ending}", cells.conserved.empty, None, given or []
    with staged(adata) as copy:
        if given is None:
            search, found = _search(copy, embedding, cells, options["method"], options["seed"])
            cells, chosen = replace(found, batch=cells.batch), search.chosen
        if cells.conserved.empty:
            name = f"{removal.key_added}{keys.CLUSTERS_SUFFIX}"
            copy.obs[name] = find_clusters(values[:, embedding.free], cells.batch, name, options["seed"])
            cells = replace(cells, conserved=copy.obs[[name]])
        zeroed = values.copy()
        zeroed[:, chosen] = constants[chosen]
        report = _report(values[:, active], zeroed[:, active], replace(removal, cells=cells), search)
        if chosen or search is None:
            summary = describe_removal(report, chosen, clusters=clustered)
        else:
            summary = nothing_removed(search, cells.left_out)
        parameters = {
            "dimensions": ", ".join(map(str, chosen)),
            "method": options["method"] if given is None else "guided" if dimensions is None else "given",
            "inactive": ", ".join(map(str, np.flatnonzero(~active))),
            "to": removal.to,
            "reference_batch": removal.reference_batch,
            "batch_key": str(cells.batch.name),
            "conserve": ", ".join(map(str, cells.conserved)),
            "clustered": clustered,
            "donor_key": options["donor_key"],
            "obsm_key": obsm_key,
            "zeroed_key": zeroed_key,
            "n_bootstrap": options["n_bootstrap"],
            "seed": options["seed"],
            "status": summary.status,
            "summary": summary.sentence,
        }
        results.store(copy, removal.key_added, {"": report}, parameters, {obsm_key: values, zeroed_key: zeroed})
        kind = getattr(adata.obsm[obsm_key], "dtype", np.float64)
        copy.obsm[zeroed_key] = zeroed.astype(kind if np.issubdtype(kind, np.floating) else np.float64)
    if summary.warning:
        warnings.warn(summary.warning, UserWarning, stacklevel=3)
    return np.array(adata.obsm[zeroed_key])


def _search(
    adata: AnnData, embedding: Embedding, cells: BatchCells, method: str, seed: int
) -> tuple[metrics.BatchSearch, BatchCells]:
    """The stored search if it is of this embedding, these labels, method and seed; otherwise a new one.

    It is stored, too, unless one for another question is there.
    """
    key = keys.BATCH_DIMENSIONS
    known = results.parameters(adata, key)
    wanted = {"method": method, "seed": seed, "digest": cells.digest, "obsm_key": embedding.obsm_key}
    wanted |= {"batch_key": str(cells.batch.name), "clustered": cells.conserved.empty}
    tables = {s: adata.uns.get(keys.UNS, {}).get(f"{key}{s}") for s in ("", keys.REPORT_SUFFIX, keys.STEPS_SUFFIX)}
    held_out = f"{key}{keys.HELD_OUT_SUFFIX}"
    clusters = [f"{key}{keys.CLUSTERS_SUFFIX}"] if cells.conserved.empty and known.get("n_clusters") else []
    describes = results.describes(adata, key, embedding.obsm_key)
    if (
        any(known.get(name) != value for name, value in wanted.items())
        or any(table is None for table in tables.values())
        or not {held_out, *clusters} <= set(adata.obs)
        or not describes
    ):
        options = SEARCH | {"seed": seed}
        return search_and_store(adata, embedding, cells, method, options, None if known and describes else key)
    search = metrics.BatchSearch(
        dimensions=tables[""],
        chosen=np.flatnonzero(tables[""]["chosen"]).tolist(),
        report=tables[keys.REPORT_SUFFIX],
        steps=tables[keys.STEPS_SUFFIX],
        status=known["status"],
        reason=known["reason"],
        problem=known["problem"],
        stratified_by=tuple(filter(None, known["stratified_by"].split(", "))),
        effective_cells=known["effective_cells"],
        held_out=np.asarray(adata.obs[held_out], dtype=bool),
    )
    conserved = cast("pd.DataFrame", adata.obs)[clusters] if clusters else cells.conserved
    return search, BatchCells(cells.batch, conserved, known["left_out"], known["status"] != "not possible")


def _report(
    before: np.ndarray, after: np.ndarray, removal: Removal, search: metrics.BatchSearch | None
) -> pd.DataFrame:
    """The report, with classes that are too small left out and named in the flags, on cells that decided nothing."""
    cells, held_out = removal.cells, None if search is None else search.held_out
    batch, note = leave_out_small(cells.batch, "batch")
    checked = {str(name): leave_out_small(column, "class") for name, column in cells.conserved.items()}
    report = metrics.evaluate_batch_removal(
        before,
        after,
        batch=batch,
        conserved=pd.DataFrame({name: column for name, (column, _) in checked.items()}),
        groups=removal.donors,
        test=held_out if held_out is not None and held_out.any() else None,
        n_bootstrap=removal.options["n_bootstrap"],
        seed=removal.options["seed"],
    )
    told = {name: note.text for name, (_, note) in checked.items()} | {str(batch.name): note.text}
    notes = report["covariate"].map(told).fillna("")
    return report.assign(flag=notes.where(notes != "", report["flag"]))
