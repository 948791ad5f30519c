"""From the command line to an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from scbetavae._core.text import did_you_mean
from scbetavae.cli import _report, _sweep_arguments, _train_arguments
from scbetavae.cli._commands import DEFAULT, USAGE
from scbetavae.cli._errors import CommandError, TerminatedError

_PARSERS = {
    "train": _train_arguments.train_parser,
    "sweep": _sweep_arguments.sweep_parser,
    "report": _report.report_parser,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        What follows the command's name; by default that of the command line.

    Returns
    -------
    Exit code: 0, 1 if an output could not be made and ``--strict`` was given, 2 after a user's mistake, 3 if all models of a
    sweep failed, 130 after an interrupt from the keyboard, 143 after a request to terminate.
    """
    # Threads that wait actively take the processor from those that they wait for, on a machine with other work: the default
    # run then takes ten times as long. OpenMP reads it when torch loads, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments.pop(0) if arguments[:1] and arguments[0] in USAGE else DEFAULT
    parser = _PARSERS[name]()
    if name == DEFAULT:
        _check_command(arguments, parser.error)
    options = parser.parse_args(arguments)
    try:
        return import_module(f"scbetavae.cli._{name}").run(options)
    except CommandError as error:
        if options.debug:
            raise
        print(f"scbetavae: error: {error}", file=sys.stderr)
        return error.code
    except (KeyboardInterrupt, TerminatedError) as stop:
        word, code = ("interrupted", 130) if isinstance(stop, KeyboardInterrupt) else ("terminated", 143)
        print(f"scbetavae: {word}, {stop.args[0] if stop.args else 'nothing was written'}", file=sys.stderr)
        return code


def _check_command(arguments: list[str], refuse: Callable[[str], object]) -> None:
    """Refuse a first word that looks like a mistyped command: no option, no file, without an ending."""
    word = arguments[0] if arguments else ""
    if not word or word.startswith("-") or Path(word).suffix or Path(word).exists():
        return
    hint = did_you_mean(word, USAGE)
    if hint:
        refuse(f"there is no command and no file {word!r}.{hint}")
