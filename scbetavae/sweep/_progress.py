"""Progress of a sweep."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from scbetavae.sweep._plan import Run
from scbetavae.sweep._results import RunResult

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepProgress:
    """Progress of a sweep, passed to the function in ``SweepOptions(progress=...)`` at the start and when a run ends.

    Attributes
    ----------
    total, kept
        Runs that were requested, and of them those that an earlier call finished.
    done, failed, running
        Runs that ended in this call, and those running now, as far as the workers have room.
    seconds_left
        Estimated seconds for the others; ``nan`` before the first model is trained.
    latest
        Name of the run that ended last; empty at the start.
    """

    total: int
    kept: int
    done: int
    failed: int
    running: int
    seconds_left: float
    latest: str = ""

    def __str__(self) -> str:
        text = f"{self.kept + self.done} of {self.total} runs done, {self.running} running, {self.failed} failed"
        if self.seconds_left != self.seconds_left or not self.running:
            return text
        minutes, seconds = divmod(round(self.seconds_left), 60)
        return f"{text}, about {f'{minutes} min' if minutes else f'{seconds} s'} left"


class ProgressReport:
    """Counts runs, logs each, and calls the user's function; ``slots`` returns how many runs fit at the same time."""

    def __init__(
        self,
        total: int,
        missing: list[Run],
        slots: Callable[[], int],
        progress: bool | Callable[[SweepProgress], object],
    ) -> None:
        self._counts = {"total": total, "kept": total - len(missing), "done": 0, "failed": 0}
        self._models, self._trained = sum(not run.is_baseline for run in missing), 0
        self._slots, self._report = slots, progress if callable(progress) else None
        self._started = time.monotonic()
        self._emit("")

    def ended(self, run: Run, result: RunResult) -> None:
        """Report that a run ended."""
        self._counts["failed" if result.failed else "done"] += 1
        if result.failed:
            _logger.warning("Run %s failed; the next call repeats it: %s", run.name, result.error)
        self._trained += not run.is_baseline
        self._emit(run.name)

    def _emit(self, latest: str) -> None:
        """Log the state and pass it on."""
        left = 2 * self._counts["total"] - sum(self._counts.values())
        # Baselines take next to nothing and would make the rest look short.
        per_model = (time.monotonic() - self._started) / self._trained if self._trained else float("nan")
        seconds = per_model * (self._models - self._trained) if left else 0.0
        state = SweepProgress(**self._counts, running=min(left, self._slots()), seconds_left=seconds, latest=latest)
        _logger.info("%s%s", f"{latest}: " if latest else "", state)
        if self._report is not None:
            self._report(state)
