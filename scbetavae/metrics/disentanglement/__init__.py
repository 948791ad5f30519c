"""Scores of single latent dimensions, their registry `SCORES`, and the frame of them all."""

from scbetavae.metrics.disentanglement._betavae_score import betavae_score
from scbetavae.metrics.disentanglement._class_alignment import (
    ClassAlignment,
    class_alignment,
    class_alignment_from_similarity,
)
from scbetavae.metrics.disentanglement._dci import (
    DCIResult,
    completeness_from_importance,
    dci,
    disentanglement_from_importance,
)
from scbetavae.metrics.disentanglement._dcimig import dcimig
from scbetavae.metrics.disentanglement._explicitness import explicitness
from scbetavae.metrics.disentanglement._factorvae_score import factorvae_score
from scbetavae.metrics.disentanglement._mig import mig, mutual_information_matrix
from scbetavae.metrics.disentanglement._mig_sup import mig_sup
from scbetavae.metrics.disentanglement._modularity import modularity, modularity_from_mi
from scbetavae.metrics.disentanglement._records import SCORES, Score, register_score, score_names
from scbetavae.metrics.disentanglement._sap import sap
from scbetavae.metrics.disentanglement._score_frame import score_frame
from scbetavae.metrics.disentanglement._seeds import DimensionMatches, match_dimensions, udr, udr_from_similarity
from scbetavae.metrics.disentanglement._tables import covariate_association, dimension_covariate_table
from scbetavae.metrics.disentanglement._total_correlation import (
    gaussian_total_correlation,
    gaussian_total_correlation_from_covariance,
)

__all__ = ["SCORES", "Score", "register_score", "score_frame", "score_names"]
__all__ += ["dcimig", "explicitness", "mig", "mig_sup", "modularity", "modularity_from_mi", "sap"]
__all__ += ["ClassAlignment", "betavae_score", "class_alignment", "class_alignment_from_similarity", "factorvae_score"]
__all__ += ["DCIResult", "completeness_from_importance", "dci", "disentanglement_from_importance"]
__all__ += ["DimensionMatches", "match_dimensions", "udr", "udr_from_similarity"]
__all__ += ["gaussian_total_correlation", "gaussian_total_correlation_from_covariance"]
__all__ += ["covariate_association", "dimension_covariate_table", "mutual_information_matrix"]
