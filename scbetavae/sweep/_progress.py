"""How far a sweep is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scbetavae.sweep._plan import Run
    from scbetavae.sweep._results import RunResult

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep is; given to ``beta_sweep(progress=...)`` at the start and whenever a run ends.

    Attributes
    ----------
    total
        Runs that were asked for.
    kept
        Of them, those that an earlier call had finished.
    done
        Finished in this call.
    failed
        Failed in this call.
    running
        Under way, as far as the engine has room.
    seconds_left
        Seconds that the others will take if they take as long as those before; ``nan`` before the first model is trained.
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
    """Counts runs and tells whoever wants to know.

    Parameters
    ----------
    total, kept
        Runs that were asked for, and those that are there.
    slots
        Function that returns how many runs fit side by side.
    progress
        Whether to show a bar, or the function to call.
    """

    def __init__(
        self, total: int, kept: int, slots: Callable[[], int], progress: bool | Callable[[SweepProgress], object]
    ) -> None:
        self._total, self._kept, self._slots = total, kept, slots
        self._tell = progress if callable(progress) else None
        self._done = self._failed = self._models = 0
        self._started: float | None = None
        self._model_seconds = 0.0

    def start(self, models_left: int) -> None:
        """Tell what is to be done, of which ``models_left`` are trainings."""
        self._models = models_left
        self._trained = 0
        self._started = time.monotonic()
        self._emit("")

    def ended(self, run: Run, result: RunResult) -> None:
        """Tell that a run ended."""
        self._failed += result.failed
        self._done += not result.failed
        if result.failed:
            _logger.warning("Run %s failed and is tried again at the next call: %s", run.name, result.error)
        self._trained += not run.is_baseline
        self._emit(run.name)

    def _emit(self, latest: str) -> None:
        left = self._total - self._kept - self._done - self._failed
        elapsed = time.monotonic() - self._started
        # Baselines take next to nothing and would make the rest look short.
        per_model = elapsed / self._trained if self._trained else float("nan")
        state = SweepProgress(
            total=self._total,
            kept=self._kept,
            done=self._done,
            failed=self._failed,
            running=min(left, self._slots()),
            seconds_left=per_model * (self._models - self._trained) if left else 0.0,
            latest=latest,
        )
        _logger.info("%s%s", f"{latest}: " if latest else "", state)
        if self._tell is not None:
            self._tell(state)
