"""The folder of a sweep: what it was made from, and every finished run, each written whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbetavae.sweep._plain import differences, package_versions
from scbetavae.sweep._plan import Run
from scbetavae.sweep._results import SCORE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scbetavae.sweep._results import RunResult

_logger = logging.getLogger(__name__)

MANIFEST, SPLIT, RUNS, TABLE = "sweep.json", "split.npz", "runs", "sweep.csv"
RECORD, SCORES, CODES, HISTORY, MODEL = "run.json", "scores.csv", "codes.npz", "history.csv", "model"
_FORMAT = 1
_PARTIAL = ".partial"


class SweepStore:
    """Reads and writes the folder of a sweep.

    Parameters
    ----------
    folder
        Where the sweep lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, settings: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
        """Refuse a folder that this sweep cannot go on in; nothing is written.

        Parameters
        ----------
        settings
            What the runs have in common.
        data
            Fingerprint of the cells.

        Returns
        -------
        Whether the folder holds a sweep already.

        Raises
        ------
        FileExistsError
            If it is a file, or holds something that is no sweep.
        PermissionError
            If it cannot be written to.
        ValueError
            If it holds a sweep of other cells or other settings; the difference is named.
        """
        existing = _nearest(self.folder)
        if not existing.is_dir():
            msg = f"out_dir={str(self.folder)!r}: {str(existing)!r} is a file. Name a folder."
            raise FileExistsError(msg)
        if not os.access(existing, os.W_OK | os.X_OK):
            msg = f"out_dir={str(self.folder)!r} cannot be written to. Name another folder."
            raise PermissionError(msg)
        if not self.folder.exists():
            return False
        if not (self.folder / MANIFEST).exists():
            foreign = sorted(entry.name for entry in self.folder.iterdir() if _PARTIAL not in entry.name)
            if foreign and foreign != [SPLIT]:  # the split alone: a sweep that was killed while it began
                msg = (
                    f"out_dir={str(self.folder)!r} holds {', '.join(foreign[:3])}, but no sweep. Name a new folder, or one "
                    "that a sweep made."
                )
                raise FileExistsError(msg)
            return False
        manifest = self.manifest()
        found = differences(manifest["data"], data) + differences(manifest["settings"], settings)
        if found:
            msg = (
                f"out_dir={str(self.folder)!r} holds a sweep of other cells or settings, so its runs cannot stand beside new "
                f"ones: {'; '.join(found)}. Name another folder, or call with what was used there."
            )
            raise ValueError(msg)
        return True

    def begin(
        self, settings: Mapping[str, Any], data: Mapping[str, Any], split: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Write down what the sweep is made from, or read the split of one that goes on.

        Parameters
        ----------
        settings, data
            As for :meth:`check`.
        split
            Training and held-out cells of a sweep that begins.

        Returns
        -------
        The split of this sweep.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_partial()
        if (self.folder / MANIFEST).exists():
            self._report_versions(self.manifest()["versions"])
            with np.load(self.folder / SPLIT) as arrays:
                return arrays["train"], arrays["held_out"]
        self._replace_file(SPLIT, lambda path: np.savez(path, train=split[0], held_out=split[1]))
        manifest = {"format": _FORMAT, "versions": package_versions(), "data": data, "settings": settings}
        self._replace_file(MANIFEST, lambda path: path.write_text(_to_json(manifest)))
        return split

    def manifest(self) -> dict[str, Any]:
        """What the sweep was made from.

        Raises
        ------
        FileNotFoundError
            If the folder holds no sweep.
        ValueError
            If a later version of this package wrote it.
        """
        path = self.folder / MANIFEST
        if not path.exists():
            msg = (
                f"{str(self.folder)!r} holds no sweep: it has no {MANIFEST}. Make one with scbetavae.sweep.beta_sweep."
            )
            raise FileNotFoundError(msg)
        manifest = json.loads(path.read_text())
        if manifest["format"] != _FORMAT:
            msg = f"{str(path)!r} has format {manifest['format']}, this version reads {_FORMAT}. Update scbetavae."
            raise ValueError(msg)
        return manifest

    def finished(self) -> dict[str, bool]:
        """Names of the runs that are there, and whether each failed."""
        return {name: bool(record["error"]) for name, record in self._records()}

    def runs(self) -> list[tuple[Run, dict[str, Any]]]:
        """Runs that are there and what is known of each, in the order of the table."""
        found = [(Run(**record["run"]), record) for _, record in self._records()]
        return sorted(found, key=lambda item: item[0].order)

    def write(self, run: Run, result: RunResult) -> None:
        """Write a run in one step; one that failed before is replaced."""
        final = self.folder / RUNS / run.name
        final.parent.mkdir(exist_ok=True)
        staging = final.with_name(f".{run.name}.{socket.gethostname()}.{os.getpid()}{_PARTIAL}")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        record = {"run": asdict(run), "error": result.error, "warnings": result.warnings, "versions": result.versions}
        if result.failed:
            (staging / "traceback.txt").write_text(result.traceback)
        else:
            result.scores.to_csv(staging / SCORES, index=False)
            active = np.ones(result.codes.shape[1], dtype=bool) if result.active is None else result.active
            np.savez(staging / CODES, codes=result.codes, active=active)
            if result.history is not None:
                result.history.to_csv(staging / HISTORY)
            if result.model is not None:
                (staging / MODEL).mkdir()
                (staging / MODEL / "model.pt").write_bytes(result.model)
        (staging / RECORD).write_text(_to_json(record))
        _flush(staging)
        if final.exists():
            if not self.finished().get(run.name, True):  # another process was first: its result is as good
                shutil.rmtree(staging)
                return
            shutil.rmtree(final)
        staging.rename(final)

    def scores(self, run: Run) -> pd.DataFrame:
        """Scores of a run as they were written, to the last digit."""
        return _read_csv(self.folder / RUNS / run.name / SCORES, SCORE_COLUMNS)

    def codes(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Codes of a run, (n_cells, n_dims), and which dimensions are active, (n_dims,)."""
        with np.load(self.folder / RUNS / run.name / CODES) as arrays:
            return arrays["codes"], arrays["active"]

    def write_table(self, table: pd.DataFrame) -> None:
        """Write the table of all runs."""
        self._replace_file(TABLE, lambda path: table.to_csv(path, index=False))

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        folder = self.folder / RUNS
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not entry.name.startswith(".") and (entry / RECORD).exists():
                yield entry.name, json.loads((entry / RECORD).read_text())

    def _replace_file(self, name: str, write: Any) -> None:
        path = self.folder / name
        # The ending stays last, because numpy adds its own to any other.
        staging = path.with_name(f".{os.getpid()}{_PARTIAL}{path.suffix}")
        write(staging)
        _flush(staging)
        staging.replace(path)

    def _remove_partial(self) -> None:
        """Take away what processes of this machine that are gone left half-written."""
        for entry in (self.folder / RUNS).glob(f".*.{socket.gethostname()}.*{_PARTIAL}"):
            pid = entry.name.removesuffix(_PARTIAL).rpartition(".")[2]
            if not pid.isdigit() or not _is_alive(int(pid)):
                shutil.rmtree(entry, ignore_errors=True)

    def _report_versions(self, there: Mapping[str, str]) -> None:
        found = differences(there, package_versions())
        if found:
            _logger.warning("The sweep in %s goes on with other versions: %s.", self.folder, "; ".join(found))


def _read_csv(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    """A table to the last digit, whose texts stay texts: a covariate may be called "NA"."""
    table = pd.read_csv(path, dtype=object, keep_default_na=False)
    for name, kind in columns.items():
        if kind is float:
            table[name] = [float(text) if text else np.nan for text in table[name]]
    return table.astype({name: np.float64 for name, kind in columns.items() if kind is float})


def _to_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest of its parents that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _flush(path: Path) -> None:
    """Bring a file, or the files of a folder, to the disk: a rename must not overtake what it names."""
    for entry in [*path.rglob("*"), path] if path.is_dir() else [path]:
        if entry.is_dir() and os.name != "posix":
            continue
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # asking would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
