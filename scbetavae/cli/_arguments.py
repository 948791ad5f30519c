"""What the command takes. Imports nothing heavy, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from scbetavae import __version__
from scbetavae._core import keys as _keys
from scbetavae._core.folders import MARK
from scbetavae.cli._extras import NOT_MADE

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEDULES = ("linear", "cosine", "sigmoid", "cyclical", "constant")
OBJECTIVES = ("beta_vae", "capacity", "beta_tcvae", "factor_vae", "dip_vae_i", "dip_vae_ii")
ANCHORS = ("ica", "programs", "none")
LIKELIHOODS = ("nb", "zinb", "poisson", "normal")
CELLS, MODEL, CURVES, UMAP = TRAINING_OUTPUTS = (MARK, "model", "training.png", "umap.png")
SCORES, SCORES_PICTURE, DIMENSIONS, DIMENSIONS_PICTURE = SCORE_OUTPUTS = (
    "scores.csv",
    "scores.png",
    "dimension_covariate.csv",
    "dimension_covariate.png",
)
ACTION_OUTPUTS = (
    "latent_summary.csv",
    "latent_summary.png",
    "batch_dimensions.csv",
    "batch_dimensions.png",
    "zeroing.csv",
    "zeroing.png",
    "dimension_genes.csv",
    "traversal.png",
    "condition_prediction.csv",
    "condition_prediction.png",
    "counterfactual.csv",
    "counterfactual.png",
)
OUTPUTS = (*TRAINING_OUTPUTS, *SCORE_OUTPUTS, *ACTION_OUTPUTS, NOT_MADE)
STRICT = f"exit with code 1 if an output could not be made, rather than with a warning; {NOT_MADE} says why either way"

_DESCRIPTION = """\
Train a beta-VAE on raw single-cell counts: a latent space whose dimensions stand for separate things.
Without a file it trains on 700 real blood cells (PBMCs) with a planted batch effect."""

_EPILOG = f"""\
what is written to the folder --out
  {CELLS:<14} the cells, with the latent space in .obsm["{_keys.LATENT}"], neighbors and UMAP
  {MODEL + "/":<14} the model, for scbetavae.model.BetaVAE.load("OUT/{MODEL}", adata)
  {CURVES:<14} likelihood, KL, beta and active dimensions during training
  {UMAP:<14} UMAP of the latent space, colored by labels and batch
  {SCORES:<14} how the dimensions line up with the covariates; {SCORES_PICTURE} draws it
  {DIMENSIONS}, {DIMENSIONS_PICTURE}
  {"":<14} what each dimension encodes
and, each as a table (.csv) and a picture (.png)
  latent_summary what each dimension carries, and what is lost without it
  batch_dimensions, zeroing
  {"":<14} which dimensions hold batch, and what setting them to a constant removes and costs
  dimension_genes, traversal
  {"":<14} the genes that respond along each dimension
  condition_prediction, counterfactual
  {"":<14} --condition from single dimensions, and cells of one condition as they would be in the other
The model, the cells and the latent space are written first, in one step, and the rest when it is ready. An output that could
not be made is a line of the report and a row in {NOT_MADE}. Results of an earlier run are replaced, other files stay.

examples
  scbetavae
      the 700 blood cells, to see how it works
  scbetavae cells.h5ad --layer counts --batch-key donor --labels-key cell_type
      your cells: raw counts in .layers["counts"], the donor as batch
  scbetavae cells.h5ad --beta 10 --out strong
      a stronger pressure towards independent dimensions
  scbetavae cells.h5ad --labels-key cell_type --anchor programs --n-latent 32
      one dimension per cell type or gene program
  scbetavae cells.h5ad --batch-key donor --condition-on-batch --objective beta_vae --beta 1 --anchor none
      a plain scVI, trained in seconds
  scbetavae cells.h5ad --objective capacity --objective-arg capacity=10 --objective-arg gamma=50
      hold the KL at 10 nats a cell
  scbetavae cells.h5ad --batch-key plate --covariates cell_type,treatment,age --donor-key donor
      score the dimensions against three columns, with intervals over donors
  scbetavae cells.h5ad --batch-key donor --labels-key cell_type --condition disease --source healthy --target COVID
      predict the disease from dimensions, and healthy cells as they would be in disease
  scbetavae filtered_feature_bc_matrix.h5 --n-latent 20 --early-stopping
      the count matrix of 10x Cell Ranger

exit codes
  0 done, 1 with --strict if an output could not be made, 2 a mistake in the arguments or the data, 130 interrupted,
  143 terminated
"""


class _Parser(argparse.ArgumentParser):
    """Reports a mistake on one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"scbetavae: error: {message} (see `scbetavae --help`)\n")


