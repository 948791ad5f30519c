"""Pictures: an AnnData in, a matplotlib Figure or Axes back; the tidy data of each picture from its own function."""

from scbetavae.pl._batch_dimensions import batch_dimensions, batch_dimensions_frame
from scbetavae.pl._batch_removal import batch_removal, batch_removal_frame
from scbetavae.pl._beta_sweep import beta_sweep
from scbetavae.pl._compare_embeddings import compare_embeddings, compare_embeddings_frame
from scbetavae.pl._condition_prediction import condition_prediction, condition_prediction_frame
from scbetavae.pl._consensus_dimensions import consensus_dimensions, consensus_dimensions_frame
from scbetavae.pl._counterfactual import counterfactual, counterfactual_frame
from scbetavae.pl._dimension_covariate import dimension_covariate, dimension_covariate_frame
from scbetavae.pl._embedding import embedding
from scbetavae.pl._latent_summary import latent_summary, latent_summary_frame
from scbetavae.pl._scores import scores, scores_frame
from scbetavae.pl._tradeoff import tradeoff
from scbetavae.pl._training import training, training_frame
from scbetavae.pl._traversal import traversal, traversal_frame

__all__ = [
    "batch_dimensions",
    "batch_dimensions_frame",
    "batch_removal",
    "batch_removal_frame",
    "beta_sweep",
    "compare_embeddings",
    "compare_embeddings_frame",
    "condition_prediction",
    "condition_prediction_frame",
    "consensus_dimensions",
    "consensus_dimensions_frame",
    "counterfactual",
    "counterfactual_frame",
    "dimension_covariate",
    "dimension_covariate_frame",
    "embedding",
    "latent_summary",
    "latent_summary_frame",
    "scores",
    "scores_frame",
    "tradeoff",
    "training",
    "training_frame",
    "traversal",
    "traversal_frame",
]
