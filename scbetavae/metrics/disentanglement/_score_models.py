"""Rows of `score_frame` that come from fitted models: DCI and explicitness."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from scbetavae.metrics import _held_out
from scbetavae.metrics._checks import Covariate, take_cells
from scbetavae.metrics._contingency import count_tables
from scbetavae.metrics._resampling import Blocks, permute_values
from scbetavae.metrics.disentanglement import _dci, _dci_fits, _explicitness
from scbetavae.metrics.disentanglement._evidence import Evidence
from scbetavae.metrics.disentanglement._layout import Views

DCI_METRICS = ("dci_disentanglement", "dci_completeness", "dci_informativeness")
MAXIMUM_CELLS = 10_000
"""Models are fitted on at most this many cells, drawn at random."""

MAXIMUM_REFITS = 4
"""Permutations for which trees are fitted again."""

MAXIMUM_AREA_REPLICATES = 50
"""Bootstrap replicates of the area under the curve, which has to be sorted anew for each."""


class ModelInputs(NamedTuple):
    """What `score_frame` hands over."""

    codes: np.ndarray
    active: np.ndarray
    covariates: list[Covariate]
    groups: np.ndarray | None
    blocks: Blocks
    oracle: np.ndarray
    """(n_defined, n_cells)"""
    defined: list[Evidence]
    n_permutations: int
    seed: int


def model_scores(inputs: ModelInputs, metrics: list[str]) -> dict[tuple[str, str], Views]:
    """Scores of the fitted models among ``metrics``."""
    with_dci = any(metric in DCI_METRICS for metric in metrics)
    if not with_dci and "explicitness" not in metrics:
        return {}
    sampled = _sample(inputs)
    scores = _dci_scores(sampled) if with_dci else {}
    if "explicitness" in metrics:
        scores |= _explicitness_scores(sampled)
    if len(sampled.codes) == len(inputs.codes):
        return scores
    note = f"on {len(sampled.codes)} sampled cells"
    return {key: replace(score, flag="; ".join(filter(None, (score.flag, note)))) for key, score in scores.items()}


def _sample(inputs: ModelInputs) -> ModelInputs:
    n_cells = len(inputs.codes)
    if n_cells <= MAXIMUM_CELLS:
        return inputs
    index = np.sort(np.random.default_rng(inputs.seed).choice(n_cells, MAXIMUM_CELLS, replace=False))
    return inputs._replace(
        codes=inputs.codes[index],
        covariates=[take_cells(covariate, index) for covariate in inputs.covariates],
        groups=None if inputs.groups is None else inputs.groups[index],
        blocks=inputs.blocks._replace(index=inputs.blocks.index[index]),
        oracle=inputs.oracle[:, index],
    )


def _dci_scores(inputs: ModelInputs) -> dict[tuple[str, str], Views]:
    names = [covariate.name for covariate in inputs.covariates]
    values = inputs.codes[:, inputs.active]
    values = _dci_fits.bin_for_trees(values) if values.size else values
    fits = _dci_fits.fit_all(values, inputs.covariates, inputs.active, inputs.groups, seed=inputs.seed)
    result = _dci.assemble(fits, inputs.active, names)
    ceiling = _dci_ceiling(inputs)
    null = _dci_null(inputs, values)
    errors = _jackknife(result)
    n_folds = len(result._replicates)
    scores: dict[tuple[str, str], Views] = {}
    nothing = np.zeros(0)
    nulls_of_accuracy, accuracies = [], []
    for column, (name, fit) in enumerate(zip(names, fits, strict=True)):
        row, top = result.per_factor.loc[name], ceiling.get(name, (np.nan, np.nan))
        if fit.undefined:
            continue
        value = row["completeness"] if fit.votes or not np.isnan(row["completeness"]) else 0.0
        flag = "" if fit.votes else "no accuracy above permuted labels"
        value = np.nan if inputs.active.sum() == 1 else value
        scores["dci_completeness", name] = Views(
            value, null[:, 2 + column], nothing, top[0], flag, errors[2 + column], n_folds, row["p_value"]
        )
        replicates = nothing if fit.predicted is None else _bootstrap_accuracy(fit, inputs.blocks)
        accuracy_null = fit.null if len(fit.null) and inputs.n_permutations else nothing
        scores["dci_informativeness", name] = Views(fit.accuracy, accuracy_null, replicates, top[1])
        if len(fit.null):
            nulls_of_accuracy.append(fit.null)
            accuracies.append(fit.accuracy)
    n_voting = int(result.per_factor["votes"].sum())
    defined = not all(fit.undefined for fit in fits)
    flag = (
        f"{('no', 'only one')[n_voting]} covariate with accuracy above permuted labels"
        if defined and n_voting < 2
        else ""
    )
    p_value = np.nan
    if accuracies and inputs.n_permutations:
        mean_null = np.mean(nulls_of_accuracy, axis=0)
        p_value = (1 + (mean_null >= np.mean(accuracies) - 1e-12).sum()) / (1 + len(mean_null))
    top = ceiling.get("all", (np.nan, np.nan))
    for i, metric in enumerate(DCI_METRICS[:2]):
        overall = (result.disentanglement, result.completeness)[i] if defined else np.nan
        scores[metric, "all"] = Views(overall, null[:, i], nothing, top[i], flag, errors[i], n_folds, p_value)
    return scores


def _dci_ceiling(inputs: ModelInputs) -> dict[str, tuple[float, float]]:
    """(disentanglement, completeness) under ``"all"``; (completeness, informativeness) for each covariate."""
    if not inputs.defined or not inputs.active.any():
        return {}
    by_name = {covariate.name: covariate for covariate in inputs.covariates}
    names = [evidence.covariate.name for evidence in inputs.defined]
    mask = np.ones(len(inputs.oracle), dtype=bool)
    codes = _dci_fits.bin_for_trees(inputs.oracle.T)
    fits = _dci_fits.fit_all(codes, [by_name[name] for name in names], mask, inputs.groups, seed=inputs.seed)
    result = _dci.assemble(fits, mask, names, n_codes=int(inputs.active.sum()))
    per_factor = result.per_factor
    ceilings = {
        name: (float(per_factor.loc[name, "completeness"]), float(per_factor.loc[name, "informativeness"]))
        for name in names
    }
    return ceilings | {"all": (result.disentanglement, result.completeness)}


def _dci_null(inputs: ModelInputs, values: np.ndarray) -> np.ndarray:
    """Disentanglement, completeness, and completeness of every covariate, for permuted covariates; a row per refit."""
    n_covariates = len(inputs.covariates)
    n_refits = min(inputs.n_permutations, MAXIMUM_REFITS)
    rows = np.zeros((n_refits, 2 + n_covariates))
    if not inputs.active.any():
        return rows
    # How often a permuted covariate votes is known. A few refits cannot show it, so it enters as a factor.
    level = _dci_fits.vote_level(n_covariates)
    any_votes = 1 - (1 - level) ** n_covariates
    two_vote = any_votes - n_covariates * level * (1 - level) ** (n_covariates - 1)
    rng = np.random.default_rng(inputs.seed + 1)
    for i in range(n_refits):
        columns = [
            _dci_fits.first_fold_importance(values, _permuted(c, inputs.groups, rng), inputs.groups, inputs.seed + i)
            for c in inputs.covariates
        ]
        importance = np.stack(columns, axis=1)
        disentanglement, completeness = _dci.scores_of(importance, importance.sum(axis=0) > 0)
        per_covariate = _dci.per_row_disentanglement(importance.T) * level
        rows[i] = [disentanglement * two_vote, completeness * any_votes, *per_covariate]
    return np.nan_to_num(rows)


def _permuted(covariate: Covariate, groups: np.ndarray | None, rng: np.random.Generator) -> Covariate:
    present = covariate.present
    members = None if groups is None else np.unique(groups[present], return_inverse=True)[1].reshape(-1)
    column = (covariate.values if covariate.is_numeric else covariate.labels).copy()
    column[present] = permute_values(column[present], members, rng, classes=not covariate.is_numeric)
    return replace(covariate, values=column) if covariate.is_numeric else replace(covariate, labels=column)


def _jackknife(result: _dci.DCIResult) -> np.ndarray:
    """Standard errors of disentanglement, completeness, and completeness of every covariate, from the folds."""
    folds = result._replicates
    votes = result.per_factor["votes"].to_numpy(dtype=bool)
    n_folds = len(folds)
    if n_folds < 2 or folds.shape[1] == 0:
        return np.full(2 + len(votes), np.nan)
    rows = [[*_dci.scores_of(fold, votes), *_dci.per_row_disentanglement(fold.T)] for fold in folds]
    return np.sqrt((n_folds - 1) ** 2 / n_folds * np.var(np.array(rows, dtype=float), axis=0, ddof=1))


def _bootstrap_accuracy(fit: _dci_fits.Fit, blocks: Blocks) -> np.ndarray:
    """Accuracy of the held-out predictions over resampled blocks."""
    target, of_cell = fit.target, blocks.index[fit.target.keep]
    if target.n_classes:
        confusion = count_tables(
            fit.predicted[None],
            target.values,
            target.n_classes,
            target.n_classes,
            blocks=of_cell,
            n_blocks=blocks.n_blocks,
        )[:, 0]
        return _held_out.balanced_accuracy(np.tensordot(blocks.weights, confusion, axes=1))
    aim, guess = target.values - target.values.mean(), fit.predicted - fit.predicted.mean()
    columns = (np.ones(len(aim)), aim, guess, aim**2, guess**2, aim * guess)
    sums = np.stack([np.bincount(of_cell, weights=column, minlength=blocks.n_blocks) for column in columns])
    n, aims, guesses, aim_squares, guess_squares, products = sums @ blocks.weights.T
    n = np.maximum(n, 1)
    return _held_out.signed_square(
        products - aims * guesses / n, guess_squares - guesses**2 / n, aim_squares - aims**2 / n
    )


def _explicitness_scores(inputs: ModelInputs) -> dict[tuple[str, str], Views]:
    scores: dict[tuple[str, str], Views] = {}
    rng = np.random.default_rng(inputs.seed + 2)
    for covariate in inputs.covariates:
        target = _held_out.make_target(covariate)
        if target.problem:
            continue
        predicted = _explicitness.held_out_scores(inputs.codes[:, inputs.active], covariate, inputs.groups, inputs.seed)
        if predicted is None:
            continue
        members = (
            None if inputs.groups is None else np.unique(inputs.groups[target.keep], return_inverse=True)[1].reshape(-1)
        )
        ranks = stats.rankdata(predicted, axis=0)

        def area(values: np.ndarray, ranks: np.ndarray = ranks, target: _held_out.Target = target) -> float:
            if target.n_classes:
                complete = len(np.unique(values)) == target.n_classes
                return _explicitness.mean_area(ranks, values, target.n_classes) if complete else np.nan
            return _explicitness.concordance(ranks, _held_out.Target(target.keep, values, 0, ""))

        null = np.array(
            [
                area(permute_values(target.values, members, rng, classes=target.n_classes > 0))
                for _ in range(inputs.n_permutations)
            ]
        )
        replicates = _bootstrap_area(predicted, target, inputs.blocks)
        scores["explicitness", covariate.name] = Views(
            _explicitness.concordance(predicted, target), null, replicates, 1.0
        )
    return scores


def _bootstrap_area(predicted: np.ndarray, target: _held_out.Target, blocks: Blocks) -> np.ndarray:
    of_cell = blocks.index[target.keep]
    replicates = []
    for weights in blocks.weights[:MAXIMUM_AREA_REPLICATES].astype(np.int64):
        index = np.repeat(np.arange(len(of_cell)), weights[of_cell])
        labels = target.values[index]
        complete = len(np.unique(labels)) == target.n_classes if target.n_classes else len(np.unique(labels)) > 1
        drawn = _held_out.Target(target.keep[index], labels, target.n_classes, "")
        replicates.append(_explicitness.concordance(predicted[index], drawn) if complete else np.nan)
    return np.array(replicates)
