"""From the folder of a sweep to one tidy frame."""

from pathlib import Path

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae.sweep._plan import Run
from scbetavae.sweep._results import stack_scores
from scbetavae.sweep._store import SweepStore

_AGREEMENT_CELLS = 10_000  # at most, so that memory does not grow with the data
_ENOUGH_SEEDS = 5


def read_sweep(out_dir: str | Path) -> pd.DataFrame:
    """Read the table of a sweep, finished or not.

    Parameters
    ----------
    out_dir
        Folder of the sweep.

    Returns
    -------
    Tidy DataFrame of every run in the folder, as :func:`beta_sweep` returns it.

    Raises
    ------
    FileNotFoundError
        If the folder holds no sweep.

    Examples
    --------
    >>> import scbetavae
    >>> scbetavae.sweep.read_sweep("nowhere")
    Traceback (most recent call last):
    ...
    FileNotFoundError: 'nowhere' holds no sweep: it has no sweep.json. Make one with scbetavae.sweep.beta_sweep.
    """
    store = SweepStore(Path(out_dir))
    store.manifest()
    return table_of(store)


def table_of(store: SweepStore) -> pd.DataFrame:
    """Every run of a folder, models first; a failed run has one row without a score."""
    runs = store.runs()
    agreement = _seed_agreement(store, [run for run, record in runs if not record["error"]])
    blank = stack_scores([pd.DataFrame(index=[0])])
    if not runs:
        return _described(blank, Run("", None, 0), "").iloc[:0]
    frames = []
    for run, record in runs:
        scores = blank if record["error"] else stack_scores([store.scores(run), agreement.get(run, blank.iloc[:0])])
        frames.append(_described(scores, run, record["error"]))
    return pd.concat(frames, ignore_index=True)


def _described(scores: pd.DataFrame, run: Run, error: str) -> pd.DataFrame:
    """Scores with the columns of their run."""
    front = {"run": run.name, "kind": "baseline" if run.is_baseline else "model", "method": run.method}
    front |= {"beta": np.nan if run.beta is None else run.beta, "seed": run.seed}
    described = scores.assign(**front, status="failed" if error else "done", error=error)
    return described[[*front, *scores.columns, "status", "error"]]


def _seed_agreement(store: SweepStore, runs: list[Run]) -> dict[Run, pd.DataFrame]:
    """Rows for every model of a setting with several seeds."""
    settings: dict[tuple[str, float | None], list[Run]] = {}
    for run in runs:
        if not run.is_baseline:
            settings.setdefault((run.method, run.beta), []).append(run)
    several = (members for members in settings.values() if len(members) > 1)
    return {run: rows for members in several for run, rows in _agreement_of(store, members).items()}


def _agreement_of(store: SweepStore, runs: list[Run]) -> dict[Run, pd.DataFrame]:
    """Two rows per run: how well its active dimensions agree with those of the other seeds, and its UDR."""
    codes, active = zip(*map(store.codes, runs), strict=True)
    # The same cells for every seed, spread over the data.
    n_cells = len(codes[0])
    cells = np.unique(np.linspace(0, n_cells - 1, min(n_cells, _AGREEMENT_CELLS)).astype(int))
    codes = [array[cells].astype(np.float64) for array in codes]
    n_active = np.array([mask.sum() for mask in active])
    agreement = udr = np.full(len(runs), np.nan)
    if n_active.any():
        matched = metrics.match_dimensions(codes, active=active).agreement
        agreement = np.nansum(matched, axis=1) / np.where(n_active > 0, n_active, np.nan)
        udr = metrics.udr(codes, active=active, minimum_seeds=2).to_numpy()
    few = f"over only {len(runs) - 1} other seeds" if len(runs) < _ENOUGH_SEEDS else ""
    common = {"metric": ["agreement", "udr"], "covariate": "all", "level": "seeds", "n_cells": float(len(cells))}
    return {
        run: pd.DataFrame({**common, "value": values, "flag": few if n else "no active dimension"})
        for run, n, *values in zip(runs, n_active, agreement, udr, strict=True)
    }
