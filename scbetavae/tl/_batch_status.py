"""Status of a batch removal, decided on intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from scbetavae._core.constants import ALLOWED_LOSS, LEAST_EXPECTED, REMAINING, TOO_WIDE


class Answer(NamedTuple):
    """One mask over rows of the report for each answer to one question."""

    yes: pd.Series
    """The whole 95% interval is beyond the threshold."""
    noise: pd.Series
    """The value is beyond the threshold, but not the whole interval."""
    too_wide: pd.Series
    """The interval contains the threshold and reaches so far beyond it that nothing can be said."""


def batch_remains(rows: pd.DataFrame) -> Answer:
    """Whether batch accuracy is more than `REMAINING` above what is expected; a row without an interval by its value."""
    threshold = rows["expected"].clip(lower=0).fillna(0) + REMAINING
    low, high = _ends(rows, "after")
    yes = low > threshold
    return Answer(yes, ~yes & (rows["after"] > threshold), ~yes & (high > threshold + TOO_WIDE))


def biology_lost(rows: pd.DataFrame) -> Answer:
    """Whether a covariate lost more than `ALLOWED_LOSS` of an accuracy that was above chance."""
    had_any = ~(_ends(rows, "before")[0] <= 0) & rows["kept"].notna()
    threshold = 1 - ALLOWED_LOSS
    low, high = _ends(rows, "kept")
    yes = had_any & (high < threshold)
    reach = (threshold - low) * rows["before"]  # in units of accuracy: a low accuracy has little to lose
    return Answer(yes, had_any & ~yes & (rows["kept"] < threshold), had_any & ~yes & (reach > TOO_WIDE))


def is_below_expected(batch: pd.DataFrame) -> bool:
    """Whether batch accuracy fell below what is expected from composition, beyond noise and by every classifier.

    An embedding that hardly encodes the conserved covariates is below it from the start, and lost nothing.
    """
    if batch.empty or batch["expected"].isna().all():
        return False
    after, before = _ends(batch, "after")[1], _ends(batch, "before")[0]
    floor = batch["expected"]
    return bool(((floor > LEAST_EXPECTED) & (after < floor) & (after < before)).all())


def removal_status(batch: pd.DataFrame, remains: Answer, lost: Answer) -> str:
    """What a whole interval shows; clean where none shows anything and the intervals are narrow."""
    if lost.yes.any():
        return "biology lost"
    if batch.empty:
        return "batch unknown"
    if remains.yes.any():
        return "batch remains"
    return "undecided" if remains.too_wide.any() or lost.too_wide.any() else "clean"


def _ends(rows: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    """Ends of the interval of a value: the value itself, where there is no interval."""
    missing = pd.Series(np.nan, index=rows.index)
    low, high = (rows.get(f"{name}_ci_{end}", missing).fillna(rows[name]) for end in ("low", "high"))
    return low, high
