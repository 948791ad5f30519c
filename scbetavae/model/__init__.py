"""Models: what a user calls."""

from ._betavae import BetaVAE
from ._latent_summary_collapse import PosteriorCollapseWarning

__all__ = ["BetaVAE", "PosteriorCollapseWarning"]
