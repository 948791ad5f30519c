"""Errors and signals, as the command reports them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CommandError(Exception):
    """An error that is one line for the user, without a traceback: by default a mistake in the arguments or the data."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class TerminatedError(BaseException):
    """A request to terminate. Like an interrupt from the keyboard, it passes whoever catches errors."""


@contextmanager
def users_mistakes(*kinds: type[Exception]) -> Iterator[None]:
    """Turn these errors into one line for the user."""
    try:
        yield
    except kinds as error:
        raise CommandError(reason_of(error)) from error


@contextmanager
def terminable() -> Iterator[None]:
    """Let a request to terminate end the command like an interrupt, so that no half-written folder stays."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return

    def stop(*_: object) -> None:
        raise TerminatedError

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if earlier is None else earlier)


@contextmanager
def stops_of_lightning() -> Iterator[None]:
    """Undo what Lightning makes of an interrupt (an exit with code 1) and of a request to terminate (one with code 0)."""
    try:
        yield
    except SystemExit as stop:
        raise (KeyboardInterrupt if isinstance(stop.__context__, KeyboardInterrupt) else TerminatedError) from stop


def reason_of(error: Exception) -> str:
    """The message of an error on one line."""
    # str(KeyError("text")) puts the text in quotes; an OSError's first argument is a number.
    message = str(error) if isinstance(error, OSError) or not error.args else str(error.args[0])
    return " ".join(message.split())
