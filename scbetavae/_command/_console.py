"""What reaches the terminal: our own lines, not those of the libraries underneath."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import lightning.pytorch
import scvi  # noqa: F401  (it sets its logger's level when it loads, so it has to load before we do)
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHATTY = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "scvi", "scanpy")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the logging and the warnings of other packages; show our own warnings as one line each."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A warning belongs to the module that it points to: with a right stack level that is ours or the caller.
        warnings.filterwarnings("always", category=UserWarning, module=r"(scbetavae(\.|$)|__main__$)")
        warnings.showwarning = _show_warning
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _show_warning(message: Warning | str, *_args: object, **_kwargs: object) -> None:
    print(f"scbetavae: warning: {' '.join(str(message).split())}", file=sys.stderr)


class EpochProgress(Callback):
    """A progress bar on a terminal; in a log, a plain line for about every tenth of the epochs.

    Parameters
    ----------
    stream
        Where to write; standard error unless given.
    """

    def __init__(self, stream: TextIO | None = None):
        self._stream = sys.stderr if stream is None else stream
        self._bar: tqdm | None = None
        self._started = 0.0

    def on_train_start(self, trainer: lightning.pytorch.Trainer, pl_module: lightning.pytorch.LightningModule) -> None:
        """Open the bar on a terminal."""
        self._started = time.perf_counter()
        if self._stream.isatty():
            self._bar = tqdm(total=trainer.max_epochs, desc="Training", unit="epoch", file=self._stream, leave=False)

    def on_train_epoch_end(
        self, trainer: lightning.pytorch.Trainer, pl_module: lightning.pytorch.LightningModule
    ) -> None:
        """Move the bar, or print a line."""
        if self._bar is not None:
            self._bar.update()
            return
        epoch, total = trainer.current_epoch + 1, trainer.max_epochs
        if epoch % max(1, round(total / 10)) == 0 or epoch == total:
            seconds = time.perf_counter() - self._started
            print(f"epoch {epoch} of {total}, {seconds:.0f} s", file=self._stream, flush=True)

    def on_train_end(self, trainer: lightning.pytorch.Trainer, pl_module: lightning.pytorch.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self,
        trainer: lightning.pytorch.Trainer,
        pl_module: lightning.pytorch.LightningModule,
        exception: BaseException,
    ) -> None:
        """Close the bar, so that an error starts on its own line."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
