"""Networks and losses: the module, its objectives and its likelihood."""

from ._anchor import check_anchor
from ._betavae import BetaVAEModule
from ._encoder import ENCODER_INPUT_KEY
from ._likelihood import fused_negative_binomial_loss
from .objectives import (
    OBJECTIVES,
    Objective,
    Parameter,
    Penalty,
    Posterior,
    register_objective,
    resolve_objective,
    total_correlation_terms,
)

__all__ = [
    "ENCODER_INPUT_KEY",
    "OBJECTIVES",
    "BetaVAEModule",
    "Objective",
    "Parameter",
    "Penalty",
    "Posterior",
    "check_anchor",
    "fused_negative_binomial_loss",
    "register_objective",
    "resolve_objective",
    "total_correlation_terms",
]
