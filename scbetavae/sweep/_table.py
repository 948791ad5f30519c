"""From the folder of a sweep to one tidy frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scbetavae import tl
from scbetavae._core import keys as _keys
from scbetavae.sweep._results import SCORE_COLUMNS, stack_scores
from scbetavae.sweep._store import SweepStore

if TYPE_CHECKING:
    from scbetavae.sweep._plan import Run

_AGREEMENT_CELLS = 10_000
"""Cells that the agreement of seeds is taken over at most, so that memory does not grow with the data."""

_ENOUGH_SEEDS = 5


def read_sweep(out_dir: str | Path) -> pd.DataFrame:
    """Table of a sweep that was made before, finished or not.

    Parameters
    ----------
    out_dir
        Folder of the sweep.

    Returns
    -------
    Tidy DataFrame, as :func:`beta_sweep` returns it, of every run in the folder.

    Raises
    ------
    FileNotFoundError
        If the folder holds no sweep.

    See Also
    --------
    beta_sweep

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
    """Rows of every run, one run in memory at a time; agreement of seeds is added."""
    runs = store.runs()
    agreement = _seed_agreement(store, [run for run, record in runs if not record["error"]])
    frames = []
    for run, record in runs:
        scores = store.scores(run) if not record["error"] else _blank_row()
        if run in agreement:
            scores = stack_scores([scores, agreement[run]])
        frames.append(_described(scores, run, record))
    if not frames:
        return _described(_blank_row(), None, {"error": ""}).iloc[:0]
    return pd.concat(frames, ignore_index=True)


def _described(scores: pd.DataFrame, run: Run | None, record: dict[str, Any]) -> pd.DataFrame:
    """Scores with the run they belong to in front, and its state behind."""
    baseline = run is not None and run.is_baseline
    front = {
        "run": "" if run is None else run.name,
        "kind": "baseline" if baseline else "model",
        "method": "" if run is None else run.method,
        "beta": np.nan if run is None or run.beta is None else run.beta,
        "seed": 0 if run is None else run.seed,
    }
    frame = scores.copy()
    for position, (name, value) in enumerate(front.items()):
        frame.insert(position, name, value)
    frame["status"] = "failed" if record["error"] else "done"
    frame["error"] = record["error"]
    return frame


def _blank_row() -> pd.DataFrame:
    return pd.DataFrame({name: ["" if kind is str else np.nan] for name, kind in SCORE_COLUMNS.items()})


def _seed_agreement(store: SweepStore, runs: list[Run]) -> dict[Run, pd.DataFrame]:
    """A row for every model of a setting that has several seeds."""
    settings: dict[tuple[str, float | None], list[Run]] = {}
    for run in runs:
        if not run.is_baseline:
            settings.setdefault((run.method, run.beta), []).append(run)
    rows = {}
    for members in settings.values():
        if len(members) > 1:
            rows |= _agreement_of(store, members)
    return rows


def _agreement_of(store: SweepStore, runs: list[Run]) -> dict[Run, pd.DataFrame]:
    """Two rows a run: how well its dimensions agree with those of the other seeds, and its UDR."""
    codes, active = {}, {}
    for run in runs:
        array, active[run.name] = store.codes(run)
        # The same cells for every seed, spread over the data.
        cells = np.unique(np.linspace(0, len(array) - 1, min(len(array), _AGREEMENT_CELLS)).astype(int))
        codes[run.name] = array[cells]
    shell = AnnData(obs=pd.DataFrame(index=[f"cell {i}" for i in range(len(cells))]), obsm=codes)
    values = {"agreement": np.full(len(runs), np.nan), "udr": np.full(len(runs), np.nan)}
    if any(mask.any() for mask in active.values()):
        tl.consensus_dimensions(shell, list(codes), active=active)
        parameters = shell.uns[_keys.UNS][f"{_keys.CONSENSUS}{_keys.PARAMS_SUFFIX}"]
        values = {name: parameters[name] for name in values}
    few = f"over only {len(runs) - 1} other seeds" if len(runs) < _ENOUGH_SEEDS else ""
    rows = {}
    for position, run in enumerate(runs):
        flag = few if active[run.name].any() else "no active dimension"
        frame = pd.DataFrame({"metric": list(values), "value": [array[position] for array in values.values()]})
        rows[run] = frame.assign(covariate="all", level="seeds", n_cells=float(len(cells)), flag=flag)
    return rows
