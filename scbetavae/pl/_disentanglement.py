"""Scores of one embedding: value, interval, null and ceiling of every metric and covariate."""

import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from scbetavae._core import keys, palette
from scbetavae.pl._read import read_table
from scbetavae.pl._score_dots import SCORE_COLUMNS, arrange_scores, draw_panels

_MAKE = "model.score_disentanglement(covariates)` or `scbetavae.tl.score_disentanglement(adata, covariates)"


def disentanglement(data: AnnData | pd.DataFrame, *, key: str = keys.DISENTANGLEMENT) -> Figure:
    """Draw the scores of one embedding, one panel per covariate and one row per metric.

    The dot is the value and the line its 95% interval. The gray bar runs from the null (permuted covariate) to the ceiling
    (oracle representation, one dimension per covariate): how far along it the dot lies is the normalized score. Open circles: not
    significant. Total correlation, which has no upper bound, is left out.

    Parameters
    ----------
    data
        Annotated data with scores in ``.uns["betavae"][key]``, or the data frame of scores.
    key
        Name of the result.

    Returns
    -------
    Figure with up to four panels per row; the first is for all covariates together.

    Raises
    ------
    KeyError, ValueError
        If there are no scores under ``key``; if none is between 0 and 1, or they are of several embeddings.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import scbetavae
    >>> label = np.arange(200) % 2
    >>> table = scbetavae.metrics.score_frame(
    ...     label[:, None] + [0.0, 1.0] * np.eye(200, 2), pd.DataFrame({"sex": label > 0})
    ... )
    >>> figure = scbetavae.pl.disentanglement(table)
    >>> [axes.get_title() for axes in figure.axes]
    ['all covariates', 'sex']
    """
    return draw_panels(_frame(data, key), {"": palette.BLUE}, None)


def _frame(data: AnnData | pd.DataFrame, key: str = keys.DISENTANGLEMENT) -> pd.DataFrame:
    """Scores in the order in which they are drawn, with a column ``title``."""
    table = read_table(data, key, SCORE_COLUMNS, _MAKE)
    if "embedding" in table and table["embedding"].nunique() > 1:
        n_embeddings = table["embedding"].nunique()
        msg = f"The table holds scores of {n_embeddings} embeddings. Use scbetavae.pl.embedding_comparison."
        raise ValueError(msg)
    return arrange_scores(table)
