"""Scores: how dimensions line up with recorded covariates. Arrays in, numbers out.

Codes are arrays (n_cells, n_dims); covariates are columns of a data frame, one row per cell. `score_frame` gives every score
with its null, ceiling and confidence interval; the other functions give one score each.
"""

from scbetavae.metrics._active import active_dimensions
from scbetavae.metrics._association import covariate_association
from scbetavae.metrics._batch_classifiers import expected_accuracy, knn_accuracy, random_forest_accuracy
from scbetavae.metrics._batch_search import BatchSearch, impossible_search, search_batch_dimensions
from scbetavae.metrics._betavae_score import betavae_score
from scbetavae.metrics._class_alignment import ClassAlignment, class_alignment, class_alignment_from_similarity
from scbetavae.metrics._clustering import kmeans_ari
from scbetavae.metrics._condition_prediction import condition_prediction
from scbetavae.metrics._counterfactual_error import (
    differential_genes,
    log_profile,
    relative_error,
    split_half_error,
    squared_correlation,
)
from scbetavae.metrics._dci import (
    DCIResult,
    completeness_from_importance,
    dci,
    disentanglement_from_importance,
)
from scbetavae.metrics._dcimig import dcimig
from scbetavae.metrics._dimension_matching import DimensionMatches, match_dimensions
from scbetavae.metrics._dimension_table import dimension_covariate_table
from scbetavae.metrics._evaluate_batch_removal import evaluate_batch_removal
from scbetavae.metrics._explicitness import explicitness
from scbetavae.metrics._factorvae_score import factorvae_score
from scbetavae.metrics._ilisi import ilisi
from scbetavae.metrics._mig import mig
from scbetavae.metrics._mig_sup import mig_sup
from scbetavae.metrics._modularity import modularity, modularity_from_mi
from scbetavae.metrics._mutual_information import mutual_information_matrix
from scbetavae.metrics._records import SCORES, Score, register_score, score_names
from scbetavae.metrics._sap import sap
from scbetavae.metrics._score_frame import score_frame
from scbetavae.metrics._total_correlation import (
    gaussian_total_correlation,
    gaussian_total_correlation_from_covariance,
)
from scbetavae.metrics._udr import udr, udr_from_similarity

__all__ = [
    "SCORES",
    "BatchSearch",
    "ClassAlignment",
    "DCIResult",
    "DimensionMatches",
    "Score",
    "active_dimensions",
    "betavae_score",
    "class_alignment",
    "class_alignment_from_similarity",
    "completeness_from_importance",
    "condition_prediction",
    "covariate_association",
    "dci",
    "dcimig",
    "differential_genes",
    "dimension_covariate_table",
    "disentanglement_from_importance",
    "evaluate_batch_removal",
    "expected_accuracy",
    "explicitness",
    "factorvae_score",
    "gaussian_total_correlation",
    "gaussian_total_correlation_from_covariance",
    "ilisi",
    "impossible_search",
    "kmeans_ari",
    "knn_accuracy",
    "log_profile",
    "match_dimensions",
    "mig",
    "mig_sup",
    "modularity",
    "modularity_from_mi",
    "mutual_information_matrix",
    "random_forest_accuracy",
    "register_score",
    "relative_error",
    "sap",
    "score_frame",
    "score_names",
    "search_batch_dimensions",
    "split_half_error",
    "squared_correlation",
    "udr",
    "udr_from_similarity",
]
