"""Predictions: a condition from latent dimensions, and the cells of a counterfactual."""

from scbetavae.metrics.prediction._condition_prediction import condition_prediction, undefined_prediction
from scbetavae.metrics.prediction._counterfactual_error import (
    differential_genes,
    log_profile,
    relative_error,
    split_half_error,
    squared_correlation,
)

__all__ = ["condition_prediction", "undefined_prediction"]
__all__ += ["differential_genes", "log_profile", "relative_error", "split_half_error", "squared_correlation"]
