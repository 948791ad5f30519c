"""Isolation of runs: none depends on what ran before it, or changes what runs after it."""

import mmap
import os
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import numpy as np
import scvi
import torch
from threadpoolctl import threadpool_limits

from scbetavae._core.logs import LIGHTNING, quiet

_NOT_FOR_USERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)
_STATM = Path("/proc/self/statm")
_EVERY = 0.02  # seconds


@contextmanager
def isolated(seed: int, num_threads: int) -> Iterator[list[str]]:
    """Seed everything, fix the number of threads, and restore both at the end; yields a list that receives the warnings.

    Sums over threads differ in their last digits with the number of threads.
    """
    messages: list[str] = []
    backend: Any = torch.backends.cudnn
    threads, deterministic, benchmark = torch.get_num_threads(), backend.deterministic, backend.benchmark
    old_seed, states = scvi.settings.seed, (random.getstate(), np.random.get_state())  # noqa: NPY002 - scvi-tools draws from it
    with (
        patch.dict(os.environ),  # Lightning and scvi-tools set variables at every seed
        quiet(*LIGHTNING),
        torch.random.fork_rng(range(torch.cuda.device_count())),
        threadpool_limits(num_threads),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        # Several processes share the arrays; nothing writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        try:
            torch.set_num_threads(num_threads)
            scvi.settings.seed = seed
            yield messages
        finally:
            scvi.settings.seed = old_seed  # draws anew, so the states come back after it
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            torch.set_num_threads(threads)
            backend.deterministic, backend.benchmark = deterministic, benchmark
            texts = [str(w.message) for w in caught if not issubclass(w.category, _NOT_FOR_USERS)]
            messages.extend(dict.fromkeys(texts))


class PeakMemory:
    """Highest resident memory of the process within a block, in MiB, sampled every 20 ms, without psutil (an extra)."""

    def __init__(self) -> None:
        self.mebibytes = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        ended = False
        while not ended:
            self.mebibytes = float(np.fmax(self.mebibytes, _resident()))
            ended = self._end.wait(_EVERY)


def _resident() -> float:
    """Resident memory in MiB; without /proc the highest since the process started, and NaN on Windows."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * mmap.PAGESIZE / 2**20
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # in bytes on macOS
