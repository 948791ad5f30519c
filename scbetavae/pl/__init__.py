"""Pictures: an AnnData in, a matplotlib Figure or Axes back; the tidy data of each picture from its own function."""

from scbetavae.pl._compare_embeddings import compare_embeddings, compare_embeddings_frame
from scbetavae.pl._dimension_covariate import dimension_covariate, dimension_covariate_frame
from scbetavae.pl._embedding import embedding
from scbetavae.pl._scores import scores, scores_frame
from scbetavae.pl._training import training, training_frame

__all__ = [
    "compare_embeddings",
    "compare_embeddings_frame",
    "dimension_covariate",
    "dimension_covariate_frame",
    "embedding",
    "scores",
    "scores_frame",
    "training",
    "training_frame",
]
