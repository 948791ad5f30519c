"""Predict cells as they would be under another condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scvi.data._utils import _get_adata_minify_type

from scbetavae._core import keys, results
from scbetavae._core.checks import check_dimensions, check_whole_number, read_options
from scbetavae._core.columns import obs_of
from scbetavae._core.constants import ACTIVE_KL
from scbetavae._core.options import CounterfactualOptions

from ._checks import counts_of
from ._count_transport import draw_counts, to_shares, transport_counts
from ._counterfactual_decoder import (
    DECODER_METHODS,
    Change,
    change_to,
    effect_intervals,
    library_ratio,
    move_guided,
    resolve_method,
)
from ._counterfactual_design import Design, combine_covariates, describe_exclude, read_design, read_levels
from ._counterfactual_moves import move_cells
from ._counterfactual_scores import CELLS_AT_ONCE, Predicted, mean_shift_counts, score_prediction
from ._decoding_inputs import has_conditions
from ._latent import Latent, cells_of, compute_latent
from ._registered_cells import COUNT_LIKELIHOODS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._betavae import BetaVAE


_DEFAULTS: dict[str, Any] = {"add_to_observed": True, "seed": 0, "key_added": keys.COUNTERFACTUAL}


def counterfactual(  # noqa: PLR0913 - self and eight arguments
    self: BetaVAE,
    covariate: str | Mapping[str, tuple[Any, Any]],
    source: Any = None,
    target: Any = None,
    *,
    groupby: str | None = None,
    method: Literal["group_shift", "dimension", "nearest", "guided", "conditioned"] | None = None,
    dimensions: int | list[int] | None = None,
    exclude: Any = None,
    adata: AnnData | None = None,
    **options: Unpack[CounterfactualOptions],
) -> AnnData:
    r"""Predict the cells of one category as they would be in another.

    The source cells move in the latent space; their other dimensions, the covariates that the decoder is conditioned on, and
    their library size stay. If the covariate is guided, its dimensions move to the target level. The decoder gives gene shares
    :math:`\rho` before and :math:`\rho'` after the move. By default the model's *change* is applied to the observed counts: a
    molecule stays what it is with probability :math:`\min(1, \rho'_g / \rho_g)`, and those that leave become genes that rise, in
    proportion to their rise. So what the decoder cannot reconstruct of a cell is kept, and a move of length 0 changes nothing.

    Parameters
    ----------
    covariate
        Column of ``.obs`` to change, of categories: for example the condition. Whole numbers are names of categories. For several
        at once, a dict of columns and their categories: ``{"condition": ("ctrl", "stim"), "donor": ("d1", "d2")}``.
    source, target
        Its categories: of the cells to predict, and the one to predict.
    groupby
        Column of ``.obs`` within whose groups, for example cell types, source and target cells are compared. A group without
        target cells moves by the mean over the groups that have both. Without ``groupby``, the change includes differences in
        composition.
    method
        ``"group_shift"``: by the difference of the means of target and source cells, in all active dimensions. ``"dimension"``:
        the same, only in the dimensions that encode the covariate. ``"nearest"``: each cell by the difference between its 15
        nearest target and its 15 nearest source cells, nearest in the dimensions that do not encode it. ``"guided"``, the default
        for guided covariates: to the coordinates of the target level. ``"conditioned"``, the default for covariates that the
        decoder is conditioned on: not at all; the decoder's batch or category changes.
    dimensions
        Dimensions that encode the covariate; only these move. By default those with at least a tenth of its entropy given the
        group as mutual information, and the best one.
    exclude
        Groups (values of ``groupby``), or a dict of column and values, whose cells the change is not estimated from, so that the
        prediction can be tested on them. Train the model without their target cells, too: otherwise it has seen what it predicts.
    adata
        Cells, with their real target cells where there are any; those of the model unless given.
    **options
        ``add_to_observed`` (``True`` by default): whether the change is applied to the observed counts; otherwise counts are
        drawn from :math:`\rho'` alone, with counting noise but without the further spread of real cells. ``seed`` (0) of drawn
        counts and split halves. ``key_added`` (``"counterfactual"``): name of the results in the AnnData that is returned.

    Returns
    -------
    AnnData of the source cells x genes. Nothing is written to ``adata``.

    - ``.X``: predicted counts, integers, CSR matrix: each cell keeps its total. They can be used wherever counts can.
    - ``.layers["expected"]``: the expected counts of which ``.X`` is a draw, float32 array. Its logarithm is smoother than
      that of counts and cannot be compared with it. With ``"guided"`` and ``"conditioned"`` observed counts plus the difference
      of the decoder's expected counts, at least 0; the library size of the target changes by the ratio seen in other groups if
      these agree on it (standard deviation of the log ratio below 0.2): ``library_ratio`` in the parameters, else 1.
    - ``.layers["observed"]``, ``.layers["mean_shift"]``: the counts before, which are the no-change baseline; and those of the
      mean-shift baseline, which moves the mean log expression of the group without a model, under the same transport.
    - ``.obs``: as before, and ``.obs[key_added]`` with the target category.
    - ``.obsm["X_betavae"]``, ``.obsm["X_" + key_added]``: posterior means before and after.
    - ``.uns["betavae"][key_added]``: DataFrame with one row per group, method and set of genes: ``group``, ``method``, ``kind``
      (``"prediction"``, ``"baseline"``, ``"ceiling"``), ``genes`` (``"all"``, or ``"top_50"`` that differ most between source
      and target), ``n_genes``, ``relative_error``, ``r2``, ``n_source_cells``, ``n_target_cells``, ``held_out``, ``flag``. The
      relative error is :math:`|m - m_\text{target}|^2 / |m_\text{source} - m_\text{target}|^2` of the means over cells of
      log(1 + counts per 10 000); ``r2`` is the squared correlation of :math:`m` and :math:`m_\text{target}`, which is high for
      any prediction. ``"split_half"`` is half of the target cells predicted by the other half. Both are missing, with the
      reason in ``flag``, for a group without target cells, and where either category has fewer than 4 cells. Where
      ``held_out`` is false the change was estimated from the cells that it is compared with.
    - ``.uns["betavae"][key_added + "_genes"]``: DataFrame with one row per group and gene: these means in columns ``source``,
      ``target``, ``predicted`` and ``mean_shift``, and ``rank`` (1: differs most; 0: no target cells), ``held_out``. With
      ``"guided"`` and ``"conditioned"``, ``log2_fold_change``, ``ci_low`` and ``ci_high`` are the decoder's mean change and its
      95% interval over draws from the posterior.
    - ``.uns["betavae"][key_added + "_params"]``: flat dict of what was done.

    Raises
    ------
    KeyError
        For a column that does not exist, with the nearest that does.
    TypeError
        If the covariate or the groups hold numbers with fractions.
    ValueError
        For missing labels; unknown, equal or empty categories; groups from which no change can be estimated; unknown dimensions
        or methods; a method that does not go with how the decoder reads the covariate; a collapsed or minified model.

    See Also
    --------
    decode : expression at any latent coordinates.
    scbetavae.pl.counterfactual : plot of the result.

    References
    ----------
    :cite:p:`Lotfollahi2019`

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(300, 100)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata)
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=5, enable_progress_bar=False)
    >>> predicted = model.counterfactual("condition", "control", "treated", groupby="cell_type", exclude="type_0")
    >>> predicted.shape
    (150, 100)
    >>> table = predicted.uns["betavae"]["counterfactual"]
    >>> table.loc[table["held_out"], ["method", "genes"]].head(2).values.tolist()
    [['group_shift', 'all'], ['group_shift', 'top_50']]
    """
    add_to_observed, seed, key_added = read_options(counterfactual, options, _DEFAULTS).values()
    self._check_if_trained(warn=False)
    adata = cells_of(self, adata, "counterfactual(..., adata=...)")
    _check_cells(adata, key_added)
    check_whole_number(seed, "seed")
    named = None if dimensions is None else check_dimensions(dimensions, self.module.n_dimensions)
    levels = read_levels(covariate, source, target)
    obs, covariate, source, target = combine_covariates(obs_of(adata), levels)
    design = read_design(obs, covariate, source, target, groupby, exclude)
    chosen = resolve_method(self, method, levels, named)
    adata = self._validate_anndata(adata)
    latent = _latent_to_move(self, adata)
    change = None
    if chosen in DECODER_METHODS:
        change = change_to(self, {name: to for name, (_, to) in levels.items()}, chosen)
        moved, has_moved = move_guided(self, latent.means[design.source], change)
        encoding = has_moved
    else:
        moved, has_moved, encoding = move_cells(latent.means, design, chosen, named, latent.active)
    counts = sparse.csr_matrix(counts_of(adata, self.registry_["setup_args"].get("layer"))[0])
    is_count = self.module.gene_likelihood in COUNT_LIKELIHOODS
    # A stream each: the baseline is the same for every method.
    rng, rng_baseline = (np.random.default_rng([seed, stream]) if is_count else None for stream in (0, 1))
    predicted, expected = _predict_counts(
        self, adata, counts, latent.means, moved, design, rng, add_to_observed, change
    )
    cells = Predicted(counts[design.source], predicted, mean_shift_counts(counts, design, rng_baseline))
    scores, genes = score_prediction(counts, cells, design, chosen, seed)
    ratio = None
    if change is not None:
        genes = pd.concat([genes, _effects(self, adata, design, latent, change, seed)], axis=1)
        ratio = library_ratio(np.asarray(counts.sum(axis=1)).ravel(), design)
        expected = expected * np.float32(ratio)
    genes["gene"] = np.asarray(adata.var_names.astype(str), dtype=object)[genes["gene"]]
    parameters = _describe(design, scores) | {
        "covariate": covariate,
        "source": source,
        "target": target,
        "groupby": groupby or "",
        "method": chosen,
        "moved_dimensions": ", ".join(map(str, np.flatnonzero(has_moved))),
        "encoding_dimensions": ", ".join(map(str, np.flatnonzero(encoding))),
        "exclude": describe_exclude(exclude, groupby),
        "add_to_observed": bool(add_to_observed),
        "seed": int(seed),
        "library_ratio": ratio,
    }
    result = _assemble(adata, design, cells, expected)
    result.obs[key_added] = target
    result.obsm[keys.LATENT] = latent.means[design.source]
    result.obsm[f"X_{key_added}"] = moved = moved.astype(np.float32)
    results.store(result, key_added, {"": scores, keys.GENES_SUFFIX: genes}, parameters, {f"X_{key_added}": moved})
    return result


def _check_cells(adata: AnnData, key_added: str) -> None:
    """Refuse what is not an AnnData with counts, and a name that cannot be stored or is in use."""
    if not isinstance(adata, AnnData):
        msg = f"adata is a {type(adata).__name__}, not an AnnData. Wrap a matrix of counts: anndata.AnnData(matrix)."
        raise TypeError(msg)
    if _get_adata_minify_type(adata) is not None:
        msg = (
            "The cells are minified, so the counts that a counterfactual changes are missing. Pass adata= with counts."
        )
        raise ValueError(msg)
    if not isinstance(key_added, str) or not key_added or "/" in key_added:
        msg = f"key_added={key_added!r} cannot name a result. Pass a name that is not empty and contains no '/'."
        raise ValueError(msg)
    if key_added in adata.obs or f"X_{key_added}" == keys.LATENT:
        msg = f"key_added={key_added!r} would replace what the cells already have in .obs or .obsm. Pass another name."
        raise ValueError(msg)


def _latent_to_move(self: BetaVAE, adata: AnnData) -> Latent:
    """The latent representation, if it can be moved."""
    if self.module.latent_distribution == "ln":
        msg = (
            'With latent_distribution="ln" the latent representation consists of shares that sum to 1, and a shift would leave '
            'their simplex. Train with latent_distribution="normal".'
        )
        raise ValueError(msg)
    latent = compute_latent(self, adata)
    if not latent.active[: self.module.n_latent].any() and self.module.guided is None:
        msg = (
            f"All {len(latent.active)} latent dimensions have collapsed to the prior (below {ACTIVE_KL} nats each), so there "
            "is nothing to move. Train longer, or with a smaller beta."
        )
        raise ValueError(msg)
    return latent


def _predict_counts(  # noqa: PLR0913 - one call in one place
    self: BetaVAE,
    adata: AnnData,
    counts: sparse.csr_matrix,
    means: np.ndarray,
    moved: np.ndarray,
    design: Design,
    rng: np.random.Generator | None,
    add_to_observed: bool,
    change: Change | None,
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Predicted counts of the source cells and their expectation."""
    rows = np.flatnonzero(design.source)
    expected = np.empty((len(rows), adata.n_vars), dtype=np.float32)
    drawn = []
    for start in range(0, len(rows), CELLS_AT_ONCE):
        part = slice(start, start + CELLS_AT_ONCE)
        here = rows[part]
        cells = {"adata": adata, "indices": here} if has_conditions(self) else {}
        after = self.decode(moved[part], **cells, **({} if change is None else change.arguments))
        totals = np.asarray(counts[here].sum(axis=1))
        if add_to_observed:
            before = self.decode(means[here], **cells)
            expected[part], draw = transport_counts(counts[here], before, after, rng)
            if change is not None:
                expected[part] = np.maximum(
                    counts[here].toarray() + totals * (to_shares(after) - to_shares(before)), 0.0
                )
        else:
            expected[part] = totals * to_shares(after)
            draw = None if rng is None else draw_counts(totals.ravel(), after, rng)
        drawn.append(sparse.csr_matrix(expected[part]) if draw is None else draw)
    return sparse.csr_matrix(sparse.vstack(drawn)), expected


