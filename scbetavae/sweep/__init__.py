"""Many trainings: a grid of models, scored alike and kept on disk, and a recommendation from them."""

from scbetavae.sweep._beta_sweep import beta_sweep
from scbetavae.sweep._options import SweepOptions, SweepProgress
from scbetavae.sweep._recommend_beta import BetaRecommendation, recommend_beta
from scbetavae.sweep._store import read_sweep

__all__ = ["BetaRecommendation", "SweepOptions", "SweepProgress", "beta_sweep", "read_sweep", "recommend_beta"]
