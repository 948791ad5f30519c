"""Outputs after a finished training: each is made separately, so that one that fails does not affect the others."""

import csv
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from scbetavae._core.folders import MARK, staged_folder
from scbetavae.cli._errors import reason_of

CELLS, MODEL, REPORT, TABLES, FIGURES = MARK, "model", "report.html", "tables", "figures"

NOT_MADE = "not_made.csv"
"""Table of the outputs that were not made, and why."""

_RESOLUTION = 150  # dots per inch of the plots
_TITLE, _WIDTH = 12, 120  # of a line of the report


@contextmanager
def staged_outputs(out: Path) -> Iterator[Callable[[str], Path]]:
    """Yield the temporary place of an output by its name, such as ``tables/scores.csv``; all move to ``out`` on success.

    Each file replaces its predecessor; other files stay, also in the folders of tables and figures.
    """
    with ExitStack() as stack:
        folders = {name: stack.enter_context(staged_folder(out / name)) for name in ("", TABLES, FIGURES)}
        yield lambda name: folders[str(Path(name).parent).strip(".")] / Path(name).name
    remove_empty(out)


def remove_empty(out: Path) -> None:
    """Remove the folders of tables and figures where they hold nothing."""
    for name in (TABLES, FIGURES):
        with suppress(OSError):  # it is not there, or not empty
            (out / name).rmdir()


class Outputs:
    """Makes outputs, and keeps what was made, what was not, and the reason.

    ``place`` gives the path of an output by its name, and ``say`` takes the title and the text of a line of the report.
    """

    def __init__(
        self, place: Callable[[str], Path], say: Callable[[str, str], object] | None = None, *, debug: bool = False
    ) -> None:
        self.made: list[str] = []
        self.not_made: dict[str, str] = {}
        """Reasons by output."""
        self._place, self._say, self._debug = place, say or line, debug

    def compute(self, title: str, outputs: Iterable[str], action: Callable[[], str]) -> str | None:
        """Do what ``outputs`` need; its text is a line of the report, and so is the reason if it fails (then ``None``)."""
        text, reason = self._attempt(action)
        if reason is not None:
            self.not_made |= dict.fromkeys(outputs, reason)
            self._say(title, f"not possible: {reason}")
        elif text:
            self._say(title, text)
        return text

    def write(self, name: str, write: Callable[[Path], object], label: str | None = None) -> None:
        """Write one file, named ``label`` in the report; an incomplete file is removed."""
        path, label = self._place(name), label or name
        _, reason = self._attempt(lambda: write(path))
        if reason is None:
            self.made.append(name)
            self.not_made.pop(label, None)
            return
        path.unlink(missing_ok=True)
        self.not_made[label] = reason
        self._say("not made", f"{label}: {reason}")

    def table(self, name: str, table: Any) -> None:
        """Write a table."""
        self.write(name, lambda path: table.to_csv(path, index=False))

    def picture(self, name: str, draw: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
        """Write a plot; ``draw`` returns Axes or a Figure."""

        def save(path: Path) -> None:
            draw(*arguments, **settings).get_figure().savefig(path, dpi=_RESOLUTION, bbox_inches="tight")

        self.write(name, save)

    def write_reasons(self) -> list[str]:
        """Write the table of what was not made, if there is anything, and return its name."""
        if not self.not_made:
            return []
        with self._place(NOT_MADE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("output", "reason"), *self.not_made.items()])
        return [NOT_MADE]

    def exit_code(self, out: Path, *, strict: bool) -> int:
        """Exit code of the command, after a warning about outputs that are not in ``out``."""
        if not self.not_made:
            return 0
        names = ", ".join(self.not_made)
        print(f"scbetavae: warning: not made: {names}; why is in {out / NOT_MADE}", file=sys.stderr)
        return int(strict)

    def _attempt(self, action: Callable[[], Any]) -> tuple[Any, str | None]:
        """What an action returns, and why it failed."""
        try:
            return action(), None
        except Exception as error:  # noqa: BLE001 - after any error of an output, the training is kept
            if self._debug:
                traceback.print_exc()
            refused = isinstance(error, KeyError | ValueError | OSError) and error.args
            name = "" if refused else f"{type(error).__name__}: "
            return None, f"{name}{reason_of(error)}".removesuffix(": ")


def line(title: str, text: str) -> None:
    """Print a line of the report; on a terminal, a long one is folded."""
    text = f"{title:<{_TITLE}}{text}"
    if sys.stdout.isatty():
        width = min(shutil.get_terminal_size().columns, _WIDTH)
        text = textwrap.fill(text, max(width, 2 * _TITLE), subsequent_indent=" " * _TITLE, break_long_words=False)
    print(text, flush=True)