def _describe(design: Design, scores: pd.DataFrame) -> dict[str, str]:
    """Whether a prediction could be scored, why not, and the groups that the change is estimated from."""
    is_possible = any(design.too_small(group).is_possible for group in design.groups)
    return {
        "status": "predicted" if is_possible else "not possible",
        "summary": "; ".join(flag for flag in scores["flag"].unique() if flag),
        "estimated_from": ", ".join(design.training_groups),
    }


def _effects(self: BetaVAE, adata: AnnData, design: Design, latent: Latent, change: Change, seed: int) -> pd.DataFrame:
    """Fold changes of the decoder, one row per group and gene."""
    rows, of_source = np.flatnonzero(design.source), design.group[design.source]
    found = [effect_intervals(self, adata, rows[of_source == g], latent, change, seed) for g in design.groups]
    return pd.DataFrame(np.concatenate(found, axis=1).T, columns=["log2_fold_change", "ci_low", "ci_high"])


def _assemble(adata: AnnData, design: Design, cells: Predicted, expected: np.ndarray) -> AnnData:
    """The predicted cells."""
    obs = obs_of(adata[design.source])  # without the categories that only others have
    return AnnData(
        cells.predicted.astype(np.float32),
        obs=obs.drop(columns=[name for name in obs if str(name).startswith("_scvi_")]),
        var=cast("pd.DataFrame", adata.var).copy(),
        layers={
            keys.EXPECTED: expected,
            keys.OBSERVED: cells.observed.astype(np.float32),
            keys.MEAN_SHIFT: cells.mean_shift.astype(np.float32),
        },
    )
