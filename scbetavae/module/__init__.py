"""Networks and losses, as the optimizer sees them."""

from ._anchor import Anchor, check_anchor
from ._betavae import BetaVAELossOutput, BetaVAEModule
from ._discriminator import Discriminator, discriminator_accuracy, discriminator_loss
from ._encoder import ENCODER_INPUT_KEY
from ._likelihood import NonzeroStructure, fused_negative_binomial_loss, nonzero_structure
from ._objective_choice import DEFAULT_OBJECTIVE, check_beta, make_regularizer
from ._objectives import (
    capacity_penalty,
    dip_covariance,
    dip_parts,
    dip_penalty,
    gaussian_kl,
    permute_dimensions,
)
from ._prior import Prior, StandardNormalPrior
from ._program_anchor import ProgramAnchor
from ._running_covariance import RunningCovariance
from ._total_correlation import TotalCorrelationTerms, mss_log_weights, total_correlation_terms

__all__ = [
    "DEFAULT_OBJECTIVE",
    "ENCODER_INPUT_KEY",
    "Anchor",
    "BetaVAELossOutput",
    "BetaVAEModule",
    "Discriminator",
    "NonzeroStructure",
    "Prior",
    "ProgramAnchor",
    "RunningCovariance",
    "StandardNormalPrior",
    "TotalCorrelationTerms",
    "capacity_penalty",
    "check_anchor",
    "check_beta",
    "dip_covariance",
    "dip_parts",
    "dip_penalty",
    "discriminator_accuracy",
    "discriminator_loss",
    "fused_negative_binomial_loss",
    "gaussian_kl",
    "make_regularizer",
    "mss_log_weights",
    "nonzero_structure",
    "permute_dimensions",
    "total_correlation_terms",
]
