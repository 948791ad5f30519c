"""Example counts: real blood cells, a batch effect planted on counts, and simulated cells with known factors."""

from scbetavae.datasets._factors import FactorEffects
from scbetavae.datasets._planting import pbmc68k, plant_batches
from scbetavae.datasets._simulation import simulate_counts

__all__ = ["FactorEffects", "pbmc68k", "plant_batches", "simulate_counts"]
