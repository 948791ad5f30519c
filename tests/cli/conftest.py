"""The command, run in this process, and what its tests do to it."""

import runpy
from pathlib import Path

import pytest

from scbetavae.__main__ import main

TOY = runpy.run_path(str(Path(__file__).parents[1] / "sweep" / "toy_sweep.py"))


@pytest.fixture
def run(capsys):
    """Exit code, standard output and standard error of the command with these arguments."""

    def command(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def raising():
    """A function that raises an error for any argument."""

    def make(error):
        def fail(*_args, **_kwargs):
            raise error

        return fail

    return make


@pytest.fixture
def toy_cells():
    """60 cells that were set up for a sweep."""
    return TOY["make_cells"]()
