"""Objectives, one per file. To add one, write a file with a registered class and add one line here."""

from ._beta_tcvae import BetaTCVAE as BetaTCVAE
from ._beta_vae import BetaVAE as BetaVAE
from ._capacity import Capacity as Capacity
from ._dip_vae_i import DIPVAEI as DIPVAEI
from ._dip_vae_ii import DIPVAEII as DIPVAEII
from ._factor_vae import FactorVAE as FactorVAE
from ._objective import Objective, Parameter, Penalty, Posterior
from ._registry import OBJECTIVES, register_objective, resolve_objective
from ._total_correlation import total_correlation_terms

__all__ = [
    "OBJECTIVES",
    "Objective",
    "Parameter",
    "Penalty",
    "Posterior",
    "register_objective",
    "resolve_objective",
    "total_correlation_terms",
]
