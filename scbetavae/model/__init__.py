"""Models: what a user calls."""

from ._betavae import BetaVAE

__all__ = ["BetaVAE"]
