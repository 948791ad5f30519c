"""Results of a trained model: scores, latent-space operations, curves and UMAP, each made separately."""

import sys
from argparse import Namespace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from scbetavae import pl
from scbetavae._core import keys
from scbetavae._core.columns import as_classes, obs_of
from scbetavae.cli._actions import Actions
from scbetavae.cli._outputs import Outputs, line
from scbetavae.cli._train_arguments import CURVES, SCORED, UMAP, class_columns, scores_are_wanted
from scbetavae.model import BetaVAE

UMAP_ZEROED = f"{keys.LATENT_UMAP}_zeroed"

_HEADLINE = "0 is the null, 1 the ceiling of these covariates; in brackets 95% intervals"
# MIG, SAP and DCI reward one dimension per covariate, LMS one per class: each sees what the others miss.
_METRICS = {"mig": "MIG", "sap": "SAP", "lms": "LMS", "dci_completeness": "DCI"}
_WIDTH = 17


def make_results(adata: AnnData, model: BetaVAE, options: Namespace, outputs: Outputs) -> None:
    """Make every output after the training."""
    if scores_are_wanted(options):
        print("scores ...", file=sys.stderr, flush=True)
        _score(adata, model, options, outputs)
    elif not options.no_scores:
        line("scores", "none, as no column was named: --covariates cell_type,donor")
    actions = None if options.no_actions else Actions(model, options, outputs, _umap)
    if actions is not None:
        print("summary, batch dimensions, traversal, predictions ...", file=sys.stderr, flush=True)
        actions.act()
    print("neighbors and UMAP ...", file=sys.stderr, flush=True)
    outputs.picture(CURVES, pl.history, adata)
    if outputs.compute("UMAP", [UMAP], lambda: _umap(adata, keys.LATENT, options.seed)) is not None:
        outputs.picture(UMAP, _draw_umap, adata, list(filter(None, (options.labels_key, options.batch_key))))
    if actions is not None:
        actions.write()


def _score(adata: AnnData, model: BetaVAE, options: Namespace, outputs: Outputs) -> None:
    """Score the dimensions, and write tables and plots."""

    def score() -> str:
        columns = {"donor_key": options.donor_key, "categorical": class_columns(options)}
        return "\n".join(score_lines(model.score_disentanglement(options.covariates, **columns, seed=options.seed)))

    if outputs.compute("scores", SCORED, score) is not None:
        stored = adata.uns[keys.UNS]
        outputs.table(SCORED[0], stored[keys.DISENTANGLEMENT])
        outputs.picture(SCORED[1], pl.disentanglement, adata)
        outputs.table(SCORED[2], stored[f"{keys.DISENTANGLEMENT}{keys.DIMENSIONS_SUFFIX}"])
        outputs.picture(SCORED[3], pl.dimension_covariate, adata)


def score_lines(scores: pd.DataFrame) -> list[str]:
    """A headline and a table of normalized scores, one line per covariate and one for all, from the frame of scores."""
    by_name = scores[scores["metric"].isin(_METRICS)].set_index(["covariate", "metric"])
    covariates = [*(name for name in dict.fromkeys(scores["covariate"]) if name != "all"), "all"]
    width = max(map(len, covariates)) + 2
    rows = {"": list(_METRICS.values())}
    rows |= {name: [_cell(by_name.loc[(name, metric)]) for metric in _METRICS] for name in covariates}
    texts = ("  " + name.ljust(width) + " ".join(text.ljust(_WIDTH) for text in row) for name, row in rows.items())
    return [_HEADLINE, *(text.rstrip() for text in texts)]


def _cell(row: pd.Series) -> str:
    """Normalized score and its interval on the same scale."""
    if np.isnan(row["normalized"]):
        return "-"
    scaled = (row[["value", "ci_low", "ci_high"]].astype(float) - row["null"]) / (row["ceiling"] - row["null"])
    value, low, high = (round(number, 2) + 0.0 for number in scaled)  # a little below 0 would read as "-0.00"
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} [{low:.2f} {high:.2f}]"


def _umap(adata: AnnData, obsm_key: str, seed: int) -> str:
    """Neighbors and UMAP of an embedding, an action without a line in the report."""
    import scanpy as sc

    sc.pp.neighbors(adata, use_rep=obsm_key, random_state=seed)
    sc.tl.umap(adata, random_state=seed)
    return ""


def _draw_umap(adata: AnnData, colors: list[str]) -> Figure:
    """Scanpy's plot of the cells, batch and labels as classes; ``adata`` receives no colors."""
    import scanpy as sc
    from matplotlib import pyplot as plt

    obs = {name: as_classes(obs_of(adata)[name], "column").astype("category") for name in colors}
    cells = AnnData(obs=obs_of(adata)[[]].assign(**obs))
    cells.obsm[keys.LATENT_UMAP] = adata.obsm[keys.LATENT_UMAP]
    figure: Any = sc.pl.embedding(cells, keys.LATENT_UMAP, color=colors or None, show=False, return_fig=True)
    plt.close(figure)  # it stays out of pyplot's list
    return figure
