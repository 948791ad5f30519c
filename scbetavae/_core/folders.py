"""An output folder that appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "betavae.h5ad"
"""The file by which a folder is known to have been written by this command."""


def check_output(path: Path, names: tuple[str, ...], *, source: Path | None = None) -> None:
    """Refuse an output folder that cannot be written, or where something of the user's would be lost.

    Called before any work is done.

    Parameters
    ----------
    path
        The output folder. It need not exist, nor need its parents.
    names
        Files and folders that will be written into it.
    source
        The file that is read, which must not be overwritten.

    Raises
    ------
    FileExistsError
        If ``path`` is a file, if a name to be written is taken by something that this command did not write, or if
        it is ``source`` itself.
    PermissionError
        If the folder cannot be written to.
    """
    existing = _existing_folder(path)
    if not existing.is_dir():
        msg = f"{str(existing)!r} is a file, so results cannot go to {str(path)!r}: give --out the name of a folder."
        raise FileExistsError(msg)
    if not os.access(existing, os.W_OK | os.X_OK):
        msg = f"The folder {str(existing)!r} cannot be written to: give another folder with --out."
        raise PermissionError(msg)
    taken = [name for name in names if (path / name).exists()]
    if source is not None and source.exists() and any((path / name).samefile(source) for name in taken):
        msg = f"The results in {str(path)!r} would overwrite the input {str(source)!r}: give another folder with --out."
        raise FileExistsError(msg)
    if taken and MARK not in taken:
        msg = (
            f"{str(path)!r} already holds {', '.join(taken)}, which scbetavae did not write: "
            "give another folder with --out, or move them away."
        )
        raise FileExistsError(msg)


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` whose content moves to ``path`` when the block ends well.

    A new folder appears in one step. In an existing one each file or folder is replaced whole, and other files stay.
    When the block raises, by an interrupt too, the temporary folder goes and ``path`` is as it was.
    """
    staging = _existing_folder(path.parent) / f".{path.name or 'scbetavae'}.{os.getpid()}.partial"
    staging.mkdir()
    try:
        yield staging
        _publish(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        staging.rename(path)
        return
    for entry in sorted(staging.iterdir()):
        target = path / entry.name
        if target.is_dir():
            # A folder cannot replace another in one step: the old one leaves first, and is deleted with the staging.
            target.rename(staging / f".replaced-{entry.name}")
        entry.replace(target)


def _existing_folder(path: Path) -> Path:
    """The path itself, or the nearest of its parents that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
