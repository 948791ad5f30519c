"""Models: what a user calls."""

from scbetavae.train import TrainingDivergedError

from ._betavae import BetaVAE
from ._latent import Latent
from ._latent_summary_collapse import PosteriorCollapseWarning

__all__ = ["BetaVAE", "Latent", "PosteriorCollapseWarning", "TrainingDivergedError"]
