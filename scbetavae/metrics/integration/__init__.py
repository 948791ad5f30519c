"""Batch and conserved covariates in an embedding: classifiers, iLISI, search for batch dimensions, batch-removal report."""

from scbetavae.metrics.integration._batch_search import BatchSearch, impossible_search, search_batch_dimensions
from scbetavae.metrics.integration._classifiers import expected_accuracy, ilisi, knn_accuracy, random_forest_accuracy
from scbetavae.metrics.integration._evaluate_batch_removal import evaluate_batch_removal
from scbetavae.metrics.integration._kmeans_ari import kmeans_ari

__all__ = ["BatchSearch", "evaluate_batch_removal", "impossible_search", "search_batch_dimensions"]
__all__ += ["expected_accuracy", "ilisi", "kmeans_ari", "knn_accuracy", "random_forest_accuracy"]
