"""Thresholds that several sub-packages share."""

ACTIVE_KL = 0.01
"""KL divergence in nats above which a latent dimension is active."""
