"""The folder of a sweep: settings and finished runs, each written whole or not at all, and one tidy frame of them."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae._core.folders import check_folder, is_partial, remove_abandoned, staged_file, staged_folder
from scbetavae._core.text import listed
from scbetavae.sweep._plan import Run
from scbetavae.sweep._results import SCORE_COLUMNS, RunResult, differences, package_versions, stack_scores

_logger = logging.getLogger(__name__)

MANIFEST, SPLIT, RUNS, TABLE = "sweep.json", "split.npz", "runs", "sweep.csv"
RECORD, SCORES, LATENT, HISTORY, MODEL = "run.json", "scores.csv", "latent.npz", "history.csv", "model"
_FORMAT = 2
_AGREEMENT_CELLS = 10_000  # at most, so that memory does not grow with the data
_ENOUGH_SEEDS = 5


class SweepStore:
    """Reads and writes the folder of a sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, settings: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """Refuse a folder with something else, or with a sweep of other cells or settings; nothing is written."""
        check_folder(self.folder, "out_dir")
        if (self.folder / MANIFEST).exists():
            manifest = self.manifest()
            found = differences(manifest["data"], data) + differences(manifest["settings"], settings)
            if found:
                msg = (
                    f"out_dir={str(self.folder)!r} holds a sweep of other cells or settings, which cannot be compared with "
                    f"this one: {'; '.join(found)}. Pass another folder, or the same cells and settings."
                )
                raise ValueError(msg)
        elif self.folder.exists():
            others = sorted(entry.name for entry in self.folder.iterdir() if not is_partial(entry))
            if others and others != [SPLIT]:  # the split alone: a sweep that was killed while it began
                msg = f"out_dir={str(self.folder)!r} holds {listed(others, 3)}, but no sweep. Pass a new folder."
                raise FileExistsError(msg)

    def begin(
        self, settings: Mapping[str, Any], data: Mapping[str, Any], split: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Store settings, data and split of a new sweep; return the split, which one that resumes has already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder / RUNS)
        if (self.folder / MANIFEST).exists():
            found = differences(self.manifest()["versions"], package_versions())
            if found:
                _logger.warning("The sweep in %s resumes with other versions: %s.", self.folder, "; ".join(found))
            with np.load(self.folder / SPLIT) as arrays:
                return arrays["train"], arrays["held_out"]
        with staged_file(self.folder / SPLIT) as path:
            np.savez(path, train=split[0], held_out=split[1])
        manifest = {"format": _FORMAT, "versions": package_versions(), "data": data, "settings": settings}
        with staged_file(self.folder / MANIFEST) as path:
            path.write_text(_to_json(manifest))
        return split

    def manifest(self) -> dict[str, Any]:
        """Settings and data of the sweep; an error if there is none, or another version wrote it."""
        path = self.folder / MANIFEST
        if not path.exists():
            msg = (
                f"{str(self.folder)!r} holds no sweep: it has no {MANIFEST}. Make one with scbetavae.sweep.beta_sweep."
            )
            raise FileNotFoundError(msg)
        manifest = json.loads(path.read_text())
        if manifest["format"] != _FORMAT:
            msg = f"{str(path)!r} has format {manifest['format']}, this version of scbetavae reads {_FORMAT}. Use another folder."
            raise ValueError(msg)
        return manifest

    def finished(self) -> dict[str, bool]:
        """Names of the stored runs, and whether each failed."""
        return {run.name: bool(record["error"]) for run, record in self.runs()}

    def runs(self) -> list[tuple[Run, dict[str, Any]]]:
        """Stored runs with their records, in the order of the table."""
        folder = self.folder / RUNS
        entries = [entry for entry in folder.iterdir() if not is_partial(entry)] if folder.is_dir() else []
        records = [self._record(entry.name) for entry in entries if (entry / RECORD).exists()]
        return sorted(((Run(**record["run"]), record) for record in records), key=lambda item: item[0].order)

    def write(self, run: Run, result: RunResult) -> None:
        """Write a run in one step, unless another process finished it first; one that failed before is replaced."""
        if (self.folder / RUNS / run.name / RECORD).exists() and not self._record(run.name)["error"]:
            return
        record = {"run": asdict(run), "error": result.error, "warnings": result.warnings, "versions": result.versions}
        (self.folder / RUNS).mkdir(exist_ok=True)
        with staged_folder(self.folder / RUNS / run.name, replace=True) as folder:
            if result.latent is None:
                (folder / "traceback.txt").write_text(result.traceback)
            else:
                result.scores.to_csv(folder / SCORES, index=False)
                active = np.ones(result.latent.shape[1], dtype=bool) if result.active is None else result.active
                np.savez(folder / LATENT, latent=result.latent, active=active)
            if result.history is not None:
                result.history.to_csv(folder / HISTORY)
            if result.model is not None:
                (folder / MODEL).mkdir()
                (folder / MODEL / "model.pt").write_bytes(result.model)
            (folder / RECORD).write_text(_to_json(record))

    def scores(self, run: Run) -> pd.DataFrame:
        """Scores of a run to the last digit; texts stay texts, as a covariate may be called "NA"."""
        table = pd.read_csv(self.folder / RUNS / run.name / SCORES, dtype=object, keep_default_na=False)
        numbers = [name for name, kind in SCORE_COLUMNS.items() if kind is float]
        table[numbers] = table[numbers].map(lambda text: float(text or "nan"))
        return table

    def latent(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Embedding of a run, (n_cells, n_dims), and which dimensions are active, (n_dims,)."""
        with np.load(self.folder / RUNS / run.name / LATENT) as arrays:
            return arrays["latent"], arrays["active"]

    def write_table(self, table: pd.DataFrame) -> None:
        """Write the table of all runs."""
        with staged_file(self.folder / TABLE) as path:
            table.to_csv(path, index=False)

    def _record(self, name: str) -> dict[str, Any]:
        """What is stored of a run next to its numbers."""
        return json.loads((self.folder / RUNS / name / RECORD).read_text())


def _to_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_sweep(out_dir: str | Path) -> pd.DataFrame:
    """Read the table of the sweep in the folder ``out_dir``, finished or not, as :func:`beta_sweep` returns it.

    It is a FileNotFoundError if the folder holds no sweep, a ValueError if another version of scbetavae wrote it.

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
    latents, active = zip(*map(store.latent, runs), strict=True)
    # The same cells for every seed, spread over the data.
    n_cells = len(latents[0])
    cells = np.unique(np.linspace(0, n_cells - 1, min(n_cells, _AGREEMENT_CELLS)).astype(int))
    latents = [array[cells].astype(np.float64) for array in latents]
    n_active = np.array([mask.sum() for mask in active])
    agreement = udr = np.full(len(runs), np.nan)
    if n_active.any():
        matched = metrics.match_dimensions(latents, active=active).agreement
        agreement = np.nansum(matched, axis=1) / np.where(n_active > 0, n_active, np.nan)
        udr = metrics.udr(latents, active=active, minimum_seeds=2).to_numpy()
    few = f"over only {len(runs) - 1} other seeds" if len(runs) < _ENOUGH_SEEDS else ""
    common = {"metric": ["agreement", "udr"], "covariate": "all", "level": "seeds", "n_cells": float(len(cells))}
    return {
        run: pd.DataFrame({**common, "value": values, "flag": few if n else "no active dimension"})
        for run, n, *values in zip(runs, n_active, agreement, udr, strict=True)
    }
