"""Networks and losses: the module, its objectives and its likelihood."""

from ._anchor import check_anchor as check_anchor  # for scbetavae.model
from ._betavae import BetaVAEModule
from ._encoder import ENCODER_INPUT_KEY as ENCODER_INPUT_KEY
from ._guided import NETWORK_OPTIONS as NETWORK_OPTIONS
from ._guided import GuidedCovariate as GuidedCovariate
from ._guided import check_guided_arguments as check_guided_arguments
from ._likelihood import fused_negative_binomial_loss
from .objectives import (
    OBJECTIVES,
    Objective,
    Parameter,
    Penalty,
    Posterior,
    register_objective,
    total_correlation_terms,
)
from .objectives import resolve_objective as resolve_objective

__all__ = [
    "OBJECTIVES",
    "BetaVAEModule",
    "Objective",
    "Parameter",
    "Penalty",
    "Posterior",
    "fused_negative_binomial_loss",
    "register_objective",
    "total_correlation_terms",
]
