"""Arguments that the commands share, their conversion, and the names they allow. Imports nothing heavy."""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from scbetavae import __version__
from scbetavae.cli._commands import DEFAULT, usage
from scbetavae.cli._outputs import NOT_MADE

SCHEDULES = ("linear", "cosine", "sigmoid", "cyclical", "constant")
ANCHORS = ("ica", "programs", "none")
LIKELIHOODS = ("nb", "zinb", "poisson", "normal")
BASELINES = ("pca", "ica", "none")
_SWEEP_SCORES = ("agreement", "udr", "kmeans_ari", "ilisi")  # of a sweep, besides registered scores


class Parser(argparse.ArgumentParser):
    """Of one command. It reports a mistake on one line, without the usage above it."""

    def __init__(self, command: str, description: str, epilog: str) -> None:
        super().__init__(
            prog="scbetavae" if command == DEFAULT else f"scbetavae {command}",
            usage=usage(command),
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of a mistake")
        self.add_argument("--version", action="version", version=f"scbetavae {__version__}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"scbetavae: error: {' '.join(message.split())} (see `scbetavae --help`)\n")


def make_parser(command: str, description: str, epilog: str, out: str) -> Parser:
    """A parser with the arguments of every command that trains."""
    parser = Parser(command, description, epilog)
    add = parser.add_argument
    add("file", nargs="?", type=Path, help="cells: .h5ad, .zarr, .loom, or .h5 from 10x Cell Ranger")
    add("--out", metavar="DIR", type=Path, default=Path(out), help="output folder [%(default)s]")
    strict = f"exit with code 1 if an output could not be made, not only with a warning; {NOT_MADE} has the reasons"
    add("--strict", action="store_true", help=strict)
    return parser


def add_data(group: argparse._ArgumentGroup) -> None:
    """Arguments of ``setup_anndata``."""
    add = group.add_argument
    add("--layer", metavar="NAME", help="layer with the raw counts [.X]")
    add("--batch-key", metavar="COLUMN", help="column of .obs: batch, such as donor, plate, protocol")
    add("--labels-key", metavar="COLUMN", help="column of .obs: labels, such as cell type")
    add("--size-factor-key", metavar="COLUMN", help="column of .obs: size factors [total counts]")
    for kind in ("categorical", "continuous"):
        text = f"{kind} columns of .obs, for the decoder"
        add(f"--{kind}-covariate-keys", metavar="A,B", type=names, help=text)
    add("--encoder-obsm-key", metavar="NAME", help="matrix in .obsm, such as X_pca, as input of the encoder [counts]")


def add_model(group: argparse._ArgumentGroup) -> None:
    """Arguments of the model other than objective and beta."""
    add = group.add_argument
    anchor = (
        "start of the dimensions: ica, independent components, the same in every seed; programs, one dimension per gene "
        "program (try --n-latent 32); none [%(default)s]"
    )
    add("--anchor", choices=ANCHORS, default="ica", help=anchor)
    add("--n-latent", metavar="N", type=whole_number(1), default=10, help="latent dimensions [%(default)s]")
    add("--condition-on-batch", action="store_true", help="condition the decoder on the batch")
    add("--gene-likelihood", choices=LIKELIHOODS, default="nb", help="distribution of the counts [%(default)s]")


def add_training(group: argparse._ArgumentGroup) -> None:
    """Arguments of the training."""
    add = group.add_argument
    rise = f"how beta rises: {', '.join(SCHEDULES)}, or a number for a constant beta [%(default)s]"
    add("--schedule", metavar="NAME", type=schedule, default="linear", help=rise)
    length = group.add_mutually_exclusive_group()
    epochs = "epochs [300 to 3000 minibatches, by the number of cells]"
    length.add_argument("--max-epochs", metavar="N", type=whole_number(1), help=epochs)
    length.add_argument("--max-steps", metavar="N", type=whole_number(1), help="minibatches, instead of epochs")
    add("--batch-size", metavar="N", type=whole_number(2), default=128, help="cells per minibatch [%(default)s]")
    add("--accelerator", default="auto", metavar="NAME", help="auto, cpu, gpu, mps, ... [%(default)s]")


def choice(allowed: Callable[[], Iterable[str]], argument: str) -> Callable[[str], str]:
    """A converter to one of the allowed names."""

    def convert(text: str) -> str:
        _checked("check_choice", text, allowed(), argument)
        return text

    return convert


def objective(text: str) -> str:
    """An objective's name; the registry is loaded to check one that is not of the package."""
    if text not in objective_names():
        from scbetavae import module  # noqa: F401 - registers the objectives

    return text if text in objective_names() else choice(objective_names, "objective")(text)


def whole_number(lowest: int) -> Callable[[str], int]:
    """A converter to integers of at least ``lowest``."""
    return lambda text: _checked("check_whole_number", _number(text, int), "value", lowest)


def weight(text: str) -> float:
    """A finite number of at least 0."""
    return _checked("check_number", _number(text, float), "value", 0)


def schedule(text: str) -> str | float:
    """A schedule's name, or a constant beta."""
    if text in SCHEDULES:
        return text
    if isinstance(_number(text, float), str):
        return choice(lambda: (*SCHEDULES, "a number"), "schedule")(text)
    return weight(text)


def names(text: str) -> list[str]:
    """Names between commas."""
    return [name for name in text.split(",") if name]


def assignment(text: str) -> tuple[str, float | int | str]:
    """``name=value``, the value a number where it reads as one."""
    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals or not value:
        msg = f"{text!r} is not NAME=VALUE, such as capacity=10"
        raise argparse.ArgumentTypeError(msg)
    whole = _number(value, int)
    return name, _number(value, float) if isinstance(whole, str) else whole


def anchor_of(options: argparse.Namespace) -> str | None:
    """The anchor, as :class:`~scbetavae.model.BetaVAE` takes it."""
    return None if options.anchor == "none" else options.anchor


def _number(text: str, kind: type) -> Any:
    """The number, or the text where it is none."""
    try:
        return kind(text)
    except ValueError:
        return text


def _checked(check: str, *arguments: Any) -> Any:
    """The result of a check, which loads only now, and whose message becomes that of argparse."""
    from scbetavae._core import checks

    try:
        return getattr(checks, check)(*arguments)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def objective_names() -> list[str]:
    """Registered objectives. Until torch is loaded, those of the package, read from its files, so that help answers at once."""
    if "scbetavae.module" in sys.modules:
        return list(_objectives())
    return _declared("module/objectives/_*.py", r'^    name = "(\w+)"')


def uses_beta(objective: str) -> bool:
    """Whether beta enters the objective."""
    return _objectives()[objective].uses_beta


def _objectives() -> dict[str, Any]:
    from scbetavae import module

    return module.OBJECTIVES


def score_names() -> list[str]:
    """Scores that a sweep may be judged by. Until the metrics are loaded, those of the package, read from its files."""
    if "scbetavae.metrics" in sys.modules:
        from scbetavae import metrics

        names = list(metrics.SCORES)
    else:
        names = _declared("metrics/**/_*.py", r'^register_score\(\s*Score\(\s*"(\w+)"')
    return list(dict.fromkeys([*names, *_SWEEP_SCORES]))


def _declared(pattern: str, name: str) -> list[str]:
    """Names in the files of the package."""
    files = sorted(Path(__file__).parents[1].glob(pattern))
    return [found for file in files for found in re.findall(name, file.read_text(encoding="utf-8"), re.M) if found]
