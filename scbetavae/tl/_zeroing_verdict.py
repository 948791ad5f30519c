"""The bill of zeroing in words."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

ALLOWED_LOSS = 0.05
"""Share of a protected covariate's skill whose loss is worth a warning."""

REMAINING = 0.15
"""Batch skill above what the protected covariates imply that counts as batch left."""

_LEAST_IMPLIED = 0.05
"""A floor below this cannot be told from chance."""

_NAMES = {"neighbours": "k-nearest neighbours", "random_forest": "random forest"}

ALTERNATIVE = (
    "Fewer dimensions cost less; a decoder that is told the batch, BetaVAE(adata, condition_on_batch=True), "
    "keeps batch out of the codes without zeroing any."
)


class Verdict(NamedTuple):
    """What the bill says."""

    outcome: str
    """``"clean"``, ``"batch remains"``, ``"biology lost"``, ``"batch unknown"`` (too few cells) or ``"nothing zeroed"``."""
    sentence: str
    warning: str
    """What deserves a warning; empty if nothing does."""


def nothing_zeroed(reason: str) -> Verdict:
    """Verdict where no dimension was chosen."""
    sentence = f"Nothing was zeroed, because {reason[:1].lower()}{reason[1:]}"
    return Verdict("nothing zeroed", sentence, f"{sentence} The zeroed codes are the codes as they were.")


def judge(bill: pd.DataFrame, dimensions: list[int], *, clusters: bool) -> Verdict:
    """Read the bill.

    Parameters
    ----------
    bill
        What :func:`scbetavae.metrics.zeroing_bill` returns.
    dimensions
        Dimensions that were zeroed.
    clusters
        Whether clusters of the codes stood in for protected covariates.
    """
    batch = bill[(bill["role"] == "batch") & bill["probe"].isin(list(_NAMES)) & bill["after"].notna()]
    lost = _losses(bill)
    below = _is_below_implied(batch)
    # Probes are less sharp than the rule behind the implied skill. Where the protected covariates are seen to be kept, it is
    # that, and nothing is destroyed.
    measured = bool(bill.loc[bill["role"] == "protected", "kept"].notna().any())
    destroyed = below and (len(lost) > 0 or not measured)
    several = "s" if len(dimensions) > 1 else ""
    parts = [f"Zeroing dimension{several} {', '.join(map(str, dimensions))}: {_tell_batch(bill, batch)}"]
    remaining = batch.loc[batch["after"] - batch["implied"].clip(lower=0).fillna(0) > REMAINING, "probe"].tolist()
    if destroyed:
        parts.append(
            "That is less than the protected covariates alone imply: batch and protected covariates are confounded, and "
            "what told them both apart is gone. Take it as a sign of destruction, not of success."
        )
    elif below:
        parts.append(
            "That is less than the protected covariates alone imply. It would be a sign of destruction, but they are kept: with "
            "few cells or weak confounding, probes fall short of it."
        )
    elif remaining == ["random_forest"]:
        parts.append(
            "Batch remains in shifts of other dimensions that a random forest finds and distances do not show."
        )
    elif remaining:
        parts.append("Batch remains in other dimensions.")
    parts.append(_tell_protected(bill, lost))
    if clusters:
        parts.append(
            "No labels were protected: clusters of the codes stood in for them, which batch itself may have shaped."
        )
    outcome = "batch unknown" if batch.empty else "batch remains" if remaining else "clean"
    if len(lost) or destroyed:
        outcome = "biology lost"
    warning = f"{' '.join(parts)} {ALTERNATIVE}" if outcome == "biology lost" else ""
    return Verdict(outcome, " ".join(parts), warning)


def _losses(bill: pd.DataFrame) -> pd.DataFrame:
    """Protected covariates and probes that lost too much of a skill above chance."""
    told = ~(bill["before_ci_low"] <= 0)
    return bill[(bill["role"] == "protected") & (bill["kept"] < 1 - ALLOWED_LOSS) & told]


def _is_below_implied(batch: pd.DataFrame) -> bool:
    """Whether zeroing took batch skill below its floor, by every probe.

    Codes that hold little of the protected covariates are below it from the start, and lost nothing.
    """
    if batch.empty or batch["implied"].isna().all():
        return False
    floor = batch["implied"]
    after = batch["after_ci_high"].fillna(batch["after"])
    before = batch["before_ci_low"].fillna(batch["before"])
    return bool(((floor > _LEAST_IMPLIED) & (after < floor) & (after < before)).all())


def _tell_batch(bill: pd.DataFrame, batch: pd.DataFrame) -> str:
    if batch.empty:
        reasons = [flag for flag in bill.loc[bill["role"] == "batch", "flag"] if flag]
        return f"batch could not be probed{': ' + reasons[0] if reasons else ''}."
    skills = "; ".join(f"{_NAMES[row.probe]} {row.before:.2f} to {row.after:.2f}" for row in batch.itertuples())
    implied = batch["implied"].iloc[0]
    beside = "" if pd.isna(implied) else f", where the protected covariates alone imply {max(implied, 0):.2f}"
    return f"skill for batch {batch['covariate'].iloc[0]!r} went from {skills}{beside}."


def _tell_protected(bill: pd.DataFrame, lost: pd.DataFrame) -> str:
    protected = bill[(bill["role"] == "protected") & bill["kept"].notna()]
    if len(lost):
        worst = lost.sort_values("kept").drop_duplicates("covariate")
        costs = "; ".join(
            f"{row.covariate!r} {1 - row.kept:.0%} ({row.before:.2f} to {row.after:.2f}, {_NAMES[row.probe]})"
            for row in worst.itertuples()
        )
        return f"It took more than {ALLOWED_LOSS:.0%} of the skill for protected covariates: {costs}."
    if protected.empty:
        return "The codes told too little of the protected covariates for a loss to be measured."
    least = protected.loc[protected["kept"].idxmin()]
    if least["kept"] >= 1:
        return "No protected covariate loses skill."
    return (
        f"Every protected covariate keeps at least {least['kept']:.0%} of its skill "
        f"(least: {least['covariate']!r}, {_NAMES[least['probe']]})."
    )
