"""Thresholds that several sub-packages share."""

ACTIVE_KL = 0.01
"""KL divergence in nats above which a latent dimension is active."""

CONSERVED_SHARE, CONSERVED_SLACK = 0.97, 0.01
"""Backward elimination continues while each conserved covariate keeps this share of its accuracy, or loses no more than the
slack."""

LEAST_GAIN = 0.02
"""Batch accuracy that further dimensions must remove; one standard error if that is larger. Batch counts as mixed within this
range, or two standard errors, of what is expected from composition."""

REMAINING = 0.15
"""Batch accuracy above what is expected from composition that counts as batch left."""

ALLOWED_LOSS = 0.05
"""Share of a conserved covariate's accuracy whose loss gives a warning."""

TOO_WIDE = 0.2
"""Accuracy by which an interval may reach beyond its threshold before it says too little to call the removal clean."""

LEAST_EXPECTED = 0.05
"""An expected accuracy below this cannot be distinguished from chance."""

MINIMUM_CELLS = 4
"""Cells that a batch or class needs to be compared with others: one in each of four folds, two in either half of the cells."""
