"""Scores of several embeddings side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbetavae._core import keys as _keys
from scbetavae.pl._score_dots import draw_panels
from scbetavae.pl._score_tables import arrange_scores, read_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.figure import Figure

_COLUMNS = ("embedding", "metric", "covariate", "value", "null", "p_value", "ceiling", "ci_low", "ci_high")
_MAKE = "scbetavae.tl.compare_embeddings(adata, covariates, obsm_keys)"
# Okabe and Ito's colors without their yellow, too pale for thin lines.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def compare_embeddings(data: AnnData | pd.DataFrame, *, key: str = _keys.EMBEDDING_COMPARISON) -> Figure:
    """Draw the scores of several embeddings, a panel a covariate, the embeddings below each other at every metric.

    Read as :func:`scores`: a dot and its 95% interval, on a bar from null to ceiling. Null and ceiling may differ between
    embeddings, so compare positions on the bars, too.

    Parameters
    ----------
    data
        Annotated data with the comparison in ``.uns["betavae"][key]``, or the data frame.
    key
        Name under which the comparison was stored.

    Returns
    -------
    Figure
        Four panels a row; the first is for all covariates together.

    Raises
    ------
    KeyError
        If there is no comparison under ``key``.
    ValueError
        If there is no score to draw, or there are more than seven embeddings.

    See Also
    --------
    compare_embeddings_frame : the data behind this picture.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import scbetavae
    >>> label = pd.DataFrame({"sex": np.arange(200) % 2 > 0})
    >>> parts = []
    >>> for name, noise in (("clean", 0.1), ("noisy", 2.0)):
    ...     codes = label.to_numpy() * [1, 0] + noise * np.random.default_rng(0).normal(size=(200, 2))
    ...     parts.append(scbetavae.metrics.score_frame(codes, label, metrics="mig").assign(embedding=name))
    >>> figure = scbetavae.pl.compare_embeddings(pd.concat(parts))
    >>> [text.get_text() for text in figure.legends[0].get_texts()[:2]]
    ['clean', 'noisy']
    """
    frame = compare_embeddings_frame(data, key=key)
    names = list(dict.fromkeys(frame["embedding"]))
    if len(names) > len(_COLORS):
        msg = f"There are {len(names)} embeddings; {len(_COLORS)} can be told apart. Draw a part of the data frame."
        raise ValueError(msg)
    return draw_panels(frame, dict(zip(names, _COLORS, strict=False)), "embedding")


def compare_embeddings_frame(data: AnnData | pd.DataFrame, *, key: str = _keys.EMBEDDING_COMPARISON) -> pd.DataFrame:
    """Scores in the order in which :func:`compare_embeddings` draws them.

    Parameters
    ----------
    data
        Annotated data with the comparison in ``.uns["betavae"][key]``, or the data frame.
    key
        Name under which the comparison was stored.

    Returns
    -------
    DataFrame
        The rows of the comparison by covariate (all together first), metric and embedding, with a column ``title``. Total
        correlation, which has no upper bound, is left out.

    Raises
    ------
    KeyError
        If there is no comparison under ``key``.
    ValueError
        If there is no score to draw.
    """
    return arrange_scores(read_table(data, key, _COLUMNS, _MAKE))
