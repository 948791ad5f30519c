"""What a removal did to batch and to the conserved covariates, decided on intervals: the thresholds, and their use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

REMAINING = 0.15
"""Batch accuracy above what is expected from composition that counts as batch left."""

ALLOWED_LOSS = 0.05
"""Share of a conserved covariate's accuracy whose loss is worth a warning."""

TOO_WIDE = 0.2
"""Accuracy by which an interval may reach beyond its threshold before it says too little to call the removal clean."""

LEAST_EXPECTED = 0.05
"""An expected accuracy below this cannot be told from chance."""

CLASSIFIERS = {"knn": "k-NN", "random_forest": "random forest"}
"""Names of the classifiers in words, by their name in the table."""


class Answer(NamedTuple):
    """Rows of the table, a mask for each answer to one question."""

    yes: pd.Series
    """The whole 95% interval is beyond the threshold."""
    noise: pd.Series
    """The value is beyond the threshold, but not the whole interval."""
    too_wide: pd.Series
    """The interval holds the threshold, and reaches so far beyond it that nothing can be said."""


def batch_remains(rows: pd.DataFrame) -> Answer:
    """Whether batch accuracy is more than `REMAINING` above what is expected; a row without an interval by its value."""
    threshold = allowed_batch(rows)
    low, high = _ends(rows, "after")
    yes = low > threshold
    return Answer(yes, ~yes & (rows["after"] > threshold), ~yes & (high > threshold + TOO_WIDE))


def biology_lost(rows: pd.DataFrame) -> Answer:
    """Whether a covariate lost more than `ALLOWED_LOSS` of an accuracy that was above chance."""
    told = ~(_ends(rows, "before")[0] <= 0) & rows["kept"].notna()
    threshold = 1 - ALLOWED_LOSS
    low, high = _ends(rows, "kept")
    yes = told & (high < threshold)
    # In units of accuracy: what hardly had any has little to lose.
    reach = (threshold - low) * rows["before"]
    return Answer(yes, told & ~yes & (rows["kept"] < threshold), told & ~yes & (reach > TOO_WIDE))


def allowed_batch(rows: pd.DataFrame) -> pd.Series:
    """Batch accuracy up to which batch counts as removed."""
    return rows["expected"].clip(lower=0).fillna(0) + REMAINING


def is_below_expected(batch: pd.DataFrame) -> bool:
    """Whether batch accuracy fell below what is expected from composition, beyond noise and by every classifier.

    An embedding that hardly encodes the conserved covariates is below it from the start, and lost nothing.
    """
    if batch.empty or batch["expected"].isna().all():
        return False
    after, before = _ends(batch, "after")[1], _ends(batch, "before")[0]
    floor = batch["expected"]
    return bool(((floor > LEAST_EXPECTED) & (after < floor) & (after < before)).all())


def _ends(rows: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    """Ends of the interval of a value: the value itself, where there is no interval."""
    missing = pd.Series(np.nan, index=rows.index)
    return tuple(rows.get(f"{name}_ci_{end}", missing).fillna(rows[name]) for end in ("low", "high"))
