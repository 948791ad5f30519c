"""Scores of several embeddings side by side."""

import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from scbetavae._core import keys, palette
from scbetavae.pl._read import read_table
from scbetavae.pl._score_dots import SCORE_COLUMNS, arrange_scores, draw_panels

_MAKE = "scbetavae.tl.compare_embeddings(adata, covariates, obsm_keys)"


def embedding_comparison(data: AnnData | pd.DataFrame, *, key: str = keys.EMBEDDING_COMPARISON) -> Figure:
    """Draw the scores of several embeddings, one panel per covariate, the embeddings below each other at every metric.

    As in :func:`disentanglement`, a dot and its 95% interval lie on a bar from null to ceiling. Null and ceiling may differ
    between embeddings, so compare positions on the bars, too.

    Parameters
    ----------
    data, key
        As in :func:`disentanglement`.

    Returns
    -------
    Figure with up to four panels per row; the first is for all covariates together.

    Raises
    ------
    KeyError, ValueError
        If there is no comparison under ``key``; if no score is between 0 and 1.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import scbetavae
    >>> label = pd.DataFrame({"sex": np.arange(200) % 2 > 0})
    >>> parts = []
    >>> for name, noise in (("clean", 0.1), ("noisy", 2.0)):
    ...     z = label.to_numpy() * [1, 0] + noise * np.random.default_rng(0).normal(size=(200, 2))
    ...     parts.append(scbetavae.metrics.score_frame(z, label, metrics="mig").assign(embedding=name))
    >>> figure = scbetavae.pl.embedding_comparison(pd.concat(parts))
    >>> [text.get_text() for text in figure.legends[0].get_texts()[:2]]
    ['clean', 'noisy']
    """
    frame = _frame(data, key)
    names = list(dict.fromkeys(frame["embedding"]))
    return draw_panels(frame, dict(zip(names, palette.colors(len(names)), strict=True)), "embedding")


def _frame(data: AnnData | pd.DataFrame, key: str = keys.EMBEDDING_COMPARISON) -> pd.DataFrame:
    """Scores by covariate, metric and embedding, with a column ``title``."""
    return arrange_scores(read_table(data, key, ("embedding", *SCORE_COLUMNS), _MAKE))
