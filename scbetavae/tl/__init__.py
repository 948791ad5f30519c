"""Verbs on an AnnData with any embedding: results go to `.uns` and come back as tidy data frames."""

from scbetavae.tl._compare_embeddings import compare_embeddings
from scbetavae.tl._score_disentanglement import score_disentanglement

__all__ = ["compare_embeddings", "score_disentanglement"]
