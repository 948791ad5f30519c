"""What the command makes of a trained model: scores, actions on dimensions, curves and UMAP, each on its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from scbetavae._core import keys as _keys
from scbetavae.cli._actions import Actions
from scbetavae.cli._arguments import CURVES, UMAP
from scbetavae.cli._extras import line
from scbetavae.cli._scores import make_scores

if TYPE_CHECKING:
    from argparse import Namespace

    from anndata import AnnData

    from scbetavae.cli._extras import Extras
    from scbetavae.model import BetaVAE


def scores_are_wanted(options: Namespace) -> bool:
    """Whether there is something to score against, and scores were not declined."""
    return bool(options.covariates) and not options.no_scores


def make_results(adata: AnnData, model: BetaVAE, options: Namespace, extras: Extras) -> None:
    """Scores, actions on the dimensions, curves and UMAP, each on its own."""
    from scbetavae import pl

    if scores_are_wanted(options):
        print("scores ...", file=sys.stderr, flush=True)
        make_scores(model, options, extras)
    elif not options.no_scores:
        line("scores", "none, as no column was named: --covariates cell_type,donor")
    actions = None if options.no_actions else Actions(model, options, extras)
    if actions is not None:
        print("summary, batch dimensions, traversal, predictions ...", file=sys.stderr, flush=True)
        actions.act()
    print("neighbors and UMAP ...", file=sys.stderr, flush=True)
    extras.picture(CURVES, pl.training, adata)
    if extras.compute("UMAP", [UMAP], lambda: _embed(adata, options)) is not None:
        colors = [key for key in (options.labels_key, options.batch_key) if key is not None]
        extras.picture(UMAP, lambda: pl.embedding(adata, colors, basis=_keys.LATENT_UMAP))
    if actions is not None:
        actions.write()


def _embed(adata: AnnData, options: Namespace) -> str:
    import scanpy as sc

    sc.pp.neighbors(adata, use_rep=_keys.LATENT, random_state=options.seed)
    sc.tl.umap(adata, random_state=options.seed)
    return ""
