"""Scores: how dimensions line up with recorded covariates. Arrays in, numbers out.

Codes are arrays (n_cells, n_dims); covariates are columns of a data frame, one row per cell. `score_frame` gives every score
with its null, ceiling and confidence interval; the other functions give one score each. All names are listed in the three
sub-packages and available here.
"""

from scbetavae.metrics import disentanglement, integration, prediction
from scbetavae.metrics._checks import active_dimensions as active_dimensions
from scbetavae.metrics._mean_difference import mean_difference as mean_difference
from scbetavae.metrics.disentanglement import *  # noqa: F403
from scbetavae.metrics.integration import *  # noqa: F403
from scbetavae.metrics.prediction import *  # noqa: F403

__all__ = ["active_dimensions"]
__all__ += disentanglement.__all__
__all__ += integration.__all__
__all__ += prediction.__all__
