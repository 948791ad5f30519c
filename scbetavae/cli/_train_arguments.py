"""Arguments and outputs of ``scbetavae train``. Imports nothing heavy."""

import argparse

from scbetavae._core import keys as _keys
from scbetavae._core.folders import MARK
from scbetavae.cli import _arguments as arg
from scbetavae.cli._outputs import NOT_MADE

CELLS, MODEL, CURVES, UMAP = _TRAINED = (MARK, "model", "training.png", "umap.png")
SCORED = ("scores.csv", "scores.png", "dimension_covariate.csv", "dimension_covariate.png")
ACTED = (
    *("latent_summary.csv", "latent_summary.png", "batch_dimensions.csv", "batch_dimensions.png"),
    *("batch_removal.csv", "batch_removal.png", "dimension_genes.csv", "traversal.png"),
    *("condition_prediction.csv", "condition_prediction.png", "counterfactual.csv", "counterfactual.png"),
)
OUTPUTS = (*_TRAINED, *SCORED, *ACTED, NOT_MADE)

_DESCRIPTION = """\
Train a beta-VAE on raw single-cell counts: a latent representation whose dimensions stand for separate things.
Without a file it trains on 700 real blood cells (PBMCs) with a planted batch effect."""

_EPILOG = f"""\
output in the folder --out
  {CELLS:<14} the cells, with the latent representation in .obsm["{_keys.LATENT}"], neighbors and UMAP
  {MODEL + "/":<14} the model, for scbetavae.model.BetaVAE.load("OUT/{MODEL}", adata)
  {CURVES:<14} likelihood, KL, beta and active dimensions during training
  {UMAP:<14} UMAP of the latent representation, colored by labels and batch
  {SCORED[0]:<14} how the dimensions align with the covariates; {SCORED[1]} is the plot
  {SCORED[2]}, {SCORED[3]}
  {"":<14} what each dimension encodes
and, each as a table (.csv) and a plot (.png)
  latent_summary what each dimension encodes, and what is lost without it
  batch_dimensions, batch_removal
  {"":<14} which dimensions encode batch, and what removing them removes and costs
  dimension_genes, traversal
  {"":<14} the genes that respond along each dimension
  condition_prediction, counterfactual
  {"":<14} --condition from single dimensions, and cells of one condition predicted in the other
The model, the cells and the latent representation are written first, in one step, and the rest when it is ready. An output that
could not be made is a line of the report and a row in {NOT_MADE}. Results of an earlier run are replaced, other files stay.

examples
  scbetavae
      the 700 blood cells, to see how it works
  scbetavae cells.h5ad --layer counts --batch-key donor --labels-key cell_type
      your cells: raw counts in .layers["counts"], the donor as batch
  scbetavae cells.h5ad --beta 10 --out strong
      more pressure towards independent dimensions
  scbetavae cells.h5ad --labels-key cell_type --anchor programs --n-latent 32
      one dimension per cell type or gene program
  scbetavae cells.h5ad --batch-key donor --condition-on-batch --objective beta_vae --beta 1 --anchor none
      a plain scVI, trained in seconds
  scbetavae cells.h5ad --objective capacity --objective-arg capacity=10 --objective-arg gamma=50
      KL of 10 nats per cell
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


def train_parser() -> argparse.ArgumentParser:
    """Arguments of ``scbetavae`` and ``scbetavae train``."""
    parser = arg.make_parser("scbetavae", _DESCRIPTION, _EPILOG, "scbetavae-out")
    parser.add_argument("--seed", metavar="N", type=arg.whole_number(0), default=0, help="random seed [%(default)s]")
    arg.add_data(parser.add_argument_group("data"))
    model = parser.add_argument_group("model")
    listed = f"{', '.join(arg.objective_names())} [%(default)s]"
    model.add_argument("--objective", metavar="NAME", type=arg.objective, default="beta_tcvae", help=listed)
    repeated = {"type": arg.assignment, "action": "append", "default": []}
    text = "argument of the objective, such as capacity=10 or lambda_od=5; can be repeated"
    model.add_argument("--objective-arg", metavar="NAME=VALUE", help=text, **repeated)
    text = "weight of the regularizer, at least 0 [2, where there is one]"
    model.add_argument("--beta", metavar="X", type=arg.weight, help=text)
    arg.add_model(model)
    training = parser.add_argument_group("training")
    arg.add_training(training)
    text = "train at a constant learning rate until held-out cells no longer improve, up to 400 epochs"
    training.add_argument("--early-stopping", action="store_true", help=text)
    scores = parser.add_argument_group("scores")
    which = scores.add_mutually_exclusive_group()
    scored = "columns of .obs that the dimensions are scored against [batch and labels]"
    which.add_argument("--covariates", metavar="A,B", type=arg.names, help=scored)
    classes = "covariates whose numbers are names of classes; batch, labels, condition and donors always are"
    scores.add_argument("--categorical", metavar="A,B", type=arg.names, help=classes)
    which.add_argument("--no-scores", action="store_true", help="do not score")
    donors = "column of .obs: donors, over which intervals of scores are computed [cells]"
    scores.add_argument("--donor-key", metavar="COLUMN", help=donors)
    add = parser.add_argument_group("latent-space operations").add_argument
    add("--condition", metavar="COLUMN", help="column of .obs: condition, such as disease or treatment")
    add("--source", metavar="VALUE", help="condition of the cells to predict from [the first of two]")
    add("--target", metavar="VALUE", help="condition to predict [the second of two]")
    add("--no-actions", action="store_true", help="no latent-space operations")
    return parser


def class_columns(options: argparse.Namespace) -> list[str]:
    """Columns whose values are names of classes, of any type."""
    named = [options.batch_key, options.labels_key, options.condition, options.donor_key]
    return [name for name in (*named, *(options.categorical or ())) if name is not None]


def scores_are_wanted(options: argparse.Namespace) -> bool:
    """Whether there is something to score against, and scores were not declined."""
    return bool(options.covariates) and not options.no_scores
