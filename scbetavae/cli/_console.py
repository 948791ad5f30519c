"""Output on the terminal: our own lines, not those of the libraries."""

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import scvi  # noqa: F401  (it sets its logger's level when it loads, so it has to load before we do)
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar

from scbetavae._core.logs import LIGHTNING, quiet
from scbetavae.cli._progress import Progress

_BAR = 24  # characters
_SECONDS = 0.1  # between two texts of the progress line


@contextmanager
def quiet_libraries(progress: Progress) -> Iterator[None]:
    """Silence the logging and the warnings of other packages; show our own warnings as one line each."""

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        progress.clear()
        print(f"scbetavae: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings(), quiet(*LIGHTNING, "scvi", "scanpy"):
        warnings.simplefilter("ignore")
        # A warning belongs to the module that it points to: with a right stack level that is ours or the caller.
        warnings.filterwarnings("always", category=UserWarning, module=r"(scbetavae(\.|$)|__main__$)")
        warnings.showwarning = show_warning
        try:
            yield
        finally:
            progress.clear()


class StepProgress(ProgressBar):
    """Minibatches with the time left: in the progress line of a terminal; in a log, one line for about every tenth of them.

    A subclass of Lightning's bars, so that training may proceed in steps of several minibatches.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        super().__init__()
        self._progress = progress or Progress()
        self._is_on = True
        self._started = self._shown = 0.0
        self._tenths = 0

    def disable(self) -> None:
        """Lightning calls it in processes other than the first."""
        self._is_on = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Replace the line, or print one."""
        done, total = pl_module.n_steps_done, pl_module.n_steps
        now = time.perf_counter()
        left = (now - self._started) * (total - done) / done
        if not self._is_on:
            return
        if self._progress.is_live:
            if now - self._shown >= _SECONDS or done == total:
                bar = "#" * (_BAR * done // total)
                self._progress.show(f"training [{bar:<{_BAR}}] step {done} of {total}, {_duration(left)} left")
                self._shown = now
        elif 10 * done // total > self._tenths:
            self._tenths = 10 * done // total
            rest = f", {_duration(left)} left" if done < total else ""
            print(
                f"step {done} of {total}, {_duration(now - self._started)}{rest}",
                file=self._progress.stream,
                flush=True,
            )


def _duration(seconds: float) -> str:
    """Seconds, from two minutes on minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
