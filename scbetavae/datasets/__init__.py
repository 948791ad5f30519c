"""Example counts: real blood cells, a batch effect planted on counts, simulated cells with known factors, and marker genes."""

from scbetavae.datasets._factors import FactorEffects
from scbetavae.datasets._gene_sets import marker_gene_sets
from scbetavae.datasets._planting import pbmc68k, plant_batches
from scbetavae.datasets._simulation import simulate_counts

__all__ = ["FactorEffects", "marker_gene_sets", "pbmc68k", "plant_batches", "simulate_counts"]
