"""The progress line of a terminal. Imports nothing heavy, so that it is there while the libraries load."""

import sys
from typing import TextIO


class Progress:
    """One line on a terminal, which is replaced by the next; nothing elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.is_live = self.stream.isatty()
        self._is_shown = False
        self._stage = self._n_stages = 0

    def show(self, text: str) -> None:
        """Replace the line."""
        if self.is_live:
            self.stream.write(f"\r\x1b[K{text}")
            self.stream.flush()
            self._is_shown = True

    def count(self, n_stages: int) -> None:
        """Number the stages that follow."""
        self._stage, self._n_stages = 0, n_stages

    def stage(self, text: str) -> None:
        """Replace the line by the next stage and its number."""
        self._stage += 1
        self.show(f"{text} ({self._stage} of {self._n_stages})")

    def clear(self) -> None:
        """Remove the line, before anything else is printed."""
        if self._is_shown:
            self.show("")
            self._is_shown = False
