"""Output folders and files that appear whole, or not at all."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = "betavae.h5ad"  # the file by which an output folder of the command is recognized
_PARTIAL = ".partial"


def check_folder(path: Path, argument: str) -> None:
    """Raise unless ``path`` is a folder that can be written to, or can become one."""
    existing = _existing_folder(path)
    if not existing.is_dir():
        msg = f"{argument}={str(path)!r} is not allowed: {str(existing)!r} is a file. Pass the name of a folder."
        raise FileExistsError(msg)
    if not os.access(existing, os.W_OK | os.X_OK):
        msg = f"{argument}={str(path)!r} cannot be written to. Pass another folder."
        raise PermissionError(msg)


def check_output(path: Path, names: tuple[str, ...], *, source: Path | None = None) -> None:
    """Refuse an output folder where a user's file would be lost; called before any work is done.

    ``names`` will be written into ``path``, which need not exist. It is a FileExistsError if ``path`` is a file, or if a name is
    that of the input ``source`` or of something that this command did not write; a PermissionError if the folder is read-only.
    """
    check_folder(path, "--out")
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
def staged_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder in the same place whose content moves to ``path`` when the block succeeds.

    A new folder appears in one step. In an existing one each file or folder is replaced whole, and other files stay, unless
    ``replace``: then the folder is replaced. When the block raises, also by an interrupt, ``path`` stays as it was.
    """
    staging = _staging(path)
    staging.mkdir()
    try:
        yield staging
        _flush(staging)
        _publish(staging, path, replace=replace)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same place that replaces ``path`` when the block succeeds."""
    staging = _staging(path).with_suffix(f"{_PARTIAL}{path.suffix}")  # numpy adds its own ending to any other
    try:
        yield staging
        _flush(staging)
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def is_partial(path: Path) -> bool:
    """Whether this is a temporary file or folder of a block that has not succeeded."""
    return path.name.startswith(".") and _PARTIAL in path.name


def remove_abandoned(folder: Path) -> None:
    """Remove temporary folders of processes of this machine that no longer exist."""
    for entry in folder.glob(f".*.{socket.gethostname()}.*{_PARTIAL}"):
        pid = entry.name.removesuffix(_PARTIAL).rpartition(".")[2]
        if not pid.isdigit() or not _is_alive(int(pid)):
            shutil.rmtree(entry, ignore_errors=True)


def _staging(path: Path) -> Path:
    """Name of a temporary entry, which contains machine and process."""
    owner = f"{socket.gethostname()}.{os.getpid()}"
    return _existing_folder(path.parent) / f".{path.name or 'scbetavae'}.{owner}{_PARTIAL}"


def _publish(staging: Path, path: Path, *, replace: bool) -> None:
    """Move what was staged to its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if replace and path.exists():
        shutil.rmtree(path)
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
    """Whether a process exists; on Windows, where asking would end it, always true."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
