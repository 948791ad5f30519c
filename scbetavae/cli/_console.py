"""Output on the terminal: our own lines, not those of the libraries."""

import io
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import scvi  # noqa: F401  (it sets its logger's level when it loads, so it has to load before we do)
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from scbetavae._core.logs import LIGHTNING, quiet


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the logging and the warnings of other packages; show our own warnings as one line each."""
    with warnings.catch_warnings(), quiet(*LIGHTNING, "scvi", "scanpy"):
        warnings.simplefilter("ignore")
        # A warning belongs to the module that it points to: with a right stack level that is ours or the caller.
        warnings.filterwarnings("always", category=UserWarning, module=r"(scbetavae(\.|$)|__main__$)")
        warnings.showwarning = lambda message, *_, **__: print(
            f"scbetavae: warning: {' '.join(str(message).split())}", file=sys.stderr
        )
        yield


class StepProgress(ProgressBar):
    """A bar of minibatches with the time left on a terminal; in a log, a line for about every tenth of them.

    A subclass of Lightning's bars, so that training may proceed in steps of several minibatches.
    """

    def __init__(self, stream: TextIO | None = None):
        super().__init__()
        self._stream = sys.stderr if stream is None else stream
        self._bar: tqdm | None = None
        self._started = 0.0
        self._tenths = 0

    def disable(self) -> None:
        """Lightning calls it in processes other than the first."""
        self._stream = io.StringIO()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Open the bar on a terminal."""
        self._started = time.perf_counter()
        if self._stream.isatty():
            self._bar = tqdm(total=pl_module.n_steps, desc="Training", unit="step", file=self._stream, leave=False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Move the bar, or print a line."""
        done, total = pl_module.n_steps_done, pl_module.n_steps
        if self._bar is not None:
            self._bar.total = total  # the plan knows it only after callbacks have started
            self._bar.update(done - self._bar.n)
            if done == total:
                self._bar.refresh()
        elif 10 * done // total > self._tenths:
            self._tenths = 10 * done // total
            seconds = time.perf_counter() - self._started
            left = f", {seconds * (total - done) / done:.0f} s left" if done < total else ""
            print(f"step {done} of {total}, {seconds:.0f} s{left}", file=self._stream, flush=True)

    def on_train_end(self, *_args: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, *_args: Any) -> None:
        """Close the bar."""
        self.on_train_end()
