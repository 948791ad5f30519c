"""Which dimensions of an embedding hold batch, and can be given up without the biology that is to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.metrics import _batch_dimensions
from scbetavae.tl import _batch_inputs, _inputs, _scoring
from scbetavae.tl._batch_summary import Finding, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData
    from numpy.typing import ArrayLike


def find_batch_dimensions(  # noqa: PLR0913 - independent choices, each with a default
    adata: AnnData,
    batch_key: str,
    *,
    conserve: str | Iterable[str] | None = None,
    categorical: str | Iterable[str] | None = None,
    obsm_key: str = _keys.LATENT,
    rule: str | Sequence[int] = "stepwise",
    n_permutations: int = 100,
    fdr: float = 0.05,
    active: ArrayLike | None = None,
    kl: ArrayLike | None = None,
    seed: int = 0,
    key_added: str = _keys.BATCH_DIMENSIONS,
) -> pd.DataFrame:
    r"""Find the dimensions that hold batch and can be set to a constant without loss of what is to be conserved.

    Nearly every dimension of a trained model tells *something* about batch, so significance is no reason to zero it. Asked
    is, for every dimension :math:`z_j`, batch :math:`b` and conserved covariates :math:`p`,

    .. math:: I(z_j; b \mid p) - \max_k I(z_j; p_k \mid b)

    in nats: the batch that the conserved covariates do not explain, less the biology that batch does not explain. Both are
    summed over strata, and their bias, the mean over permutations within strata, is removed. The rule decides on half of
    the cells; what it costs is reported on the other half.

    Parameters
    ----------
    adata
        Annotated data with the embedding; not a view.
    batch_key
        Column of ``.obs`` with the batch of every cell: the technical to get rid of, also a condition or a donor.
    conserve
        Columns of ``.obs`` whose information must stay: categorical, boolean, string or numeric. ``None`` or an empty list
        conserves clusters of the embedding (Leiden on the active dimensions, each batch centered first so that clusters are not
        batches; k-means where the package ``igraph`` is not installed); they are stored in ``.obs``.
    categorical
        Conserved columns whose numbers are names of classes, one or several. Other numbers are numbers, with a warning where
        they are whole and take at most 20 values; ``[]`` says that none are classes. The batch is always classes.
    obsm_key
        Entry of ``.obsm``, of shape (n_cells, n_dims).
    rule
        ``"stepwise"``: dimensions go in the order of the difference above, as long as every conserved covariate keeps at
        least 97% of its held-out accuracy (or loses no more than 0.01); of these, the fewest after which batch accuracy is within
        0.02, or one standard error, of the lowest. It stops where batch accuracy is within 0.02, or two standard errors, of what
        the conserved covariates alone imply. Only dimensions with significant :math:`I(z_j; b \mid p)` go.
        ``"dominant"``: every such dimension that, alone, has more accuracy for batch than for any conserved covariate.
        Or the dimensions themselves, as a list of numbers from 0.
    n_permutations
        Permutations behind the removal of bias and the p-values, at least 10.
    fdr
        False discovery rate of the test for batch, in (0, 1), over dimensions :cite:p:`Benjamini1995`.
    active
        Boolean mask of the dimensions that take part, of shape (n_dims,); by default those that
        :func:`scbetavae.metrics.active_dimensions` finds.
    kl
        Mean divergence of the posterior from the prior per dimension, of shape (n_dims,), in nats: a dimension with less than
        0.01 nats does not take part.
    seed
        Seed of halves, permutations and folds.
    key_added
        Name in ``.uns["betavae"]`` of the result, and beginning of the names of what belongs to it.

    Returns
    -------
    DataFrame, a row a dimension. All numbers are from the deciding half of the cells:

    ``dimension``, ``active``
        Number from 0, and whether it takes part. Inactive dimensions have NaN, and rank 0.
    ``batch``
        :math:`I(z_j; b)`, nats, at least 0.
    ``batch_given_conserved``, ``batch_p_value``, ``batch_p_adjusted``
        :math:`I(z_j; b \mid p)`, nats; its p-value, and that corrected over dimensions (Benjamini-Hochberg).
    ``conserved_given_batch``, ``conserved_covariate``, ``conserved_p_value``, ``conserved_p_adjusted``
        :math:`\max_k I(z_j; p_k \mid b)`, nats; the covariate of which the dimension holds most, and its p-values.
    ``rank``
        1 for the first to go.
    ``batch_left``, ``conserved_kept``
        Where the stepwise rule looked: batch accuracy when all dimensions up to this rank are zeroed, and the smallest share of
        its accuracy that a conserved covariate keeps.
    ``batch_alone``, ``conserved_alone``
        Where the dominant rule looked: accuracy of this dimension alone for batch, and the largest for a conserved covariate.
    ``chosen``
        What the rule says.

    Batches and conserved classes of fewer than 4 cells take no part, and the summary names them.
    A accuracy is that of the 15 nearest neighbors on held-out cells, 0 by chance and 1 at best
    (:func:`scbetavae.metrics.knn_accuracy`). ``frame.attrs["summary"]`` is the result in words.

    Written to ``adata.uns["betavae"]``, all at once and only if everything went well:

    ``key_added``
        What is returned.
    ``f"{key_added}_covariates"``
        Accuracy of batch and of each conserved covariate before and after, on the half that decided nothing: ``covariate``,
        ``role`` (``"batch"`` or ``"conserved"``), ``accuracy_before``, ``accuracy_after``, ``kept`` (their ratio; NaN where the
        accuracy before is within two standard errors of chance, so that there is none to lose),
        ends of their 95% bootstrap intervals, as ``accuracy_after_ci_low``, and
        ``expected_accuracy`` (of batch, by the conserved covariates alone: :func:`scbetavae.metrics.expected_accuracy`).
    ``f"{key_added}_steps"``
        Every step of the stepwise rule on the deciding half: ``n_zeroed``, ``dimension`` (-1 for none), ``covariate``,
        ``role``, ``accuracy``, ``kept``.
    ``f"{key_added}_params"``
        A flat dict with ``rule``, ``batch_key``, ``conserve``, ``dimensions``, ``status``, ``summary``,
        ``batch_accuracy_before``, ``batch_accuracy_after``, ``batch_accuracy_expected`` and more. The status is ``"found"``;
        ``"none"``, which is a result, with the reason in the summary; ``"not possible"``, if fewer than two batches, or
        classes of a conserved covariate, have 4 cells; or ``"refused"``, if batch and a conserved covariate are confounded
        beyond use: within strata of the covariate a comparison of batches would be worth fewer than 50
        cells or 10% of them. This number is the cells over the variance inflation factor of batch given strata.

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` or a column of ``.obs`` is not there, with the nearest that is.
    ValueError
        For a view, a batch of one category or of fractions, a conserved covariate with one value or that is the batch or
        its alias, an unknown rule, dimensions that do not exist or are all there are, an embedding without active
        dimensions or with values that are not finite, or numbers out of range.
    TypeError
        If ``adata`` is no AnnData, or the embedding holds no numbers.

    See Also
    --------
    scbetavae.model.BetaVAE.find_batch_dimensions : for a trained model, with its divergences.
    scbetavae.pl.batch_dimensions : the picture.

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
    _inputs.check_writable(adata, key_added)
    codes = _inputs.read_embedding(adata, obsm_key)
    search = _batch_inputs.read_search(
        adata,
        batch_key,
        codes.shape[1],
        conserve=conserve,
        rule=rule,
        n_permutations=n_permutations,
        fdr=fdr,
        categorical=categorical,
    )
    mask = _scoring.resolve_mask(codes, active, kl)
    _batch_inputs.check_active(mask, obsm_key, search.dimensions)
    search = search.without_small()
    clusters = None
    if search.conserved.shape[1] == 0 and search.is_possible:
        clusters = _batch_inputs.find_clusters(
            codes[:, mask], search.batch, f"{key_added}{_keys.CLUSTERS_SUFFIX}", seed
        )
        search = search._replace(conserved=clusters.to_frame()).without_small()
    keep = search.cells
    question = _batch_dimensions.Question(codes[keep], search.batch.iloc[keep], search.conserved.iloc[keep], mask, seed)
    rule = rule if search.dimensions is None else search.dimensions
    finding, frame, steps = (
        _answer(question, rule, n_permutations, fdr) if search.is_possible else _no_answer(question, rule)
    )
    summary = describe(finding, clusters, search.left_out)
    parameters = _parameters(finding, summary) | {
        "batch_key": batch_key,
        "obsm_key": obsm_key,
        "clustered": clusters is not None,
        "n_permutations": n_permutations,
        "fdr": fdr,
        "seed": seed,
    }
    tables = {"": frame, _keys.ASSOCIATION_SUFFIX: finding.covariates, _keys.WALK_SUFFIX: steps}
    _stored.store(adata, key_added, tables, parameters, {obsm_key: codes})
    if clusters is not None:
        adata.obs[clusters.name] = clusters
    returned = frame.copy()
    returned.attrs["summary"] = summary
    return returned


def _answer(
    question: _batch_dimensions.Question, rule: str | tuple[int, ...], n_permutations: int, fdr: float
) -> tuple[Finding, pd.DataFrame, pd.DataFrame]:
    """Decide on one half of the cells, report on the other."""
    strata = _batch_dimensions.batch_strata(question)
    decide = _batch_dimensions.deciding_half(question, strata.index)
    half = question.subset(np.flatnonzero(decide))
    frame = _batch_dimensions.weigh_dimensions(half, strata.index[decide], n_permutations)
    half = _batch_dimensions.thin(half, strata.index[decide])
    if not isinstance(rule, str):
        choice = _batch_dimensions.explicit(half, rule)
    elif strata.problem:
        choice = _batch_dimensions.explicit(half, ())
    elif rule == "stepwise":
        choice = _batch_dimensions.stepwise(half, frame, fdr)
    else:
        choice, frame = _batch_dimensions.dominant(half, frame, fdr)
    frame = _batch_dimensions.add_steps(frame, choice)
    covariates = _batch_dimensions.report(question, decide, choice.dimensions)
    refused = isinstance(rule, str) and bool(strata.problem)
    finding = Finding(
        status="refused" if refused else "found" if choice.dimensions else "none",
        rule=rule if isinstance(rule, str) else "explicit",
        choice=choice,
        covariates=covariates,
        strata=strata,
        n_cells=len(decide),
    )
    return finding, frame, choice.steps


def _no_answer(
    question: _batch_dimensions.Question, rule: str | tuple[int, ...]
) -> tuple[Finding, pd.DataFrame, pd.DataFrame]:
    """Where batches or classes have too few cells to be compared."""
    frame, choice, covariates = _batch_dimensions.unknown(question)
    finding = Finding(
        status="not possible",
        rule=rule if isinstance(rule, str) else "explicit",
        choice=choice,
        covariates=covariates,
        strata=_batch_dimensions.Strata(np.zeros(0, dtype=np.int64), (), np.nan, ""),
        n_cells=len(question.codes),
    )
    return finding, frame, choice.steps


def _parameters(finding: Finding, summary: str) -> dict[str, str | int | float]:
    batch = finding.batch
    return {
        "rule": finding.rule,
        "conserve": ", ".join(finding.conserved["covariate"]),
        "status": finding.status,
        "dimensions": ", ".join(map(str, finding.choice.dimensions)),
        "summary": summary,
        "batch_accuracy_before": float(batch["accuracy_before"]),
        "batch_accuracy_after": float(batch["accuracy_after"]),
        "batch_accuracy_expected": float(batch["expected_accuracy"]),
        "effective_cells": float(finding.strata.effective_cells),
        "stratified_by": ", ".join(finding.strata.crossed),
        "n_cells": finding.n_cells,
    }
