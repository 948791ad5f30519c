"""Status of a removal, decided on intervals, and summaries of search and removal: sentences are made here alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from scbetavae._core.constants import ALLOWED_LOSS, LEAST_EXPECTED, REMAINING, TOO_WIDE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scbetavae.metrics import BatchSearch

CLASSIFIERS = {"knn": "k-NN", "random_forest": "random forest"}
"""Names of the classifiers in words, by their name in the report."""

_CONDITIONED = "BetaVAE(adata, condition_on_batch=True) keeps batch out of the latent representation instead."
_ALTERNATIVE = (
    "Fewer dimensions cost less; a batch-conditioned decoder, BetaVAE(adata, condition_on_batch=True), keeps batch out of the "
    "latent representation without removing any dimension."
)


class Summary(NamedTuple):
    """What the batch-removal report says."""

    status: str
    """``"clean"``, ``"batch remains"``, ``"biology lost"``, ``"undecided"``, ``"batch unknown"`` or ``"nothing zeroed"``."""
    sentence: str
    warning: str
    """Text of a warning; empty if there is none."""


class Answer(NamedTuple):
    """One mask over rows of the report for each answer to one question."""

    yes: pd.Series
    """The whole 95% interval is beyond the threshold."""
    noise: pd.Series
    """The value is beyond the threshold, but not the whole interval."""
    too_wide: pd.Series
    """The interval contains the threshold and reaches so far beyond it that nothing can be said."""


def assess(batch: pd.DataFrame, conserved: pd.DataFrame) -> tuple[Answer, Answer, bool]:
    """Whether batch remains, whether conserved covariates lost accuracy, and whether batch is below what is expected.

    Batch remains more than `REMAINING` above what is expected. A covariate lost more than `ALLOWED_LOSS` of an accuracy that was
    above chance. Below is what fell below it, beyond noise and by every classifier: an embedding that hardly encodes the
    conserved covariates is below it from the start, and lost nothing.
    """
    # Ends of the intervals: the value itself where there is no interval.
    before, after, had, kept = (
        [rows.get(f"{name}_ci_{end}", rows[name]).fillna(rows[name]) for end in ("low", "high")]
        for rows, name in ((batch, "before"), (batch, "after"), (conserved, "before"), (conserved, "kept"))
    )
    threshold = batch["expected"].clip(lower=0).fillna(0) + REMAINING
    yes = after[0] > threshold
    remains = Answer(yes, ~yes & (batch["after"] > threshold), ~yes & (after[1] > threshold + TOO_WIDE))

    had_any, least = ~(had[0] <= 0) & conserved["kept"].notna(), 1 - ALLOWED_LOSS
    yes = had_any & (kept[1] < least)
    reach = (least - kept[0]) * conserved["before"]  # in units of accuracy: a low accuracy has little to lose
    lost = Answer(yes, had_any & ~yes & (conserved["kept"] < least), had_any & ~yes & (reach > TOO_WIDE))

    floor = batch["expected"]
    below = (floor > LEAST_EXPECTED) & (after[1] < floor) & (after[1] < before[0])
    return remains, lost, bool(floor.notna().any() and below.all())


def describe_removal(report: pd.DataFrame, dimensions: list[int], *, clusters: bool) -> Summary:
    """Status and summary of a batch-removal report; ``clusters`` stood in for conserved covariates."""
    batch = report[(report["role"] == "batch") & report["classifier"].isin(list(CLASSIFIERS)) & report["after"].notna()]
    conserved = report[(report["role"] == "conserved") & report["kept"].notna()]
    remains, lost, below = assess(batch, conserved)
    # Classifiers are less sharp than the rule behind the expected accuracy: where the conserved covariates are seen to be
    # kept, nothing is destroyed.
    destroyed = below and (bool(lost.yes.any()) or conserved.empty)
    several = "s" if len(dimensions) > 1 else ""
    parts = [f"Without dimension{several} {', '.join(map(str, dimensions))}: {_batch_change(report, batch)}"]
    if destroyed:
        parts.append(
            "That is less than the conserved covariates alone imply: batch and conserved covariates are confounded. "
            "This suggests over-correction."
        )
    elif below:
        parts.append(
            "That is less than the conserved covariates alone imply. This would suggest over-correction, but they are kept: with "
            "few cells or weak confounding, classifiers fall short of the expected accuracy."
        )
    else:
        parts += _remaining(batch, remains)
    parts.append(_conserved_change(conserved, lost))
    if clusters:
        parts.append(
            "No covariate was given: clusters of the embedding were used instead, which batch itself may have shaped."
        )
    answers = {
        "biology lost": destroyed or lost.yes.any(),
        "batch unknown": batch.empty,
        "batch remains": remains.yes.any(),
        "undecided": remains.too_wide.any() or lost.too_wide.any(),
        "clean": True,
    }
    status = next(name for name, holds in answers.items() if holds)
    sentence = " ".join(parts)
    return Summary(status, sentence, f"{sentence} {_ALTERNATIVE}" if status == "biology lost" else "")


def nothing_removed(search: BatchSearch, left_out: str) -> Summary:
    """Summary where the search chose no dimension."""
    sentences = [f"Nothing was zeroed, because {_why_none(search, left_out)}."]
    if search.status == "none" and search.reason != "mixed":
        sentences.append(_CONDITIONED)
    if left_out and search.status != "not possible":
        sentences.append(f"{left_out[:1].upper()}{left_out[1:]}.")
    sentence = " ".join(sentences)
    return Summary("nothing zeroed", sentence, f"{sentence} The embedding without batch equals the embedding.")


def describe_search(search: BatchSearch, n_clusters: int, left_out: str) -> str:
    """Summary of a search; ``n_clusters`` of the embedding stood in for conserved covariates, if any."""
    if search.status == "not possible":
        return f"No dimension is chosen, as that is {left_out}."
    batch, conserved = search.report.iloc[0], search.report.iloc[1:]
    if search.status == "refused":
        sentences = [
            f"Refused: {search.problem}, so batch and the conserved covariates cannot be separated.",
            "Take cells in which both vary, or conserve a coarser covariate.",
        ]
    elif search.status == "none":
        sentences = [f"No dimension is chosen: {_why_none(search, left_out)}."]
        if search.reason != "mixed":
            sentences += [
                f"k-NN accuracy for batch stays at {batch['accuracy_before']:z.2f}{_expected(batch)}.",
                _CONDITIONED,
            ]
    else:
        sentences = _describe_found(search, batch, conserved, n_clusters)
    crossed = [name for name in conserved["covariate"] if name not in search.stratified_by]
    if crossed and search.status != "refused":
        within = _names(search.stratified_by)
        sentences.append(
            f"Cells are too few to keep {_names(crossed)} constant as well: dimensions were compared "
            f"{f'within {within} only' if within else 'over all cells'}."
        )
    if left_out:
        sentences.append(f"{left_out[:1].upper()}{left_out[1:]}.")
    if n_clusters:
        sentences.append(f"No covariate was given: {n_clusters} Leiden clusters of the embedding are used instead.")
    return " ".join(sentences)


def _describe_found(search: BatchSearch, batch: pd.Series, conserved: pd.DataFrame, n_clusters: int) -> list[str]:
    names = ["the clustering"] if n_clusters else list(conserved["covariate"].map(repr))
    kept = [
        f"{name} keeps {_share(share)}" if i == 0 else f"{name} {_share(share)}"
        for i, (name, share) in enumerate(zip(names, conserved["kept"], strict=True))
    ]
    several = "s" if len(search.chosen) > 1 else ""
    sentences = [
        (
            f"Without dimension{several} {_listed(search.chosen)}, k-NN accuracy for {batch['covariate']!r} goes from "
            f"{batch['accuracy_before']:z.2f} to {batch['accuracy_after']:z.2f}{_expected(batch)}, "
            f"and {_listed(kept)} of {'its' if len(kept) == 1 else 'their'} k-NN accuracy, on held-out cells."
        )
    ]
    columns = {
        f"accuracy_{name}{end}": f"{name}{end}" for name in ("before", "after") for end in ("", "_ci_low", "_ci_high")
    }
    rows = search.report.rename(columns=columns | {"expected_accuracy": "expected"}).assign(classifier="knn")
    remains, lost, below = assess(rows.iloc[:1], rows.iloc[1:])
    losers = conserved.loc[lost.yes, "covariate"]
    if len(losers):
        sentences.append(f"Careful: removing them costs {_names(losers)} more than {ALLOWED_LOSS:.0%}. {_CONDITIONED}")
    sentences += _noise(rows.iloc[1:], lost)
    if below and (len(losers) or conserved["kept"].isna().all()):
        sentences.append("Careful: this is less than the conserved covariates imply, which suggests over-correction.")
    elif remains.yes.any():
        sentences.append(f"Much batch is left, in dimensions that also encode conserved covariates. {_CONDITIONED}")
    elif remains.too_wide.any():
        sentences.append("Cells are too few to tell whether batch is left.")
    elif remains.noise.any():
        sentences.append("What is left of batch beyond what is expected is within noise.")
    return sentences


def _why_none(search: BatchSearch, left_out: str) -> str:
    """Why no dimension was chosen, as a clause."""
    batch = search.report.iloc[0]
    name = repr(batch["covariate"])
    if search.status == "not possible":
        return f"that is {left_out}"
    if search.status == "refused":
        return f"{search.problem}, so batch and the conserved covariates cannot be separated"
    if search.reason == "conservation":
        steps = search.steps[(search.steps["n_zeroed"] == 1) & (search.steps["role"] == "conserved")]
        last = steps.sort_values("kept").iloc[0]
        return (
            f"removing dimension {last['dimension']}, the first in rank, would leave {last['covariate']!r} "
            f"{_share(last['kept'])} of its k-NN accuracy"
        )
    clauses = {
        "insignificant": f"no active dimension is associated with {name} beyond what the conserved covariates explain",
        "mixed": f"k-NN accuracy for batch is {batch['accuracy_before']:z.2f} already{_expected(batch)}",
        "all": f"every active dimension encodes {name}, and nothing would be left of the embedding",
        "dominant": f"no dimension alone has a higher k-NN accuracy for {name} than for the conserved covariates",
    }
    dominant = search.reason == "no gain" and search.dimensions["batch_alone"].notna().any()
    lowers = "removing the dimensions that can be spared does not lower k-NN accuracy for batch"
    return clauses.get("dominant" if dominant else search.reason, lowers)


def _batch_change(report: pd.DataFrame, batch: pd.DataFrame) -> str:
    if batch.empty:
        reasons = [flag for flag in report.loc[report["role"] == "batch", "flag"] if flag]
        return f"batch could not be classified{': ' + reasons[0] if reasons else ''}."
    changes = []
    for row in batch.to_dict("records"):
        low, high = (row.get(f"after_ci_{end}", np.nan) for end in ("low", "high"))
        interval = "" if pd.isna(low) or pd.isna(high) else f" [{low:z.2f}, {high:z.2f}]"
        name = f"{CLASSIFIERS[row['classifier']]} accuracy for batch {row['covariate']!r}"
        changes.append(f"{name} from {row['before']:z.2f} to {row['after']:z.2f}{interval}")
    expected = batch["expected"].iloc[0]
    more = "" if pd.isna(expected) else f"; {max(expected, 0):z.2f} is expected from composition alone"
    return f"{', '.join(changes)}{more}."


def _remaining(batch: pd.DataFrame, remains: Answer) -> list[str]:
    """Batch that is left, that may be left, and that is too uncertain to tell."""
    shown = batch.loc[remains.yes, "classifier"].tolist()
    if shown == ["random_forest"]:
        return ["Batch remains in shifts of other dimensions, which the random forest finds and k-NN does not."]
    if shown:
        return [f"Batch remains in other dimensions ({_classifiers(batch[remains.yes])})."]
    sentences = []
    if remains.too_wide.any():
        sentences.append(f"Too few cells to tell whether batch remains ({_classifiers(batch[remains.too_wide])}).")
    noise = batch[remains.noise & ~remains.too_wide]
    if len(noise):
        sentences.append(f"What is left of batch beyond that is within noise ({_classifiers(noise)}).")
    return sentences


def _conserved_change(conserved: pd.DataFrame, lost: Answer) -> str:
    if conserved.empty:
        return "The embedding encodes too little of the conserved covariates for a loss to be measured."
    sentences = []
    if lost.yes.any():
        worst = conserved[lost.yes].sort_values("kept").drop_duplicates("covariate")
        costs = "; ".join(
            f"{row['covariate']!r} {1 - row['kept']:.0%} ({row['before']:z.2f} to {row['after']:z.2f}, "
            f"{CLASSIFIERS[row['classifier']]})"
            for row in worst.to_dict("records")
        )
        sentences.append(f"It took more than {ALLOWED_LOSS:.0%} of the accuracy for conserved covariates: {costs}.")
    shares = [
        f"{name!r} keeps "
        + " and ".join(f"{row['kept']:.0%} ({CLASSIFIERS[row['classifier']]})" for row in rows.to_dict("records"))
        for name, rows in conserved.groupby("covariate", sort=False)
        if not lost.yes[rows.index].any()
    ]
    if shares:
        sentences.append(f"{'; '.join(shares)} of its accuracy.")
    return " ".join([*sentences, *_noise(conserved, lost)])


def _noise(conserved: pd.DataFrame, lost: Answer) -> list[str]:
    """Losses that may be chance, and those too uncertain to tell."""
    sentences = []
    for rows, what in (
        (conserved[lost.noise & ~lost.too_wide], "The loss is within noise"),
        (conserved[lost.too_wide], f"Too few cells to tell whether more than {ALLOWED_LOSS:.0%} is lost"),
    ):
        spans = [
            f"{row['covariate']!r}, {CLASSIFIERS[row['classifier']]}: kept {row['kept_ci_low']:.0%} to {row['kept_ci_high']:.0%}"
            for row in rows.to_dict("records")
        ]
        if spans:
            sentences.append(f"{what} ({'; '.join(spans)}).")
    return sentences


def _expected(batch: pd.Series) -> str:
    expected = batch["expected_accuracy"]
    return "" if np.isnan(expected) else f" ({max(expected, 0.0):z.2f} is expected from composition)"


def _share(value: float) -> str:
    return "none (it had none)" if np.isnan(value) else f"{value:.0%}"


def _classifiers(rows: pd.DataFrame) -> str:
    return " and ".join(CLASSIFIERS[name] for name in rows["classifier"])


def _names(names: Iterable[str]) -> str:
    return _listed([repr(name) for name in names])


def _listed(items: Iterable[object]) -> str:
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else ""
