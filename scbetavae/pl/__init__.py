"""Pictures: an AnnData in, a matplotlib Figure or Axes back; the tidy data of each picture from its own function."""

from scbetavae.pl._embedding import embedding
from scbetavae.pl._training import training, training_frame

__all__ = ["embedding", "training", "training_frame"]
