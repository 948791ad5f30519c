"""From the command line to an exit code."""

import os
import sys
from collections.abc import Sequence

from scbetavae.cli._errors import CommandError, TerminatedError
from scbetavae.cli._sweep import run_sweep
from scbetavae.cli._sweep_arguments import sweep_parser
from scbetavae.cli._train import run_train
from scbetavae.cli._train_arguments import train_parser

COMMANDS = {"train": (train_parser, run_train), "sweep": (sweep_parser, run_sweep)}


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
    name = arguments.pop(0) if arguments[:1] and arguments[0] in COMMANDS else "train"
    make_parser, run = COMMANDS[name]
    options = make_parser().parse_args(arguments)
    try:
        return run(options)
    except CommandError as error:
        if options.debug:
            raise
        print(f"scbetavae: error: {error}", file=sys.stderr)
        return error.code
    except (KeyboardInterrupt, TerminatedError) as stop:
        word, code = ("interrupted", 130) if isinstance(stop, KeyboardInterrupt) else ("terminated", 143)
        print(f"scbetavae: {word}, {stop.args[0] if stop.args else 'nothing was written'}", file=sys.stderr)
        return code
