"""Arguments and outputs of ``scbetavae sweep``. Imports nothing heavy."""

from __future__ import annotations

import argparse

from scbetavae.cli import _arguments as arg
from scbetavae.cli._commands import EXIT_CODES_TEXT
from scbetavae.cli._outputs import NOT_MADE

TABLE, WORDS, PICTURE, TRADEOFF = ("sweep.csv", "recommendation.txt", "beta_sweep.png", "tradeoff.png")

_DESCRIPTION = """\
Train a model for every beta and seed, score all of them alike, and recommend a beta.
Without a file it runs on 700 real blood cells (PBMCs) with a planted batch effect."""

_EPILOG = f"""\
output in the folder --out
  {TABLE:<20} one row per run and metric
  {WORDS:<20} the setting at the knee, and what is tied with it
  {PICTURE:<20} likelihood, KL, active dimensions and scores against beta, with baselines
  {TRADEOFF:<20} the likelihood against --score
  runs/                every run with its scores, embedding and history, as soon as it ends
An interrupted sweep resumes when the same command is given again; more betas or seeds are added in the same way. A run that
failed is repeated. Of the other outputs, one that could not be made is a row in {NOT_MADE}.

examples
  scbetavae sweep
      the 700 blood cells: 4 betas, 3 seeds
  scbetavae sweep cells.h5ad --batch-key donor --labels-key cell_type --betas 1,2,4,10 --seeds 5 --out cells-sweep
      your cells
  scbetavae sweep cells.h5ad --covariates cell_type,treatment --objective beta_vae,beta_tcvae --jobs 4
      two objectives, four processes
  scbetavae sweep cells.h5ad --batch-key plate --covariates cell_type --engine ray --address auto --num-gpus 1
      on a Ray cluster, one GPU per run

{EXIT_CODES_TEXT}
"""


def sweep_parser() -> argparse.ArgumentParser:
    """Arguments of ``scbetavae sweep``."""
    parser = arg.make_parser("sweep", _DESCRIPTION, _EPILOG, "scbetavae-sweep")
    arg.add_data(parser.add_argument_group("data"))
    add = parser.add_argument_group("grid").add_argument
    weights = "weights of the regularizer [1,2,4,10]"
    add("--betas", metavar="X,Y", type=_betas, default=(1.0, 2.0, 4.0, 10.0), help=weights)
    add("--seeds", metavar="N", type=arg.whole_number(1), default=3, help="seeds of every setting [%(default)s]")
    known = f"{', '.join(arg.objective_names())} [beta_tcvae]"
    several = {"type": lambda text: list(map(arg.objective, arg.names(text))), "default": ["beta_tcvae"]}
    add("--objective", metavar="A,B", help=known, **several)
    add("--baselines", metavar="A,B", type=_baselines, default=["pca", "ica"], help="pca, ica, or none [pca,ica]")
    models = parser.add_argument_group("models")
    arg.add_model(models)
    arg.add_training(models)
    models.add_argument("--save-models", action="store_true", help="keep the trained models, too")
    add = parser.add_argument_group("scores").add_argument
    scored = "columns of .obs that the dimensions are scored against [batch and labels]"
    add("--covariates", metavar="A,B", type=arg.names, help=scored)
    donors = "column of .obs: donors, which classifiers hold out [cells]"
    add("--donor-key", metavar="COLUMN", help=donors)
    weighed = f"score that is weighed against the likelihood: {', '.join(arg.score_names())} [%(default)s]"
    add("--score", metavar="NAME", type=_score, default="mig", help=weighed)
    add = parser.add_argument_group("engine").add_argument
    add("--engine", choices=("local", "ray"), default="local", help="where runs are done [%(default)s]")
    add("--jobs", metavar="N", type=arg.whole_number(1), default=1, help="local: processes [%(default)s]")
    add("--threads", metavar="N", type=arg.whole_number(1), default=1, help="threads of a run [%(default)s]")
    add("--address", metavar="ADDRESS", help="Ray: cluster [RAY_ADDRESS, or a new one on this machine]")
    add("--num-gpus", metavar="X", type=arg.weight, default=0.0, help="Ray: GPUs of a run [%(default)g]")
    return parser


def _betas(text: str) -> tuple[float, ...]:
    betas = tuple(arg.weight(part) for part in arg.names(text))
    if not betas:
        msg = f"{text!r} names no beta; give at least one beta, such as 0.1,1,4"
        raise argparse.ArgumentTypeError(msg)
    return betas


def _baselines(text: str) -> list[str]:
    return [name for name in map(arg.choice(lambda: arg.BASELINES, "baselines"), arg.names(text)) if name != "none"]


def _score(text: str) -> str:
    """A score's name; the registry is loaded to check it."""
    from scbetavae import metrics  # noqa: F401 - registers the scores

    return arg.choice(arg.score_names, "score")(text)
