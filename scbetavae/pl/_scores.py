"""Scores of one embedding: value, interval, null and ceiling of every metric and covariate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbetavae._core import keys as _keys
from scbetavae.pl._score_dots import draw_panels
from scbetavae.pl._score_tables import arrange_scores, read_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.figure import Figure

_COLUMNS = ("metric", "covariate", "value", "null", "p_value", "ceiling", "ci_low", "ci_high")
_MAKE = "model.score_disentanglement(covariates)` or `scbetavae.tl.score_disentanglement(adata, covariates)"
_COLOR = "#0072B2"


def scores(data: AnnData | pd.DataFrame, *, key: str = _keys.DISENTANGLEMENT) -> Figure:
    """Draw the scores of one embedding, a panel a covariate and a row a metric.

    The dot is the value and the line its 95% interval. The gray bar runs from the null (the covariate permuted) to the ceiling
    (oracle codes, one dimension per covariate): how far along it the dot lies is the adjusted score. A hollow dot is not
    told from the null.

    Parameters
    ----------
    data
        Annotated data with scores in ``.uns["betavae"][key]``, or the data frame of scores.
    key
        Name under which the scores were stored.

    Returns
    -------
    Figure
        Four panels a row; the first is for all covariates together.

    Raises
    ------
    KeyError
        If there are no scores under ``key``.
    ValueError
        If there is no score to draw.

    See Also
    --------
    scores_frame : the data behind this picture.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import scbetavae
    >>> label = np.arange(200) % 2
    >>> table = scbetavae.metrics.score_frame(
    ...     label[:, None] + [0.0, 1.0] * np.eye(200, 2), pd.DataFrame({"sex": label > 0})
    ... )
    >>> figure = scbetavae.pl.scores(table)
    >>> [axes.get_title() for axes in figure.axes]
    ['all covariates', 'sex']
    """
    return draw_panels(scores_frame(data, key=key), {"": _COLOR}, None)


def scores_frame(data: AnnData | pd.DataFrame, *, key: str = _keys.DISENTANGLEMENT) -> pd.DataFrame:
    """Scores in the order in which :func:`scores` draws them.

    Parameters
    ----------
    data
        Annotated data with scores in ``.uns["betavae"][key]``, or the data frame of scores.
    key
        Name under which the scores were stored.

    Returns
    -------
    DataFrame
        The rows of the scores, those for all covariates first, with a column ``title``. Total correlation, which has no
        upper bound, is left out.

    Raises
    ------
    KeyError
        If there are no scores under ``key``.
    ValueError
        If there is no score to draw, or the scores are those of several embeddings.
    """
    table = read_table(data, key, _COLUMNS, _MAKE)
    if "embedding" in table and table["embedding"].nunique() > 1:
        msg = (
            f"The table holds scores of {table['embedding'].nunique()} embeddings. Use scbetavae.pl.compare_embeddings."
        )
        raise ValueError(msg)
    return arrange_scores(table)
