"""The command ``scbetavae report``: the HTML page of a finished run. Imports nothing heavy before it runs."""

from argparse import Namespace
from pathlib import Path

from scbetavae._core import keys
from scbetavae._core.folders import check_folder
from scbetavae.cli._arguments import Parser
from scbetavae.cli._commands import EXIT_CODES_TEXT
from scbetavae.cli._errors import terminable, users_mistakes
from scbetavae.cli._outputs import CELLS, REPORT, line
from scbetavae.cli._progress import Progress

_DESCRIPTION = f"""\
Write the HTML report of a finished run: what every dimension encodes, with genes, stability and the batch-removal report.
FILE is {CELLS}, or the output folder that holds it."""

_EPILOG = f"""\
examples
  scbetavae report scbetavae-out
  scbetavae report scbetavae-out/{CELLS} --out cells.html

{EXIT_CODES_TEXT}"""


def report_parser() -> Parser:
    """Arguments of ``scbetavae report``."""
    parser = Parser("report", _DESCRIPTION, _EPILOG)
    parser.add_argument("file", metavar="FILE", type=Path, help=f"{CELLS} of a run, or the folder that holds it")
    out = f"the page [{REPORT} next to FILE]"
    parser.add_argument("--out", metavar="PATH", type=Path, help=out)
    return parser


def run(options: Namespace) -> int:
    """Read the cells and their results, and write the page."""
    is_folder = options.file.is_dir() and options.file.suffix != ".zarr"
    source = options.file / CELLS if is_folder else options.file
    out = options.out or source.parent / REPORT
    with users_mistakes(OSError):
        check_folder(out.absolute().parent, "--out")
    progress = Progress()
    progress.show("loading")
    from scbetavae.cli._console import quiet_libraries
    from scbetavae.cli._io import read_cells
    from scbetavae.report import write_report

    with quiet_libraries(progress), terminable(), users_mistakes(OSError, KeyError, ValueError):
        adata = read_cells(source)
        if keys.UNS not in adata.uns:
            msg = f"{str(source)!r} holds no results of scbetavae: run `scbetavae {source}` first."
            raise ValueError(msg)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_report(adata, out)
    line("written to", str(out))
    return 0
