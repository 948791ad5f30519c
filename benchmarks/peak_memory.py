"""Peak memory of this process, through psutil (extra ``bench``)."""

import threading

import psutil

_EVERY = 0.005  # seconds


class PeakMemory:
    """Highest resident memory since it was made, sampled by a thread."""

    def __init__(self) -> None:
        self._process, self._highest, self._end = psutil.Process(), 0, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def mib(self) -> float:
        """The highest so far, in MiB."""
        self._highest = max(self._highest, self._process.memory_info().rss)
        return self._highest / 2**20

    def _watch(self) -> None:
        while not self._end.wait(_EVERY):
            self.mib()
