"""Set dimensions of an embedding to a constant, and say what that cost."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from scbetavae import metrics
from scbetavae._core import columns
from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.metrics import _batch_dimensions
from scbetavae.metrics._checks import check_positive_integer
from scbetavae.metrics._held_out import leave_out_small
from scbetavae.tl import _batch_inputs, _inputs, _zeroing_inputs, _zeroing_summary
from scbetavae.tl._find_batch_dimensions import find_batch_dimensions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from scbetavae.tl._zeroing_inputs import Cells


def zero_batch_dimensions(  # noqa: PLR0913 - independent choices, each with a default
    adata: AnnData,
    dimensions: int | Iterable[int] | None = None,
    batch_key: str = "batch",
    *,
    conserve: str | Iterable[str] | None = None,
    categorical: str | Iterable[str] | None = None,
    obsm_key: str = _keys.LATENT,
    rule: str = "stepwise",
    to: str = "mean",
    reference_batch: str | None = None,
    donor_key: str | None = None,
    prior_mean: ArrayLike | None = None,
    kl: ArrayLike | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
    key_added: str = _keys.ZEROED,
) -> np.ndarray:
    """Set dimensions of an embedding to a constant, and write the report: batch removed, conserved covariates lost.

    Works on any embedding whose dimensions mean something one by one (a beta-VAE, ICA, PCA); one whose dimensions share
    everything between them has nothing to zero, and the report says so.

    Parameters
    ----------
    adata
        Annotated data with the embedding; not a view.
    dimensions
        Dimensions to set to a constant, counted from 0; ``None`` for those that :func:`find_batch_dimensions` chooses.
    batch_key
        Column of ``.obs`` with the batch.
    conserve
        Columns of ``.obs`` with what must stay, categorical or numeric. ``None`` takes clusters of the embedding, which is
        worse than labels: batch may have shaped them. Cells without a label are left out for that covariate alone.
    categorical
        Conserved columns whose numbers are names of classes, as in :func:`find_batch_dimensions`.
    obsm_key
        Entry of ``.obsm`` with the embedding, of shape (n_cells, n_dims).
    rule
        How :func:`find_batch_dimensions` chooses: ``"stepwise"`` or ``"dominant"``. Unused with ``dimensions``.
    to
        What zeroed dimensions are set to: ``"mean"`` over all cells, ``"reference"``, the mean over the cells of one batch,
        or ``"prior"``, the mean of the prior, given as ``prior_mean``. The constant changes no distance between cells, but it
        is what a decoder sees.
    reference_batch
        That one batch.
    donor_key
        Column of ``.obs`` with the donor of every cell. Classifiers are then tested on held-out donors, and the intervals come
        from a bootstrap over donors.
    prior_mean
        Mean of the prior, of shape (n_dims,) or (n_cells, n_dims). :meth:`scbetavae.model.BetaVAE.zero_batch_dimensions`
        passes it.
    kl
        Mean divergence of the posterior from the prior per dimension, of shape (n_dims,), in nats: dimensions with less
        than 0.01 nats are switched off. :meth:`scbetavae.model.BetaVAE.zero_batch_dimensions` passes it.
    n_bootstrap
        Replicates behind the intervals of the report, at least 0.
    seed
        Seed of all that is drawn.
    key_added
        Name in ``.uns["betavae"]`` of the report, and ending of the entry of ``.obsm``.

    Returns
    -------
    Array of shape (n_cells, n_dims): the embedding with the dimensions set to a constant. Where nothing was chosen, the
    embedding as it was, with a warning.

    Written to ``adata``, all at once and only if everything went well:

    ``.obsm[f"{obsm_key}_{key_added}"]``
        What is returned.
    ``.uns["betavae"][key_added]``
        The report, a DataFrame: :func:`scbetavae.metrics.evaluate_batch_removal`. Where ``dimensions`` were found, it reports
        on cells
        that took no part in choosing them. Dimensions that are switched off take no part, as in all scores; their tiny
        means stay as they are, and trees, which see no scale, may still read batch there.
    ``.uns["betavae"][f"{key_added}_params"]``
        What was zeroed and how, a flat dict, with the ``summary``, a few sentences, and the ``status``. It is decided on
        the 95% intervals of both classifiers: ``"batch remains"`` if one is wholly more than 0.15 above what is expected
        from composition; ``"biology lost"`` if that of ``kept`` is wholly below 95%; ``"undecided"`` if one holds its
        threshold and reaches 0.2 beyond it; else ``"clean"``. ``"batch unknown"`` and ``"nothing zeroed"`` speak for themselves.
    ``.uns["betavae"]["batch_dimensions"]`` and what belongs to it
        What :func:`find_batch_dimensions` writes, if it was asked.

    Raises
    ------
    KeyError
        If a column of ``.obs`` or an entry of ``.obsm`` is not there, with the nearest that is.
    ValueError
        For a view, a dimension that does not exist, all dimensions, an embedding in which no dimension is active, a batch
        with one category, a conserved covariate that is the batch or its alias, and a reference batch that is not there.
    TypeError
        If ``adata`` is no AnnData, the embedding holds no numbers, or the batch is a measurement.

    Warns
    -----
    UserWarning
        If nothing was zeroed, or if zeroing took more than 5% of the accuracy for a conserved covariate, beyond noise, or
        took batch accuracy below what the conserved covariates alone imply.

    See Also
    --------
    find_batch_dimensions : which dimensions hold batch.
    scbetavae.metrics.evaluate_batch_removal : the report, from arrays.
    scbetavae.pl.zeroing : picture of the result.

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
    >>> report = adata.uns["betavae"]["zeroed"]
    >>> report.loc[report["classifier"] == "knn", ["before", "after"]].round(1).abs().to_numpy().tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    >>> adata.uns["betavae"]["zeroed_params"]["status"]
    'clean'
    """
    _inputs.check_writable(adata, key_added)
    check_positive_integer(n_bootstrap, "n_bootstrap", 0)
    codes = _inputs.read_embedding(adata, obsm_key)
    active = metrics.active_dimensions(codes, kl=kl)
    _batch_inputs.check_active(active, obsm_key, None)
    given = None if dimensions is None else _zeroing_inputs.check_dimensions(dimensions, active)
    cells = _zeroing_inputs.read_cells(
        adata, batch_key, codes.shape[1], conserve=conserve, rule=rule, donor_key=donor_key, categorical=categorical
    )
    _zeroing_inputs.check_target(to, reference_batch, cells.batch)
    constants = _zeroing_inputs.make_constants(to, reference_batch, prior_mean, codes, cells.batch)

    # A shell: a mistake that only the search finds leaves no trace.
    obs = adata.obs.assign(**cells.conserved)
    shell = AnnData(obs=obs, obsm={obsm_key: codes}, uns={_keys.UNS: dict(adata.uns.get(_keys.UNS, {}))})
    choice = (
        _take_given(given, cells, codes[:, active], f"{key_added}{_keys.CLUSTERS_SUFFIX}", seed)
        if given is not None
        else _find(shell, cells, obsm_key, rule, active, seed)
    )
    zeroed, zeroed_key = codes.copy(), f"{obsm_key}_{key_added}"
    zeroed[:, choice.dimensions] = constants[:, choice.dimensions]
    report = _make_report(codes[:, active], zeroed[:, active], cells, choice, n_bootstrap, seed)
    summary = (
        _zeroing_summary.judge(report, choice.dimensions, clusters=cells.conserved.empty)
        if choice.dimensions
        else _zeroing_summary.nothing_zeroed(choice.reason)
    )
    parameters = {
        "dimensions": ", ".join(map(str, choice.dimensions)),
        "rule": "explicit" if given is not None else rule,
        "inactive": ", ".join(map(str, np.flatnonzero(~active))),
        "to": to,
        "reference_batch": None if reference_batch is None else columns.class_name(reference_batch),
        "batch_key": batch_key,
        "conserve": ", ".join(map(str, choice.conserved.columns)),
        "clustered": cells.conserved.empty,
        "donor_key": donor_key,
        "obsm_key": obsm_key,
        "zeroed_key": zeroed_key,
        "n_bootstrap": n_bootstrap,
        "seed": seed,
        "status": summary.status,
        "summary": summary.sentence,
    }
    _stored.store(shell, key_added, {"": report}, parameters, {obsm_key: codes, zeroed_key: zeroed})
    kind = getattr(adata.obsm[obsm_key], "dtype", None)
    zeroed = zeroed.astype(kind if kind is not None and np.issubdtype(kind, np.floating) else np.float64, copy=False)
    for name in choice.conserved.columns.difference(adata.obs.columns):
        adata.obs[name] = choice.conserved[name]
    adata.obsm[zeroed_key] = zeroed
    adata.uns[_keys.UNS] = shell.uns[_keys.UNS]
    if summary.warning:
        warnings.warn(summary.warning, UserWarning, stacklevel=2)
    return zeroed.copy()


class _Choice(NamedTuple):
    """What is zeroed, and on which cells the report is made out."""

    dimensions: list[int]
    conserved: pd.DataFrame
    test: np.ndarray | None
    """Mask of the cells that took no part in choosing; ``None`` for all."""
    reason: str
    """Why there are no dimensions."""


def _find(shell: AnnData, cells: Cells, obsm_key: str, rule: str, active: np.ndarray, seed: int) -> _Choice:
    """Dimensions that the rule chooses, and the half of the cells that it did not see."""
    batch_key, conserve = str(cells.batch.name), list(cells.conserved.columns)
    frame = find_batch_dimensions(
        shell,
        batch_key,
        conserve=conserve,
        categorical=[],
        obsm_key=obsm_key,
        rule=rule,
        n_permutations=_zeroing_inputs.N_PERMUTATIONS,
        fdr=_zeroing_inputs.FDR,
        active=active,
        seed=seed,
    )
    summary = frame.attrs["summary"].removeprefix("No dimension is chosen: ").removeprefix("Refused: ")
    if shell.uns[_keys.UNS][f"{_keys.BATCH_DIMENSIONS}{_keys.PARAMS_SUFFIX}"]["status"] == "not possible":
        name = f"{_keys.BATCH_DIMENSIONS}{_keys.CLUSTERS_SUFFIX}"
        nothing = _take_given([], cells, np.asarray(shell.obsm[obsm_key])[:, active], name, seed)
        return nothing._replace(reason=summary.removeprefix("No dimension is chosen, as "))
    conserved = shell.obs[conserve or [f"{_keys.BATCH_DIMENSIONS}{_keys.CLUSTERS_SUFFIX}"]]
    keep = _batch_inputs.Search(cells.batch, conserved, None).without_small().cells
    codes = np.asarray(shell.obsm[obsm_key])[keep]
    question = _batch_dimensions.Question(codes, cells.batch.iloc[keep], conserved.iloc[keep], active, seed)
    decided = _batch_dimensions.deciding_half(question, _batch_dimensions.batch_strata(question).index)
    test = np.zeros(shell.n_obs, dtype=bool)
    test[keep[~decided]] = True
    dimensions = frame.loc[frame["chosen"], "dimension"].tolist()
    return _Choice(sorted(map(int, dimensions)), conserved, test, summary)


def _make_report(
    before: np.ndarray, after: np.ndarray, cells: Cells, choice: _Choice, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """The report, with classes that are too small left out and named in the flags."""
    batch, told = leave_out_small(cells.batch, "batch")
    checked = {name: leave_out_small(column, "class") for name, column in choice.conserved.items()}
    notes = {str(name): note for name, (_, note) in checked.items()} | {str(batch.name): told}
    report = metrics.evaluate_batch_removal(
        before,
        after,
        batch=batch,
        conserved=pd.DataFrame({name: column for name, (column, _) in checked.items()}),
        groups=cells.groups,
        test=choice.test,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    notes = report["covariate"].map(notes).fillna("")
    return report.assign(flag=notes.where(notes != "", report["flag"]))


def _take_given(dimensions: list[int], cells: Cells, codes: np.ndarray, name: str, seed: int) -> _Choice:
    """Dimensions as they are; clusters of the cells, where nothing is conserved by name."""
    conserved = cells.conserved
    if conserved.empty:
        conserved = _batch_inputs.find_clusters(codes, cells.batch, name, seed).to_frame()
    return _Choice(dimensions, conserved, None, "")
