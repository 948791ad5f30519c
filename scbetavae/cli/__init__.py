"""The command ``scbetavae``: train, score, store and plot in one line; ``scbetavae sweep`` compares settings.

Everything heavy is imported after the arguments are parsed, so that ``--help`` answers at once.
"""

from scbetavae.cli._main import main

__all__ = ["main"]
