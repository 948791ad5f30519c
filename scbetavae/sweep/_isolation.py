"""A run must neither depend on what ran before it nor change what runs after it."""

from __future__ import annotations

import logging
import os
import random
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scvi
import torch
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

# Lightning sets the first, scvi-tools appends to the second at every seed.
_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "XLA_FLAGS")
_CHATTY = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
_NOT_FOR_USERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = Path("/proc/self/statm")
_EVERY = 0.02  # seconds


@contextmanager
def isolated(seed: int, num_threads: int) -> Iterator[list[str]]:
    """Seed everything and fix the number of threads; put all of it back at the end.

    Numbers of a run then depend on its seed alone: sums over threads differ in their last digits with the number of threads.

    Parameters
    ----------
    seed
        Seed of Python, numpy, torch and scvi-tools.
    num_threads
        Threads of torch, BLAS and OpenMP.

    Yields
    ------
    List that receives the warnings of the run once it ends, each once.
    """
    messages: list[str] = []
    threads, variables = torch.get_num_threads(), {name: os.environ.get(name) for name in _VARIABLES}
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    old_seed, states = scvi.settings.seed, (random.getstate(), np.random.get_state())  # noqa: NPY002 - scvi-tools draws from it
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    devices = range(torch.cuda.device_count())
    with (
        torch.random.fork_rng(devices),
        threadpool_limits(num_threads),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        # Ray hands out arrays that several processes share; nothing writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        try:
            for name in _CHATTY:
                logging.getLogger(name).setLevel(logging.ERROR)
            torch.set_num_threads(num_threads)
            scvi.settings.seed = seed
            yield messages
        finally:
            scvi.settings.seed = old_seed  # draws anew, so the states come back after it
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            torch.set_num_threads(threads)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
            for name, value in variables.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            texts = [str(w.message) for w in caught if not issubclass(w.category, _NOT_FOR_USERS)]
            messages.extend(dict.fromkeys(texts))


class PeakMemory:
    """Highest resident memory of the process within a block, in MiB.

    Looked up every 20 ms where the system has ``/proc``; elsewhere the highest of the process since it started, and ``nan``
    where that is not known either.
    """

    def __init__(self) -> None:
        self._highest = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if _STATM.exists():
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def mebibytes(self) -> float:
        """The highest so far."""
        if _STATM.exists():
            self._look()
            return self._highest / 2**20
        try:
            import resource
        except ImportError:  # Windows
            return float("nan")
        # In bytes on macOS, the only other system with this module.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def _look(self) -> None:
        resident = int(_STATM.read_text().split()[1]) * _PAGE
        self._highest = max(self._highest, float(resident))

    def _watch(self) -> None:
        while not self._end.wait(_EVERY):
            self._look()
