"""Predict cells as they would be under another condition."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from anndata import AnnData
from scipy import sparse
from scvi.data._utils import _get_adata_minify_type

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae._core.columns import class_name
from scbetavae.tl import _counterfactual_design as _design
from scbetavae.tl import _counterfactual_moves as _moves
from scbetavae.tl import _counterfactual_scores as _scores
from scbetavae.tl._count_transport import draw_counts, to_shares, transport_counts

from ._arguments import COUNT_LIKELIHOODS
from ._checks import counts_of

_MINIMUM_KL = 0.01  # nats
_CELLS_AT_ONCE = 1024


class CounterfactualMixin:
    """Predict cells as they would be under another condition."""

    def counterfactual(  # noqa: PLR0913 - independent choices, each with a default
        self,
        covariate: str,
        source: Any,
        target: Any,
        *,
        groupby: str | None = None,
        method: Literal["group_shift", "dimension", "nearest"] = "group_shift",
        dimensions: int | list[int] | None = None,
        exclude: Any = None,
        add_to_observed: bool = True,
        adata: AnnData | None = None,
        seed: int = 0,
        key_added: str = _keys.COUNTERFACTUAL,
    ) -> AnnData:
        r"""Predict the cells of one category as they would be in another.

        The codes of the source cells move, everything else of them is held: their other codes, the covariates that the
        decoder is told, and their library size. The decoder gives gene shares :math:`\rho` before and :math:`\rho'`
        after the move. By default the model's *change* is applied to the counts that were observed: a molecule stays what it
        is with probability :math:`\min(1, \rho'_g / \rho_g)`, and those that leave become genes that rise, in proportion
        to their rise. What the decoder cannot reconstruct of a cell is so kept, and a move by nothing changes nothing.

        Parameters
        ----------
        covariate
            Column of ``.obs`` to change, of categories: for example the condition. Whole numbers are names of categories.
        source, target
            Its categories: of the cells to predict, and what they are to become.
        groupby
            Column of ``.obs`` within whose groups, for example cell types, source and target cells are compared. A group without
            target cells moves by the mean over the groups that have both. Without ``groupby``, categories of different
            composition differ in composition, too.
        method
            ``"group_shift"``: by the difference of the mean codes of target and source cells, in all active dimensions.
            ``"dimension"``: the same in the dimensions alone that carry the covariate.
            ``"nearest"``: each cell by the difference between its 15 nearest target and its 15 nearest source cells, near in
            the dimensions that do not carry it.
        dimensions
            Dimensions that carry the covariate and alone move. By default those that tell at least a tenth of it given the
            group, and the best one.
        exclude
            Groups (values of ``groupby``), or a dict of column and values, whose cells take no part in learning the move,
            so that the prediction can be tested on them. Train the model without their target cells, too: it has
            otherwise seen what it predicts.
        add_to_observed
            Whether the change is applied to the observed counts; otherwise counts are drawn from :math:`\rho'` alone, with the
            noise of counting but not the further spread that real cells have.
        adata
            Cells, with their real target cells where there are any; those of the model unless given.
        seed
            Seed of drawn counts and split halves.
        key_added
            Name of the results in the AnnData that is returned.

        Returns
        -------
        AnnData of the source cells x genes. Nothing of it is written to ``adata``.

        - ``.X``: predicted counts, whole numbers, CSR matrix: each cell has the total that it had. They look like
          measured cells and can go wherever counts go.
        - ``.layers["expected"]``: the expected counts of which ``.X`` is a draw, float32 array. Smooth: its logarithm
          does not compare with that of counts.
        - ``.layers["observed"]``, ``.layers["mean_shift"]``: the counts before, which is to do nothing; and those of the baseline
          that moves the mean log expression of the group, without a model, under the same bookkeeping.
        - ``.obs``: as it was, and ``.obs[key_added]`` with the target category.
        - ``.obsm["X_betavae"]``, ``.obsm["X_" + key_added]``: codes before and after.
        - ``.uns["betavae"][key_added]``: DataFrame, a row a group, method and set of genes: ``group``, ``method``, ``kind``
          (``"prediction"``, ``"baseline"``, ``"ceiling"``), ``genes`` (``"all"``, or ``"top_50"`` that differ most between source
          and target), ``n_genes``, ``relative_error``, ``r2``, ``n_source_cells``, ``n_target_cells``, ``held_out``, ``flag``.
          The
          error ratio is :math:`|m - m_\text{target}|^2 / |m_\text{source} - m_\text{target}|^2` of the means over
          cells of log(1 + counts per 10 000); ``r2`` is the squared correlation of :math:`m` and :math:`m_\text{target}`, which
          flatters. ``"split_half"`` is half of the target cells predicted by the other half. Both are missing, with the
          reason in ``flag``, for a group without target cells, and where either category has fewer than 4 cells. Where
          ``held_out`` is false the move was learnt from the cells that it is compared with.
        - ``.uns["betavae"][key_added + "_genes"]``: DataFrame, a row a group and gene: these means in columns ``source``,
          ``target``, ``predicted`` and ``mean_shift``, and ``rank`` (1: differs most; 0: no target cells), ``held_out``.
        - ``.uns["betavae"][key_added + "_params"]``: flat dict of what was done.

        Raises
        ------
        KeyError
            For a column that is not there, with the nearest that is.
        TypeError
            If the covariate or the groups hold numbers with fractions.
        ValueError
            For missing labels; unknown, equal or empty categories; groups from which no move can be learnt; unknown
            dimensions or methods; a decoder that is told the covariate; a collapsed or minified model.
        RuntimeError
            If the model is not trained.

        See Also
        --------
        decode : expression of any codes.
        scbetavae.pl.counterfactual : a picture of the result.

        References
        ----------
        :cite:p:`Lotfollahi2019`

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.simulate_counts(300, 100)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata)
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=5, enable_progress_bar=False, accelerator="cpu")
        >>> predicted = model.counterfactual("condition", "control", "treated", groupby="cell_type", exclude="type_0")
        >>> predicted.shape
        (150, 100)
        >>> table = predicted.uns["betavae"]["counterfactual"]
        >>> table.loc[table["held_out"], ["method", "genes"]].head(2).values.tolist()
        [['group_shift', 'all'], ['group_shift', 'top_50']]
        """
        self._check_if_trained(warn=False)
        adata = self._cells_to_move(adata)
        _check_choices(method, key_added, seed, adata)
        named = _moves.read_dimensions(dimensions, self.module.n_latent)
        design = _design.read_design(adata.obs, covariate, source, target, groupby, exclude)
        self._check_not_told(covariate, source, target)
        adata = self._validate_anndata(adata)
        codes, active = self._codes_to_move(adata)
        move = _moves.move_codes(codes, design, method, named, active)

        counts = sparse.csr_matrix(counts_of(adata, self.registry_["setup_args"].get("layer"))[0])
        is_count = self.module.gene_likelihood in COUNT_LIKELIHOODS
        # A stream each: the baseline is the same whatever the method.
        rng, rng_baseline = (np.random.default_rng([seed, stream]) if is_count else None for stream in (0, 1))
        predicted, expected = self._predict_counts(adata, counts, codes, move.codes, design, rng, add_to_observed)
        baseline = _shift_means(counts, design, rng_baseline)
        observed = counts[design.source]
        cells = _scores.Predicted(observed, predicted, baseline)
        scores, genes = _scores.score_prediction(counts, cells, design, method, seed)
        genes["gene"] = np.asarray(adata.var_names.astype(str), dtype=object)[genes["gene"]]
        flags = scores["flag"]
        parameters = {
            "status": "not possible" if flags.str.startswith("not possible").all() else "predicted",
            "summary": "; ".join(flag for flag in flags.unique() if flag),
            "covariate": covariate,
            "source": class_name(source),
            "target": class_name(target),
            "groupby": groupby or "",
            "method": method,
            "moved_dimensions": _join(move.moved),
            "carrying_dimensions": _join(move.carrying),
            "learnt_from": ", ".join(design.teachers),
            "exclude": _design.describe_exclude(exclude, groupby),
            "add_to_observed": bool(add_to_observed),
            "seed": int(seed),
        }
        result = _assemble(adata, design, cells, expected)
        result.obs[key_added] = class_name(target)
        result.obsm[_keys.LATENT] = codes[design.source]
        result.obsm[f"X_{key_added}"] = moved = move.codes.astype(np.float32)
        _stored.store(result, key_added, {"": scores, _keys.GENES_SUFFIX: genes}, parameters, {f"X_{key_added}": moved})
        return result

    def _cells_to_move(self, adata: AnnData | None) -> AnnData:
        adata = self.adata if adata is None else adata
        if adata is None:
            msg = "The model was trained on a data module and holds no cells: counterfactual(..., adata=...)."
            raise ValueError(msg)
        if not isinstance(adata, AnnData):
            msg = (
                f"adata is a {type(adata).__name__}, not an AnnData. Wrap a matrix of counts: anndata.AnnData(matrix)."
            )
            raise TypeError(msg)
        if _get_adata_minify_type(adata) is not None:
            msg = "The cells are minified: their counts, which a counterfactual changes, are gone. Pass adata= with counts."
            raise ValueError(msg)
        return adata

    def _check_not_told(self, covariate: str, source: Any, target: Any) -> None:
        """Refuse a covariate that the decoder is told: it is not in the codes."""
        arguments = self.registry_["setup_args"]
        is_batch = self.module.condition_on_batch and arguments.get("batch_key") == covariate
        if is_batch:
            msg = (
                f"The decoder is told {covariate!r} (condition_on_batch=True), so that it is not in the codes that would move. "
                f"Decode the {source!r} cells as the other batch: model.get_normalized_expression(indices=adata.obs["
                f"{covariate!r}] == {source!r}, transform_batch={target!r}); or train without condition_on_batch."
            )
            raise ValueError(msg)
        told = [
            *(arguments.get("categorical_covariate_keys") or ()),
            *(arguments.get("continuous_covariate_keys") or ()),
        ]
        if covariate in told:
            msg = (
                f"The decoder is told {covariate!r}, a covariate of setup_anndata, so that it is not in the codes that would "
                f"move. Decode with another value: model.decode(z, adata=adata, covariates={{{covariate!r}: {target!r}}}); or "
                "set the data up without it."
            )
            raise ValueError(msg)

    def _codes_to_move(self, adata: AnnData) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means, and which dimensions the model uses."""
        if self.module.latent_distribution == "ln":
            msg = (
                'Codes of latent_distribution="ln" are shares that sum to 1, and a shift would leave their simplex. '
                'Train with latent_distribution="normal".'
            )
            raise ValueError(msg)
        codes, kl, _ = self._posterior(adata)
        active = np.asarray(kl) > _MINIMUM_KL
        if not active.any():
            msg = (
                f"All {len(active)} latent dimensions have collapsed to the prior (below {_MINIMUM_KL} nats each), so there is "
                "nothing to move. Train longer, or with a smaller beta."
            )
            raise ValueError(msg)
        return codes, active

    def _predict_counts(
        self,
        adata: AnnData,
        counts: sparse.csr_matrix,
        codes: np.ndarray,
        moved: np.ndarray,
        design: _design.Design,
        rng: np.random.Generator | None,
        add_to_observed: bool,
    ) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Predicted counts of the source cells and what is expected of them."""
        rows = np.flatnonzero(design.source)
        expected = np.empty((len(rows), counts.shape[1]), dtype=np.float32)
        drawn = []
        arguments = self.registry_["setup_args"]
        told = self.module.condition_on_batch or any(
            arguments.get(f"{kind}_covariate_keys") for kind in ("categorical", "continuous")
        )
        for start in range(0, len(rows), _CELLS_AT_ONCE):
            part = slice(start, start + _CELLS_AT_ONCE)
            here = rows[part]
            cells = {"adata": adata, "indices": here} if told else {}
            after = self.decode(moved[part], **cells)
            if add_to_observed:
                before = self.decode(codes[here], **cells)
                expected[part], draw = transport_counts(counts[here], before, after, rng)
            else:
                totals = np.asarray(counts[here].sum(axis=1))
                expected[part] = totals * to_shares(after)
                draw = None if rng is None else draw_counts(totals.ravel(), after, rng)
            drawn.append(sparse.csr_matrix(expected[part]) if draw is None else draw)
        return sparse.vstack(drawn, format="csr"), expected


def _check_choices(method: str, key_added: str, seed: int, adata: AnnData) -> None:
    if method not in _moves.METHODS:
        msg = f"method={method!r} is not known. Take one of {list(_moves.METHODS)}."
        raise ValueError(msg)
    if not isinstance(key_added, str) or not key_added or "/" in key_added:
        msg = f"key_added={key_added!r} cannot be stored: give a name that is not empty and has no '/'."
        raise ValueError(msg)
    if key_added in adata.obs or f"X_{key_added}" == _keys.LATENT:
        msg = f"key_added={key_added!r} would replace what the cells already have in .obs or .obsm. Give another name."
        raise ValueError(msg)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        msg = f"seed={seed!r} is not a whole number of at least 0."
        raise ValueError(msg)


def _shift_means(
    counts: sparse.csr_matrix, design: _design.Design, rng: np.random.Generator | None
) -> sparse.csr_matrix:
    """Counts of the source cells under the baseline of mean expression."""
    observed = counts[design.source]
    of_source = design.group[design.source]
    order, parts = [], []
    for group, shift in _scores.mean_shifts(counts, design).items():
        here = np.flatnonzero(of_source == group)
        for start in range(0, len(here), _CELLS_AT_ONCE):
            rows = here[start : start + _CELLS_AT_ONCE]
            expected, draw = transport_counts(observed[rows], shift.before[None], shift.after[None], rng)
            order.append(rows)
            parts.append(sparse.csr_matrix(expected) if draw is None else draw)
    return sparse.vstack(parts, format="csr")[np.argsort(np.concatenate(order))]


def _assemble(
    adata: AnnData,
    design: _design.Design,
    cells: _scores.Predicted,
    expected: np.ndarray,
) -> AnnData:
    """The predicted cells."""
    obs = adata[design.source].obs.copy()
    return AnnData(
        cells.predicted.astype(np.float32),
        obs=obs[[name for name in obs if not str(name).startswith("_scvi_")]],
        var=adata.var.copy(),
        layers={
            _keys.EXPECTED: expected,
            _keys.OBSERVED: cells.observed.astype(np.float32),
            _keys.MEAN_SHIFT: cells.mean_shift.astype(np.float32),
        },
    )


def _join(mask: np.ndarray) -> str:
    return ", ".join(str(i) for i in np.flatnonzero(mask))
