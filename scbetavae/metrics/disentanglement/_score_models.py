"""Rows of `score_frame` that come from fitted models: DCI, explicitness, and scores that users registered."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from scbetavae.metrics import _held_out
from scbetavae.metrics._checks import Covariate, take_groups
from scbetavae.metrics._resampling import Blocks, permutation_p_value, permute_values, resampled_cells
from scbetavae.metrics.disentanglement import _dci, _dci_fits, _explicitness
from scbetavae.metrics.disentanglement._evidence import Views
from scbetavae.metrics.disentanglement._records import SCORES, Score

DCI_SCORES = ("dci_disentanglement", "dci_completeness", "dci_informativeness")
MAXIMUM_CELLS = 10_000  # models are fitted on at most this many cells, drawn at random
MAXIMUM_REFITS = 4  # permutations for which trees are fitted again
MAXIMUM_AREA_REPLICATES = 50  # bootstrap replicates of the area under the curve, which has to be sorted anew for each
Scores = dict[tuple[str, str], Views]


class ModelInputs(NamedTuple):
    """What `score_frame` hands over."""

    codes: np.ndarray  # active dimensions, (n_cells, n_active)
    covariates: list[Covariate]
    groups: np.ndarray | None
    blocks: Blocks
    oracle: np.ndarray  # (n_defined, n_cells)
    defined: list[str]  # names of the covariates of the oracle
    n_permutations: int
    seed: int

    @property
    def oracle_covariates(self) -> list[Covariate]:
        return [covariate for covariate in self.covariates if covariate.name in self.defined]

    def sample(self) -> ModelInputs:
        """At most `MAXIMUM_CELLS` cells."""
        n_cells = len(self.codes)
        if n_cells <= MAXIMUM_CELLS:
            return self
        index = np.sort(np.random.default_rng(self.seed).choice(n_cells, MAXIMUM_CELLS, replace=False))
        return self._replace(
            codes=self.codes[index],
            covariates=[covariate.take(index) for covariate in self.covariates],
            groups=None if self.groups is None else self.groups[index],
            blocks=self.blocks._replace(index=self.blocks.index[index]),
            oracle=self.oracle[:, index],
        )


def model_scores(inputs: ModelInputs, metrics: list[str]) -> Scores:
    """Scores of the fitted models among ``metrics``, and those with a function of their own."""
    sampled, scores = inputs.sample(), {}
    if any(metric in DCI_SCORES for metric in metrics):
        scores |= _dci_scores(sampled)
    if "explicitness" in metrics:
        scores |= _explicitness_scores(sampled)
    if len(sampled.codes) < len(inputs.codes):
        note = f"on {len(sampled.codes)} sampled cells"
        scores = {key: replace(s, flag="; ".join(filter(None, (s.flag, note)))) for key, s in scores.items()}
    defined = inputs.oracle_covariates
    own = [SCORES[name] for name in metrics if SCORES[name].function is not None]
    for record in own if defined and inputs.codes.shape[1] else []:
        for covariates in [[covariate] for covariate in defined] if record.per_covariate else [defined]:
            name = covariates[0].name if record.per_covariate else "all"
            scores[record.name, name] = _views(record, covariates, inputs)
    return scores


def _dci_scores(inputs: ModelInputs) -> Scores:
    names = [covariate.name for covariate in inputs.covariates]
    values = _dci_fits.bin_for_trees(inputs.codes)
    n_active = values.shape[1]
    fits = _dci_fits.fit_all(values, inputs.covariates, inputs.groups, seed=inputs.seed)
    result = _dci.assemble(fits, np.ones(n_active, dtype=bool), names)
    ceiling, null, errors = _dci_ceiling(inputs), _dci_null(inputs, values), _jackknife(result)
    n_folds = len(result._replicates)
    scores: Scores = {}
    nulls, accuracies = [], []
    for column, (name, fit) in enumerate(zip(names, fits, strict=True)):
        if fit.undefined:
            continue
        top = ceiling.get(name, (np.nan, np.nan))
        value = float(result.per_factor["completeness"].iloc[column]) if fit.votes else 0.0
        value = np.nan if n_active == 1 else value
        flag = "" if fit.votes else "no accuracy above permuted labels"
        jackknife = {"error": errors[2 + column], "n_blocks": n_folds, "p_value": fit.p_value}
        scores["dci_completeness", name] = Views(value, null[:, 2 + column], ceiling=top[0], flag=flag, **jackknife)
        nothing = np.zeros(0)
        replicates = nothing if fit.held_out is None else _held_out.bootstrap_accuracy(*fit.held_out, inputs.blocks)
        of_accuracy = fit.null if inputs.n_permutations else nothing
        scores["dci_informativeness", name] = Views(fit.accuracy, of_accuracy, replicates, top[1])
        if len(fit.null):
            nulls.append(fit.null)
            accuracies.append(fit.accuracy)
    n_voting, flag, p_value = int(result.per_factor["votes"].sum()), "", np.nan
    defined = not all(fit.undefined for fit in fits)
    if defined and n_voting < 2:
        flag = f"{('no', 'only one')[n_voting]} covariate with accuracy above permuted labels"
    if accuracies and inputs.n_permutations:
        p_value = float(permutation_p_value(float(np.mean(accuracies)), np.mean(nulls, axis=0)))
    top = ceiling.get("all", (np.nan, np.nan))
    for i, metric in enumerate(DCI_SCORES[:2]):
        value = (result.disentanglement, result.completeness)[i] if defined else np.nan
        jackknife = {"error": errors[i], "n_blocks": n_folds, "p_value": p_value}
        scores[metric, "all"] = Views(value, null[:, i], ceiling=top[i], flag=flag, **jackknife)
    return scores


def _dci_ceiling(inputs: ModelInputs) -> dict[str, tuple[float, float]]:
    """(disentanglement, completeness) under ``"all"``; (completeness, informativeness) for each covariate."""
    if not inputs.defined or not inputs.codes.shape[1]:
        return {}
    codes, mask = _dci_fits.bin_for_trees(inputs.oracle.T), np.ones(len(inputs.oracle), dtype=bool)
    fits = _dci_fits.fit_all(codes, inputs.oracle_covariates, inputs.groups, seed=inputs.seed)
    result = _dci.assemble(fits, mask, inputs.defined, n_codes=inputs.codes.shape[1])
    pairs = result.per_factor[["completeness", "informativeness"]].to_numpy(dtype=float)
    ceilings = {name: (float(pair[0]), float(pair[1])) for name, pair in zip(inputs.defined, pairs, strict=True)}
    return ceilings | {"all": (result.disentanglement, result.completeness)}


def _dci_null(inputs: ModelInputs, values: np.ndarray) -> np.ndarray:
    """Disentanglement, completeness, and completeness of every covariate, for permuted covariates; one row per refit."""
    n_covariates = len(inputs.covariates)
    rows = np.zeros((min(inputs.n_permutations, MAXIMUM_REFITS), 2 + n_covariates))
    if not values.shape[1]:
        return rows
    # How often a permuted covariate votes is known. A few refits cannot show it, so it enters as a factor.
    level = _dci_fits.vote_level(n_covariates)
    any_votes = 1 - (1 - level) ** n_covariates
    two_vote = any_votes - n_covariates * level * (1 - level) ** (n_covariates - 1)
    rng = np.random.default_rng(inputs.seed + 1)
    for i, row in enumerate(rows):
        columns = [
            _dci_fits.first_fold_importance(values, _permuted(c, inputs.groups, rng), inputs.groups, inputs.seed + i)
            for c in inputs.covariates
        ]
        importance = np.stack(columns, axis=1)
        disentanglement, completeness = _dci.scores_of(importance, importance.sum(axis=0) > 0)
        row[:2] = disentanglement * two_vote, completeness * any_votes
        row[2:] = _dci.per_row_disentanglement(importance.T) * level
    return np.nan_to_num(rows)


def _permuted(covariate: Covariate, groups: np.ndarray | None, rng: np.random.Generator) -> Covariate:
    """Labels permuted over the cells that have one, by group where they are constant within groups."""
    present, values = covariate.present, covariate.values.copy()
    members = take_groups(groups, present)
    values[present] = permute_values(values[present], members, rng, classes=not covariate.is_numeric)
    return replace(covariate, values=values)


def _jackknife(result: _dci.DCIResult) -> np.ndarray:
    """Standard errors of disentanglement, completeness, and completeness of every covariate, from the folds."""
    folds, votes = result._replicates, result.per_factor["votes"].to_numpy(dtype=bool)
    n_folds = len(folds)
    if n_folds < 2 or folds.shape[1] == 0:
        return np.full(2 + len(votes), np.nan)
    rows = [[*_dci.scores_of(fold, votes), *_dci.per_row_disentanglement(fold.T)] for fold in folds]
    return np.sqrt((n_folds - 1) ** 2 / n_folds * np.var(np.array(rows, dtype=float), axis=0, ddof=1))


def _explicitness_scores(inputs: ModelInputs) -> Scores:
    scores: Scores = {}
    rng = np.random.default_rng(inputs.seed + 2)
    for covariate in inputs.covariates:
        target = _held_out.make_target(covariate)
        predicted = _explicitness.held_out_scores(inputs.codes, target, inputs.groups, inputs.seed)
        if predicted is None:
            continue
        members, classes = take_groups(inputs.groups, target.keep), target.n_classes > 0
        ranks = stats.rankdata(predicted, axis=0)
        shuffled = (permute_values(target.values, members, rng, classes=classes) for _ in range(inputs.n_permutations))
        null = np.array([_area(ranks, replace(target, values=values)) for values in shuffled])
        replicates = []
        for index in islice(resampled_cells(inputs.blocks, target.keep), MAXIMUM_AREA_REPLICATES):
            drawn = replace(target, keep=target.keep[index], values=target.values[index])
            n_values = len(np.unique(drawn.values))
            complete = n_values == target.n_classes if target.n_classes else n_values > 1
            replicates.append(_explicitness.concordance(predicted[index], drawn) if complete else np.nan)
        value = _explicitness.concordance(predicted, target)
        scores["explicitness", covariate.name] = Views(value, null, np.array(replicates), 1.0)
    return scores


def _area(ranks: np.ndarray, target: _held_out.Target) -> float:
    """`concordance` of ranks for other labels; NaN without a class."""
    if not target.n_classes:
        return _explicitness.concordance(ranks, target)
    complete = len(np.unique(target.values)) == target.n_classes
    return _held_out.mean_area(ranks, target.values, target.n_classes) if complete else np.nan


def _views(record: Score, covariates: list[Covariate], inputs: ModelInputs) -> Views:
    """All views of one score for these covariates together, on cells that have all their labels."""
    keep = np.logical_and.reduce([covariate.present for covariate in covariates])
    columns = [
        c.values[keep] if c.is_numeric else np.array(c.classes, dtype=object)[c.values[keep]] for c in covariates
    ]
    labels = pd.DataFrame({c.name: column for c, column in zip(covariates, columns, strict=True)})
    codes, members, rng = inputs.codes[keep], take_groups(inputs.groups, keep), np.random.default_rng(inputs.seed + 3)

    def value(codes: np.ndarray, labels: pd.DataFrame) -> float:
        function = record.function or (lambda *_: np.nan)
        return float(function(codes, labels.iloc[:, 0] if record.per_covariate else labels))

    def permuted() -> pd.DataFrame:
        drawn = {}
        for covariate in covariates:
            numbers, names = pd.factorize(labels[covariate.name])
            drawn[covariate.name] = names[permute_values(numbers, members, rng, classes=not covariate.is_numeric)]
        return pd.DataFrame(drawn)

    null = np.array([value(codes, permuted()) for _ in range(inputs.n_permutations)])
    rows = resampled_cells(inputs.blocks, keep)
    bootstrap = np.array([value(codes[row], labels.iloc[row].reset_index(drop=True)) for row in rows])
    return Views(value(codes, labels), null, bootstrap, value(inputs.oracle.T[keep], labels))
