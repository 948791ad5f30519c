"""The report of zeroing in words."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from scbetavae.tl import _removal_status
from scbetavae.tl._removal_status import ALLOWED_LOSS, CLASSIFIERS

ALTERNATIVE = (
    "Fewer dimensions cost less; a decoder that is told the batch, BetaVAE(adata, condition_on_batch=True), "
    "keeps batch out of the codes without zeroing any."
)


class Summary(NamedTuple):
    """What the report says."""

    status: str
    """``"clean"``, ``"batch remains"``, ``"biology lost"``, ``"undecided"``, ``"batch unknown"`` or ``"nothing zeroed"``."""
    sentence: str
    warning: str
    """What deserves a warning; empty if nothing does."""


def nothing_zeroed(reason: str) -> Summary:
    """Summary where no dimension was chosen."""
    sentence = f"Nothing was zeroed, because {reason[:1].lower()}{reason[1:]}"
    return Summary("nothing zeroed", sentence, f"{sentence} The zeroed codes are the codes as they were.")


def judge(report: pd.DataFrame, dimensions: list[int], *, clusters: bool) -> Summary:
    """Read the report.

    Parameters
    ----------
    report
        What :func:`scbetavae.metrics.evaluate_batch_removal` returns.
    dimensions
        Dimensions that were zeroed.
    clusters
        Whether clusters of the codes stood in for conserved covariates.
    """
    batch = report[(report["role"] == "batch") & report["classifier"].isin(list(CLASSIFIERS)) & report["after"].notna()]
    conserved = report[(report["role"] == "conserved") & report["kept"].notna()]
    remains, lost = _removal_status.batch_remains(batch), _removal_status.biology_lost(conserved)
    below = _removal_status.is_below_expected(batch)
    # Classifiers are less sharp than the rule behind the expected accuracy. Where the conserved covariates are seen to be
    # kept, it is that, and nothing is destroyed.
    destroyed = below and (bool(lost.yes.any()) or conserved.empty)
    several = "s" if len(dimensions) > 1 else ""
    parts = [f"Zeroing dimension{several} {', '.join(map(str, dimensions))}: {_tell_batch(report, batch)}"]
    if destroyed:
        parts.append(
            "That is less than the conserved covariates alone imply: batch and conserved covariates are confounded, and "
            "what told them both apart is gone. Take it as a sign of destruction, not of success."
        )
    elif below:
        parts.append(
            "That is less than the conserved covariates alone imply. It would be a sign of destruction, but they are kept: with "
            "few cells or weak confounding, classifiers fall short of it."
        )
    else:
        parts += _tell_remaining(batch, remains)
    parts += [_tell_conserved(conserved, lost)]
    if clusters:
        parts.append(
            "No labels were conserved: clusters of the codes stood in for them, which batch itself may have shaped."
        )
    status = _status(batch, remains, lost)
    if destroyed:
        status = "biology lost"
    warning = f"{' '.join(parts)} {ALTERNATIVE}" if status == "biology lost" else ""
    return Summary(status, " ".join(parts), warning)


def _status(batch: pd.DataFrame, remains: _removal_status.Answer, lost: _removal_status.Answer) -> str:
    """One word: what is shown by a whole interval, and clean where nothing is and the intervals are narrow."""
    if lost.yes.any():
        return "biology lost"
    if batch.empty:
        return "batch unknown"
    if remains.yes.any():
        return "batch remains"
    return "undecided" if remains.too_wide.any() or lost.too_wide.any() else "clean"


def _tell_batch(report: pd.DataFrame, batch: pd.DataFrame) -> str:
    if batch.empty:
        reasons = [flag for flag in report.loc[report["role"] == "batch", "flag"] if flag]
        return f"batch could not be classified{': ' + reasons[0] if reasons else ''}."
    changes = [
        f"{CLASSIFIERS[row.classifier]} accuracy for batch {row.covariate!r} from {number(row.before)} to "
        f"{number(row.after)}{interval(row, 'after')}"
        for row in batch.itertuples()
    ]
    expected = batch["expected"].iloc[0]
    beside = "" if pd.isna(expected) else f"; {number(max(expected, 0))} is expected from composition alone"
    return f"{', '.join(changes)}{beside}."


def _tell_remaining(batch: pd.DataFrame, remains: _removal_status.Answer) -> list[str]:
    """What of batch is left, what may be, and what is too uncertain to say."""
    shown = batch.loc[remains.yes, "classifier"].tolist()
    if shown == ["random_forest"]:
        return ["Batch remains in shifts of other dimensions that the random forest finds and k-NN does not."]
    if shown:
        return [f"Batch remains in other dimensions ({_classifiers(batch[remains.yes])})."]
    told = []
    if remains.too_wide.any():
        told.append(f"Too few cells to tell whether batch remains ({_classifiers(batch[remains.too_wide])}).")
    noise = batch[remains.noise & ~remains.too_wide]
    if len(noise):
        told.append(f"What is left of batch beyond that is within noise ({_classifiers(noise)}).")
    return told


def _tell_conserved(conserved: pd.DataFrame, lost: _removal_status.Answer) -> str:
    if conserved.empty:
        return "The codes told too little of the conserved covariates for a loss to be measured."
    told = []
    if lost.yes.any():
        worst = conserved[lost.yes].sort_values("kept").drop_duplicates("covariate")
        costs = "; ".join(
            f"{row.covariate!r} {1 - row.kept:.0%} ({number(row.before)} to {number(row.after)}, {CLASSIFIERS[row.classifier]})"
            for row in worst.itertuples()
        )
        told.append(f"It took more than {ALLOWED_LOSS:.0%} of the accuracy for conserved covariates: {costs}.")
    shares = [
        f"{name!r} keeps {' and '.join(f'{r.kept:.0%} ({CLASSIFIERS[r.classifier]})' for r in rows.itertuples())}"
        for name, rows in conserved.groupby("covariate", sort=False)
        if not lost.yes[rows.index].any()
    ]
    if shares:
        told.append(f"{'; '.join(shares)} of its accuracy.")
    told += tell_noise(conserved, lost)
    return " ".join(told)


def tell_noise(conserved: pd.DataFrame, lost: _removal_status.Answer) -> list[str]:
    """Losses that may be chance, and those of which nothing can be said."""
    told = []
    for rows, what in (
        (conserved[lost.noise & ~lost.too_wide], "The loss is within noise"),
        (conserved[lost.too_wide], f"Too few cells to tell whether more than {ALLOWED_LOSS:.0%} is lost"),
    ):
        spans = [
            f"{row.covariate!r}, {CLASSIFIERS[row.classifier]}: kept {row.kept_ci_low:.0%} to {row.kept_ci_high:.0%}"
            for row in rows.itertuples()
        ]
        if spans:
            told.append(f"{what} ({'; '.join(spans)}).")
    return told


def number(value: float) -> str:
    """Two decimals, and no negative zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def interval(row: NamedTuple, name: str) -> str:
    """The 95% interval of a value in brackets, if there is one."""
    low, high = (getattr(row, f"{name}_ci_{end}", float("nan")) for end in ("low", "high"))
    return "" if pd.isna(low) or pd.isna(high) else f" [{number(low)}, {number(high)}]"


def _classifiers(rows: pd.DataFrame) -> str:
    return " and ".join(CLASSIFIERS[name] for name in rows["classifier"])
