"""Which dimensions of an embedding encode batch, and can be removed without the biology that should stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata, read_options
from scbetavae._core.options import SEARCH, SearchOptions
from scbetavae._core.staging import staged
from scbetavae.tl import _embedding
from scbetavae.tl._batch_inputs import (
    BatchCells,
    check_left,
    check_search,
    find_clusters,
    read_cells,
)
from scbetavae.tl._batch_text import describe_search

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from anndata import AnnData

    from scbetavae.tl._embedding import Embedding


def find_batch_dimensions(
    adata: AnnData,
    batch_key: str,
    *,
    conserve: str | Iterable[str] | None = None,
    categorical: str | Iterable[str] | None = None,
    obsm_key: str = keys.LATENT,
    method: str = "stepwise",
    key_added: str = keys.BATCH_DIMENSIONS,
    **options: Unpack[SearchOptions],
) -> pd.DataFrame:
    r"""Find the dimensions that encode batch and can be removed without loss of the conserved covariates.

    Nearly every dimension of a trained model is associated with batch to some degree, so significance alone is no reason to
    remove one. For every dimension :math:`z_j`, batch :math:`b` and conserved covariates :math:`p`, the score is

    .. math:: I(z_j; b \mid p) - \max_k I(z_j; p_k \mid b)

    in nats: batch that the conserved covariates do not explain, less biology that batch does not explain. Both are summed over
    strata, and their bias, the mean over permutations within strata, is removed. Dimensions are chosen on half of the cells;
    the report is computed on the other half.

    Parameters
    ----------
    adata
        Annotated data with the embedding; not a view.
    batch_key
        Column of ``.obs`` with the batch of every cell; also a condition or a donor that should be removed.
    conserve
        Conserved covariates: columns of ``.obs``, categorical or numeric. ``None`` or an empty list conserves Leiden clusters
        of the embedding (each batch centered first, so that clusters are not batches), which are stored in ``.obs``.
    categorical
        Conserved columns whose numbers are names of classes. Other numbers are numbers, with a warning where they are whole
        and take at most 20 values; ``[]`` says that none are classes. The batch is always classes.
    obsm_key
        Entry of ``.obsm``, of shape (n_cells, n_dims).
    method
        ``"stepwise"``: backward elimination. Dimensions are removed in the order of the score above, as long as every conserved
        covariate keeps at least 97% of its held-out accuracy (or loses no more than 0.01). Of these, the fewest are chosen
        after which batch accuracy is within 0.02, or one standard error, of the lowest. Elimination stops where batch accuracy
        is within 0.02, or two standard errors, of what the conserved covariates alone imply. Only dimensions with significant
        :math:`I(z_j; b \mid p)` are candidates.
        ``"dominant"``: every such dimension that alone predicts batch better than any conserved covariate.
    key_added
        Name of the result in ``.uns["betavae"]``, and beginning of the names of what belongs to it.
    **options
        ``n_permutations`` (100 by default) behind the removal of bias and the p-values, at least 10. ``fdr`` (0.05): false
        discovery rate of the test for batch over dimensions, in (0, 1) :cite:p:`Benjamini1995`. ``seed`` (0) of halves,
        permutations and folds.

    Returns
    -------
    DataFrame with one row per dimension. All numbers are from the deciding half of the cells:

    ``dimension``, ``active``
        Number from 0, and whether it takes part. Inactive dimensions have NaN, and rank 0.
    ``batch``
        :math:`I(z_j; b)`, nats, at least 0.
    ``batch_given_conserved``, ``batch_p_value``, ``batch_p_adjusted``
        :math:`I(z_j; b \mid p)`, nats; its p-value, and that corrected over dimensions (Benjamini-Hochberg).
    ``conserved_given_batch``, ``conserved_covariate``, ``conserved_p_value``, ``conserved_p_adjusted``
        :math:`\max_k I(z_j; p_k \mid b)`, nats; the covariate with the largest, and its p-values.
    ``rank``
        1 for the first to be removed.
    ``batch_left``, ``conserved_kept``
        For the steps of backward elimination: batch accuracy without all dimensions up to this rank, and the smallest share
        of its accuracy that a conserved covariate keeps.
    ``batch_alone``, ``conserved_alone``
        For ``method="dominant"``: accuracy of this dimension alone for batch, and the largest for a conserved covariate.
    ``chosen``
        Whether the dimension encodes batch and can be removed.

    Batches and conserved classes of fewer than 4 cells take no part, and the summary names them. Accuracies are those of the 15
    nearest neighbors on held-out cells, 0 by chance and 1 at best (:func:`scbetavae.metrics.knn_accuracy`).

    Written to ``adata.uns["betavae"]``, all at once and only if everything went well:

    ``key_added``
        What is returned.
    ``f"{key_added}_report"``
        k-NN accuracy of batch and of each conserved covariate on the held-out half: ``covariate``, ``role`` (``"batch"`` or
        ``"conserved"``), ``accuracy_before``, ``accuracy_after``, ``kept`` (their ratio; NaN where the accuracy before is
        within two standard errors of chance), ends of their 95% bootstrap intervals (``accuracy_after_ci_low``), and
        ``expected_accuracy`` of batch from composition (:func:`scbetavae.metrics.expected_accuracy`).
    ``f"{key_added}_steps"``
        Every step of backward elimination on the deciding half: ``n_zeroed``, ``dimension`` (-1 for none), ``covariate``,
        ``role``, ``accuracy``, ``kept``.
    ``f"{key_added}_params"``
        A flat dict with ``method``, ``batch_key``, ``conserve``, ``dimensions``, ``status``, ``reason``, ``summary``,
        ``batch_accuracy_before``, ``batch_accuracy_after``, ``batch_accuracy_expected`` and more. ``status`` and ``reason`` as
        in :class:`scbetavae.metrics.BatchSearch`. A search is refused if within classes of a conserved covariate a comparison
        of batches is worth fewer than 50 cells or 10% of them: cells over the variance inflation factor of batch given strata.
    ``.obs[f"{key_added}_held_out"]``
        Cells that took no part in the decision.

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` or a column of ``.obs`` does not exist; the nearest name is suggested.
    ValueError
        For a view, a batch of one category or of fractions, a conserved covariate with one value or that is the batch or
        its alias, an unknown method, an embedding without active dimensions or with values that are not finite, or numbers
        out of range.
    TypeError
        If ``adata`` is not an AnnData, or the embedding does not hold numbers.

    See Also
    --------
    scbetavae.model.BetaVAE.find_batch_dimensions : for a trained model.
    scbetavae.pl.batch_dimensions : plot of the result.

    References
    ----------
    :cite:p:`Benjamini1995,Winkler2016`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(600, 50, n_cell_types=2, seed=0)
    >>> codes = np.random.default_rng(0).normal(size=(600, 4))
    >>> codes[:, 1] += 6.0 * (adata.obs["batch"] == "batch_1")
    >>> codes[:, 3] += 6.0 * (adata.obs["cell_type"] == "type_1")
    >>> adata.obsm["X_example"] = codes
    >>> frame = scbetavae.tl.find_batch_dimensions(adata, "batch", conserve="cell_type", obsm_key="X_example")
    >>> frame.loc[frame["chosen"], "dimension"].tolist()
    [1]
    >>> adata.uns["betavae"]["batch_dimensions_params"]["status"]
    'found'
    """
    settings = read_options(find_batch_dimensions, options, SEARCH)
    check_adata(adata, key_added=key_added)
    check_search(method, settings)
    cells = read_cells(adata, batch_key, conserve=conserve, categorical=categorical)
    return run_search(adata, cells, obsm_key, key_added, method, settings)


def run_search(
    adata: AnnData, cells: BatchCells, obsm_key: str, key_added: str, method: str, options: Mapping[str, Any]
) -> pd.DataFrame:
    """`find_batch_dimensions` of checked arguments."""
    embedding = _embedding.read(adata, obsm_key)
    check_left(embedding.free, obsm_key)
    if guided := embedding.guided_by(str(cells.batch.name)):
        msg = (
            f"Dimensions {guided} are guided by {cells.batch.name!r}, so there is nothing to search for: "
            "zero_batch_dimensions() removes them."
        )
        raise ValueError(msg)
    found, _ = search_and_store(adata, embedding, cells, method, options, key_added)
    return found.dimensions.copy()


def search_and_store(
    adata: AnnData,
    embedding: Embedding,
    cells: BatchCells,
    method: str,
    options: Mapping[str, Any],
    key_added: str | None,
) -> tuple[metrics.BatchSearch, BatchCells]:
    """Search, and write all tables under ``key_added`` unless that is ``None``; the cells come back with their clusters."""
    digest, clustered = cells.digest, cells.conserved.empty
    cells = cells.without_small()
    if clustered and cells.is_possible:
        name = f"{key_added or keys.BATCH_DIMENSIONS}{keys.CLUSTERS_SUFFIX}"
        clusters = find_clusters(embedding.values[:, embedding.free], cells.batch, name, options["seed"])
        cells = BatchCells(cells.batch, clusters.to_frame(), cells.left_out).without_small()
    if cells.is_possible:
        search = metrics.search_batch_dimensions(
            embedding.values,
            cells.batch,
            cells.conserved,
            active=embedding.free,
            method=method,
            **options,
        )
    else:
        names = (str(cells.batch.name), [str(name) for name in cells.conserved])
        search = metrics.impossible_search(embedding.free, *names, adata.n_obs)
    if key_added is not None:
        settings = {"method": method, "clustered": clustered, "digest": digest, **options}
        _store(adata, embedding, cells, search, key_added, settings)
    return search, cells


def _store(
    adata: AnnData, embedding: Embedding, cells: BatchCells, search: metrics.BatchSearch, key_added: str, settings: dict
) -> None:
    batch, n_clusters = search.report.iloc[0], 0
    with staged(adata) as copy:
        if settings["clustered"] and not cells.conserved.empty:
            clusters = cells.conserved.iloc[:, 0]
            copy.obs[str(clusters.name)] = clusters
            n_clusters = int(clusters.nunique())
        copy.obs[f"{key_added}{keys.HELD_OUT_SUFFIX}"] = search.held_out
        parameters = settings | {
            "batch_key": str(cells.batch.name),
            "conserve": ", ".join(search.report["covariate"].iloc[1:]),
            "obsm_key": embedding.obsm_key,
            "status": search.status,
            "reason": search.reason,
            "problem": search.problem,
            "stratified_by": ", ".join(search.stratified_by),
            "effective_cells": search.effective_cells,
            "left_out": cells.left_out,
            "n_clusters": n_clusters,
            "n_cells": len(cells.present),
            "dimensions": ", ".join(map(str, search.chosen)),
            "batch_accuracy_before": float(batch["accuracy_before"]),
            "batch_accuracy_after": float(batch["accuracy_after"]),
            "batch_accuracy_expected": float(batch["expected_accuracy"]),
            "summary": describe_search(search, n_clusters, cells.left_out),
        }
        tables = {"": search.dimensions, keys.REPORT_SUFFIX: search.report, keys.STEPS_SUFFIX: search.steps}
        results.store(copy, key_added, tables, parameters, {embedding.obsm_key: np.asarray(embedding.values)})
