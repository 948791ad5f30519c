"""What ``benchmarks/fit_simulator.py`` measures on the cells of :func:`scbetavae.datasets.pbmc68k`, to three digits."""

COUNTS_PER_GENE = 0.854
"""Median counts of a cell, divided by the number of genes."""

LOG_LIBRARY_SIZE_SD = 0.302
"""Standard deviation over cells of the log of the counts of a cell."""

LOG_ABUNDANCE_SD = 1.29
"""Standard deviation over genes of the log of their share of all counts."""

DISPERSION_AT_MEAN_ONE = 0.274
"""Negative binomial dispersion (1 / theta) within cell types, of a gene with one count a cell."""

DISPERSION_EXPONENT = 0.501
"""The dispersion falls with the mean to the power of minus this."""
