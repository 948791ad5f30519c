"""Arguments and outputs of ``scbetavae train``. Imports nothing heavy."""

import argparse

from scbetavae._core import keys as _keys
from scbetavae.cli import _arguments as arg
from scbetavae.cli._commands import COMMANDS_TEXT, EXAMPLES_TEXT, EXIT_CODES_TEXT
from scbetavae.cli._outputs import CELLS, FIGURES, MODEL, NOT_MADE, REPORT, TABLES

LAYOUTS = ("auto", "tsne", "umap", "none")
MOST_FOR_TSNE = 2000
"""Cells up to which t-SNE, of scikit-learn, takes less time than UMAP, which compiles its code in every new environment."""


def table(name: str) -> str:
    """Name of a table."""
    return f"{TABLES}/{name}.csv"


def figure(name: str) -> str:
    """Name of a plot."""
    return f"{FIGURES}/{name}.png"


def _both(*names: str) -> tuple[str, ...]:
    return tuple(make(name) for name in names for make in (table, figure))


CURVES, LAYOUT = figure("training"), figure("cells")
SCORED = _both("scores", "dimension_covariate")
ACTED = (
    *_both("latent_summary", "batch_dimensions", "batch_removal"),
    *_both("dimensions"),
    *(table("dimension_genes"), table("gene_sets"), figure("traversal")),
    *_both("condition_prediction", "counterfactual"),
)
OUTPUTS = (CELLS, MODEL, REPORT, CURVES, LAYOUT, *SCORED, *ACTED, NOT_MADE)

_DESCRIPTION = f"""\
Disentangled latent representations of raw single-cell counts. Without a file it takes 700 bundled blood cells (PBMCs) with a
planted batch effect.

{COMMANDS_TEXT}

{EXAMPLES_TEXT}"""

_EPILOG = f"""\
output in the folder --out
  {CELLS:<14} the cells, with the latent representation in .obsm["{_keys.LATENT}"] and all results in .uns["{_keys.UNS}"]
  {MODEL + "/":<14} the model, for scbetavae.model.BetaVAE.load("OUT/{MODEL}", adata)
  {REPORT:<14} all results on one page
  {TABLES + "/":<14} latent_summary, scores, dimension_covariate, dimension_genes, batch_dimensions, batch_removal; with
  {"":<14} --condition also condition_prediction, counterfactual
  {FIGURES + "/":<14} training (curves), cells (t-SNE or UMAP), traversal (genes), and one plot per table
The model, the cells and the latent representation are written first, in one step, and the rest when it is ready. An output that
could not be made is a line of the report and a row in {NOT_MADE}. Results of an earlier run are replaced, other files stay.

{EXIT_CODES_TEXT}
"""


def train_parser() -> argparse.ArgumentParser:
    """Arguments of ``scbetavae`` and ``scbetavae train``."""
    parser = arg.make_parser("train", _DESCRIPTION, _EPILOG, "scbetavae-out")
    parser.add_argument("--seed", metavar="N", type=arg.whole_number(0), default=0, help="random seed [%(default)s]")
    data = parser.add_argument_group("data")
    arg.add_data(data)
    symbols = "column of .var: gene symbols, to be shown where names are Ensembl ids [the usual names of the column]"
    top = "keep only the N most variable genes [all]"
    data.add_argument("--n-top-genes", metavar="N", type=arg.whole_number(2), help=top)
    data.add_argument("--gene-symbols", metavar="COLUMN", help=symbols)
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
    layout = f"picture of the cells: {', '.join(LAYOUTS)}; auto is t-SNE up to {MOST_FOR_TSNE} cells, else UMAP [%(default)s]"
    parser.add_argument(
        "--layout", metavar="NAME", type=arg.choice(lambda: LAYOUTS, "layout"), default="auto", help=layout
    )
    return parser


def class_columns(options: argparse.Namespace) -> list[str]:
    """Columns whose values are names of classes, of any type."""
    named = [options.batch_key, options.labels_key, options.condition, options.donor_key]
    return [name for name in (*named, *(options.categorical or ())) if name is not None]


def scores_are_wanted(options: argparse.Namespace) -> bool:
    """Whether there is something to score against, and scores were not declined."""
    return bool(options.covariates) and not options.no_scores
