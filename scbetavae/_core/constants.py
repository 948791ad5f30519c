"""Thresholds that several sub-packages share."""

# Registry key of guided covariates: a number of each cell, then its level (a code or a number) of each, NaN if unknown
GUIDED_KEY = "guided"
ACTIVE_KL = 0.01  # KL divergence in nats above which a latent dimension is active
STABLE = 0.7  # stability from which other cells give the same dimension
MINIMUM_CELLS = 4  # cells of a batch or class to compare it with others: one in each of four folds, two in either half
MEAN_CELLS = 10  # cells of a group or donor whose mean is to be trusted

# Batch removal, in chance-corrected balanced accuracy
CONSERVED_SHARE = 0.97  # share of its accuracy that each conserved covariate keeps in backward elimination,
CONSERVED_SLACK = 0.01  # or what it may lose, if that is more
LEAST_GAIN = (
    0.02  # batch accuracy that further dimensions must remove, or one standard error if that is larger; batch counts
)
# as mixed within this range, or two standard errors, of what is expected from composition
REMAINING = 0.15  # batch accuracy above what is expected from composition that counts as batch left
ALLOWED_LOSS = 0.05  # share of a conserved covariate's accuracy whose loss gives a warning
TOO_WIDE = 0.2  # how far an interval may reach beyond its threshold before the removal is not called clean
LEAST_EXPECTED = 0.05  # an expected accuracy below this cannot be distinguished from chance
