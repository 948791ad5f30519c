"""The table of a sweep, as the recommendation and the plots read it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scbetavae._core.checks import check_choice
from scbetavae._core.text import listed

MAKE = "scbetavae.sweep.beta_sweep(adata, covariates=..., out_dir=...)"
COLUMNS = ("kind", "method", "beta", "seed", "metric", "covariate", "level", "value", "normalized", "status")
SETTING = ("kind", "method", "beta")
_CONFIDENCE = 0.95


def finished_runs(sweep: pd.DataFrame) -> pd.DataFrame:
    """Rows of the runs that did not fail; a KeyError without a column, a ValueError without a finished run."""
    missing = [name for name in COLUMNS if name not in sweep]
    if missing:
        msg = f"The data frame has no column {missing[0]!r}. Make it with `{MAKE}`."
        raise KeyError(msg)
    done = sweep[sweep["status"] == "done"]
    if done.empty:
        msg = "The sweep has no finished run. The column error says why runs failed."
        raise ValueError(msg)
    return done


def rows_of(
    done: pd.DataFrame, metric: str, covariate: str | None = None, level: str | None = None, column: str | None = None
) -> pd.DataFrame:
    """One row per run for a quantity, its number in ``shown``, the column that it is from in ``column``.

    Unless chosen, the covariate is ``"all"``, the level ``"means"``, or the only one, and normalized scores come before values.
    """
    check_choice(metric, [name for name in dict.fromkeys(done["metric"]) if name], "score")
    rows = done[done["metric"] == metric]
    for name, given, usual in (("covariate", covariate, "all"), ("level", level, "means")):
        there = list(dict.fromkeys(rows[name]))
        default = usual if usual in there else there[0] if len(there) == 1 else None
        wanted = default if given is None else given
        if wanted is None:
            msg = f"The sweep has {metric!r} for several values of {name}: {listed(there)}. Pass {name}= one of them."
            raise ValueError(msg)
        check_choice(wanted, there, name)
        rows = rows[rows[name] == wanted]
    if column is None:
        column = "normalized" if rows["normalized"].notna().any() else "value"
    check_choice(column, ("normalized", "value"), "column")
    return rows.assign(shown=rows[column], column=column).dropna(subset="shown").reset_index(drop=True)


def seed_means(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """``mean``, ``ci_low`` and ``ci_high`` of a column over the seeds of each setting: a 95% t interval, NaN for one seed."""
    from scipy.stats import t

    groups = rows.groupby(list(SETTING), dropna=False)[column]
    mean, count = groups.transform("mean"), groups.transform("count")
    quantile = np.where(count > 1, t.ppf(0.5 + _CONFIDENCE / 2, np.maximum(count - 1, 1)), np.nan)
    half = quantile * groups.transform("std").fillna(0.0) / np.sqrt(count)
    return pd.DataFrame({"mean": mean, "ci_low": mean - half, "ci_high": mean + half})


def on_front(nll: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Settings that no other dominates: a lower NLL, a higher score. A setting without an NLL is not on the front."""
    no_worse = (nll[None] <= nll[:, None]) & (score[None] >= score[:, None])
    better = (nll[None] < nll[:, None]) | (score[None] > score[:, None])
    return ~(no_worse & better).any(axis=1) & np.isfinite(nll)
