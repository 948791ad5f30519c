"""Names, usage and examples of the sub-commands: one list for every help text. Imports nothing."""

USAGE = {
    "train": "[train] [FILE] [options]",
    "sweep": "sweep [FILE] [options]",
    "report": "report FILE [options]",
}
DEFAULT = "train"

_PURPOSE = {
    "train": "train, score, remove batch, and write tables, plots and a report (the default command)",
    "sweep": "train a grid of betas and seeds, and recommend a beta",
    "report": "the HTML report of a finished run, written again",
}

COMMANDS_TEXT = "\n".join(
    ["commands, each with its own --help", *(f"  {name:<8} {text}" for name, text in _PURPOSE.items())]
)

EXAMPLES_TEXT = """\
examples
  scbetavae                                                                        700 bundled blood cells
  scbetavae cells.h5ad --layer counts --batch-key donor --labels-key cell_type     your cells
  scbetavae sweep cells.h5ad --batch-key donor --labels-key cell_type              which beta?"""

EXIT_CODES_TEXT = """\
exit codes
  0 done, 1 with --strict if an output could not be made, 2 a mistake in the arguments or the data, 3 all models of a sweep
  failed, 130 interrupted, 143 terminated"""


def usage(command: str) -> str:
    """Usage of one command; of the default one, that of all."""
    shown = USAGE if command == DEFAULT else [command]
    return "\n       ".join(f"scbetavae {USAGE[name]}" for name in shown)
