"""Plots: an AnnData with a result in, matplotlib Axes or a Figure out. ``pl.x`` draws the result ``.uns["betavae"]["x"]``."""

from scbetavae.pl._batch_dimensions import batch_dimensions
from scbetavae.pl._batch_removal import batch_removal
from scbetavae.pl._beta_sweep import beta_sweep
from scbetavae.pl._condition_prediction import condition_prediction
from scbetavae.pl._consensus import consensus
from scbetavae.pl._counterfactual import counterfactual
from scbetavae.pl._dimension_covariate import dimension_covariate, dimension_covariate_frame
from scbetavae.pl._dimension_tests import dimension_tests
from scbetavae.pl._dimensions import dimension, dimensions
from scbetavae.pl._disentanglement import disentanglement, embedding_comparison
from scbetavae.pl._figure import panel_grid as panel_grid  # for scbetavae.report
from scbetavae.pl._guided import guided
from scbetavae.pl._history import history
from scbetavae.pl._latent_summary import latent_summary
from scbetavae.pl._tradeoff import tradeoff
from scbetavae.pl._traversal import traversal

__all__ = [
    "batch_dimensions",
    "batch_removal",
    "beta_sweep",
    "condition_prediction",
    "consensus",
    "counterfactual",
    "dimension",
    "dimension_covariate",
    "dimension_covariate_frame",
    "dimension_tests",
    "dimensions",
    "disentanglement",
    "embedding_comparison",
    "guided",
    "history",
    "latent_summary",
    "tradeoff",
    "traversal",
]
