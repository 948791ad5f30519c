"""Estimate the constants of ``scbetavae.datasets.simulate_counts`` from real cells.

Run ``python benchmarks/fit_simulator.py``: it takes seconds, prints each constant and the one in use, and ends with
status 1 if they differ by more than 1%. The cells are ``scbetavae.datasets.pbmc68k()``.

- Depth: median counts per cell and gene, and the standard deviation of the log of the counts per cell.
- Gene means: standard deviation over genes of the log of the share of all counts. Close to normal on the log scale
  (skewness is printed). Sampling noise, 1 / (counts of the gene), is subtracted from the variance.
- Dispersion: within each of the ten cell types, mu = (counts of the cell) x (share of the gene in the type). A gene's
  dispersion phi is sum((x - mu)^2 - mu) / sum(mu^2), the moment estimate of Var = mu + phi mu^2. A straight line is
  fitted to the log of its median over genes, in 20 bins of the mean, against the log mean: phi = a mean^-b. The median is
  used because in some genes the types are still mixtures, which a simulation has as factors and not as noise.
"""

import sys

import numpy as np

from scbetavae.datasets import _simulation as in_use
from scbetavae.datasets import pbmc68k

N_BINS = 20
MIN_CELLS = 10


def fit_dispersion(counts: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fit ``phi = a mean^-b``; ``counts`` is cells x genes, ``labels`` holds the cell type of each cell."""
    excess = np.zeros(counts.shape[1])
    squared_mean = np.zeros(counts.shape[1])
    for label in np.unique(labels):
        x = counts[labels == label]
        if len(x) < MIN_CELLS:
            continue
        mean = np.outer(x.sum(1), x.sum(0) / x.sum())
        # n / (n - 1), because the share of the gene is estimated on the same cells
        excess += ((x - mean) ** 2 * len(x) / (len(x) - 1) - mean).sum(0)
        squared_mean += (mean**2).sum(0)
    gene_mean = counts.mean(0)
    bins = np.array_split(np.argsort(gene_mean), N_BINS)
    phi = np.array([np.median(excess[b] / squared_mean[b]) for b in bins])
    center = np.array([np.exp(np.log(gene_mean[b]).mean()) for b in bins])
    slope, intercept = np.polyfit(np.log(center), np.log(phi), 1)
    return float(np.exp(intercept)), float(-slope)


def fit() -> dict[str, float]:
    """Return each constant by its name in ``scbetavae.datasets._simulation``, to three digits."""
    adata = pbmc68k()
    counts = adata.X.toarray().astype(float)
    depth = counts.sum(1)
    per_gene = counts.sum(0)
    log_share = np.log(per_gene / per_gene.sum())
    at_one, exponent = fit_dispersion(counts, adata.obs["bulk_labels"].astype(str).to_numpy())
    standardized = (log_share - log_share.mean()) / log_share.std()
    sys.stdout.write(f"skewness of log gene shares: {np.mean(standardized**3):.2f}\n")
    fitted = {
        "COUNTS_PER_GENE": float(np.median(depth)) / counts.shape[1],
        "LOG_LIBRARY_SIZE_SD": float(np.log(depth).std()),
        "LOG_ABUNDANCE_SD": float(np.sqrt(log_share.var() - np.mean(1 / per_gene))),
        "DISPERSION_AT_MEAN_ONE": at_one,
        "DISPERSION_EXPONENT": exponent,
    }
    return {name: float(f"{value:.3g}") for name, value in fitted.items()}


def main() -> int:
    """Print the constants; return 1 if those in use differ."""
    same = True
    for name, value in fit().items():
        used = getattr(in_use, name)
        same &= abs(used - value) <= 0.01 * abs(value)
        sys.stdout.write(f"{name} = {value:g}  # in use: {used:g}\n")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