def train_parser() -> argparse.ArgumentParser:
    """Arguments of ``scbetavae`` and ``scbetavae train``."""
    parser = _Parser(
        prog="scbetavae",
        usage="scbetavae [file] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", type=Path, help="cells: .h5ad, .zarr, .loom, or .h5 from 10x Cell Ranger")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("scbetavae-out"), help="folder to write to [%(default)s]"
    )
    parser.add_argument(
        "--seed", metavar="N", type=_whole(0), default=0, help="seed of everything random [%(default)s]"
    )
    parser.add_argument("--strict", action="store_true", help=STRICT)
    parser.add_argument("--debug", action="store_true", help="show the traceback of a mistake")
    parser.add_argument("--version", action="version", version=f"scbetavae {__version__}")
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_scores(parser.add_argument_group("scores"))
    _add_actions(parser.add_argument_group("acting on dimensions"))
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--layer", metavar="NAME", help="layer that holds the raw counts [.X]")
    group.add_argument("--batch-key", metavar="COLUMN", help="column of .obs: batch, such as donor, plate, protocol")
    group.add_argument("--labels-key", metavar="COLUMN", help="column of .obs: labels, such as cell type")
    group.add_argument("--size-factor-key", metavar="COLUMN", help="column of .obs: size factors [total counts]")
    for kind in ("categorical", "continuous"):
        group.add_argument(
            f"--{kind}-covariate-keys",
            metavar="A,B",
            type=_names,
            help=f"{kind} columns of .obs, given to the decoder",
        )
    group.add_argument(
        "--encoder-obsm-key", metavar="NAME", help="matrix in .obsm, such as X_pca, that the encoder reads [counts]"
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--objective",
        metavar="NAME",
        type=_objective,
        default="beta_tcvae",
        help=f"{', '.join(OBJECTIVES)} [%(default)s]",
    )
    group.add_argument(
        "--objective-arg",
        metavar="NAME=VALUE",
        type=_assignment,
        action="append",
        default=[],
        help="argument of the objective, such as capacity=10 or lambda_od=5; may be given several times",
    )
    group.add_argument(
        "--beta",
        metavar="X",
        type=_weight,
        help="weight of the regularizer, 0 or more [2, where the objective has one]",
    )
    _add_anchor(group)
    group.add_argument("--n-latent", metavar="N", type=_whole(1), default=10, help="latent dimensions [%(default)s]")
    group.add_argument(
        "--condition-on-batch",
        action="store_true",
        help="give the batch to the decoder, rather than leave it to the latent space",
    )
    group.add_argument(
        "--gene-likelihood", choices=LIKELIHOODS, default="nb", help="distribution of the counts [%(default)s]"
    )


def _add_training(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--schedule",
        metavar="NAME",
        type=_schedule,
        default="linear",
        help=f"how beta rises: {', '.join(SCHEDULES)}, or a number that stands for a constant beta [%(default)s]",
    )
    _add_length(group)
    group.add_argument("--batch-size", metavar="N", type=_whole(2), default=128, help="cells a step [%(default)s]")
    group.add_argument(
        "--early-stopping",
        action="store_true",
        help="train at a constant learning rate until held-out cells no longer improve, up to 400 epochs",
    )
    group.add_argument("--accelerator", default="auto", metavar="NAME", help="auto, cpu, gpu, mps, ... [%(default)s]")


def _add_anchor(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--anchor",
        choices=ANCHORS,
        default="ica",
        help="where dimensions start: ica, at independent components, the same in every seed; programs, one dimension "
        "per gene program (try --n-latent 32); none [%(default)s]",
    )


def _add_length(group: argparse._ArgumentGroup) -> None:
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--max-epochs", metavar="N", type=_whole(1), help="epochs [300 to 3000 minibatches, by the number of cells]"
    )
    length.add_argument("--max-steps", metavar="N", type=_whole(1), help="minibatches, in place of epochs")


def _add_scores(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--covariates",
        metavar="A,B",
        type=_names,
        help="columns of .obs that the dimensions are scored against [batch and labels]",
    )
    group.add_argument(
        "--categorical",
        metavar="A,B",
        type=_names,
        help="covariates whose numbers are names of classes; batch, labels, condition and donors always are",
    )
    which.add_argument("--no-scores", action="store_true", help="do not score")
    group.add_argument(
        "--donor-key", metavar="COLUMN", help="column of .obs: donors, over which intervals of scores are taken [cells]"
    )


def _add_actions(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--condition", metavar="COLUMN", help="column of .obs: condition, such as disease or treatment")
    group.add_argument("--source", metavar="VALUE", help="condition of the cells to predict from [the first of two]")
    group.add_argument("--target", metavar="VALUE", help="condition to predict [the second of two]")
    group.add_argument("--no-actions", action="store_true", help="do not act on the dimensions")


def _objective(text: str) -> str:
    """An objective's name, or a refusal that names the nearest."""
    if text not in OBJECTIVES:
        nearest = difflib.get_close_matches(text, OBJECTIVES, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        msg = f"{text!r} is not one of {', '.join(OBJECTIVES)}{hint}"
        raise argparse.ArgumentTypeError(msg)
    return text


def _assignment(text: str) -> tuple[str, float | int | str]:
    """``name=value``, the value a number where it reads as one."""
    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals or not value:
        msg = f"{text!r} is not NAME=VALUE, such as capacity=10"
        raise argparse.ArgumentTypeError(msg)
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value


def _whole(lowest: int) -> Callable[[str], int]:
    """A converter to whole numbers not below ``lowest``, for argparse."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            msg = f"{text!r} is not a whole number of {lowest} or more"
            raise argparse.ArgumentTypeError(msg)
        return value

    return convert


def _weight(text: str) -> float:
    value = _number(text)
    if value is None or not 0 <= value < math.inf:
        msg = f"{text!r} is not a number of 0 or more"
        raise argparse.ArgumentTypeError(msg)
    return value


def _schedule(text: str) -> str | float:
    if text in SCHEDULES:
        return text
    value = _number(text)
    if value is None or not 0 <= value < math.inf:
        nearest = difflib.get_close_matches(text, SCHEDULES, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it takes {', '.join(SCHEDULES)}, or a number"
        msg = f"{text!r} is not a schedule: {hint}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def anchor_of(options: argparse.Namespace) -> str | None:
    """The anchor, as :class:`~scbetavae.model.BetaVAE` takes it."""
    return None if options.anchor == "none" else options.anchor


def class_columns(options: argparse.Namespace) -> list[str]:
    """Columns whose values are names of classes, whatever their type."""
    named = [options.batch_key, options.labels_key, options.condition, options.donor_key]
    return [name for name in (*named, *(options.categorical or ())) if name is not None]
