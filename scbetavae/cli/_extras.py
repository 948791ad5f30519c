"""Outputs beside a finished training: each is made on its own, so that one that fails takes no other with it."""

from __future__ import annotations

import csv
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pandas as pd

NOT_MADE = "not_made.csv"
"""Table of the outputs that were not made, and why."""

RESOLUTION = 150  # dots per inch of the pictures


class Extras:
    """Makes outputs, and keeps what was made, what was not, and why not.

    Parameters
    ----------
    folder
        Where outputs are written.
    debug
        Whether to show the traceback of what failed.
    """

    def __init__(self, folder: Path, *, debug: bool = False) -> None:
        self.made: list[str] = []
        self.not_made: dict[str, str] = {}
        """Reasons by output."""
        self._folder, self._debug = folder, debug

    def compute(self, title: str, outputs: Iterable[str], action: Callable[[], str]) -> str | None:
        """Do what outputs need, and report its text, or why it failed, as a line.

        Parameters
        ----------
        title
            Of the line.
        outputs
            Files that are not made if this fails.
        action
            Returns the text of the line; no line if it is empty.

        Returns
        -------
        The text, or nothing if it failed.
        """
        text, reason = self._attempt(action)
        if reason is not None:
            self.not_made |= dict.fromkeys(outputs, reason)
            line(title, f"not possible: {reason}")
        elif text:
            line(title, text)
        return text

    def write(self, name: str, write: Callable[[Path], object], label: str | None = None) -> None:
        """Write one file; half a file does not stay.

        Parameters
        ----------
        name
            Of the file.
        write
            Takes the path.
        label
            What to call it in the report, if not by its name.
        """
        path, label = self._folder / name, label or name
        _, reason = self._attempt(lambda: write(path))
        if reason is None:
            self.made.append(name)
            self.not_made.pop(label, None)
            return
        path.unlink(missing_ok=True)
        self.not_made[label] = reason
        line("not made", f"{label}: {reason}")

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table."""
        self.write(name, lambda path: table.to_csv(path, index=False))

    def picture(self, name: str, draw: Callable[..., Any], *arguments: Any) -> None:
        """Draw and write a picture; ``draw`` returns Axes or a Figure."""

        def save(path: Path) -> None:
            draw(*arguments).get_figure().savefig(path, dpi=RESOLUTION, bbox_inches="tight")

        self.write(name, save)

    def write_reasons(self) -> list[str]:
        """Write the table of what was not made, if there is anything, and return its name."""
        if not self.not_made:
            return []
        with (self._folder / NOT_MADE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("output", "reason"), *self.not_made.items()])
        return [NOT_MADE]

    def exit_code(self, out: Path, *, strict: bool) -> int:
        """Exit code of the command; warns of what was not made in ``out``."""
        if not self.not_made:
            return 0
        names = ", ".join(self.not_made)
        print(f"scbetavae: warning: not made: {names}; why is in {out / NOT_MADE}", file=sys.stderr)
        return int(strict)

    def _attempt(self, action: Callable[[], Any]) -> tuple[Any, str | None]:
        """What an action returns, and why it failed."""
        try:
            return action(), None
        except Exception as error:  # noqa: BLE001 - whatever an output raises, the training is kept
            if self._debug:
                traceback.print_exc()
            refused = isinstance(error, KeyError | ValueError | OSError) and error.args
            return None, reason_of(error) if refused else f"{type(error).__name__}: {reason_of(error)}".removesuffix(
                ": "
            )


def reason_of(error: Exception) -> str:
    """What an error says, on one line."""
    # str(KeyError("text")) puts the text in quotes; an OSError's first argument is a number.
    message = str(error) if isinstance(error, OSError) or not error.args else str(error.args[0])
    return " ".join(message.split())


def line(title: str, text: str) -> None:
    """Print a line of the report."""
    print(f"{title:<12}{text}", flush=True)
