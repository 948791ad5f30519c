"""Tables of scores, found in an AnnData or given as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scbetavae import metrics
from scbetavae._core import results as _stored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

_ALL = "all"


def read_table(
    data: AnnData | pd.DataFrame, key: str, columns: Iterable[str], make: str, suffix: str = ""
) -> pd.DataFrame:
    """A table of the result ``.uns["betavae"][key]``, or the table itself.

    Parameters
    ----------
    data
        Annotated data, or the table.
    key
        Name of the result.
    columns
        Columns that it must have.
    make
        The call that makes such a table, for messages.
    suffix
        Which of the tables of the result.

    Raises
    ------
    KeyError
        If there is no such table, or it lacks a column.
    ValueError
        If it has no rows, or describes an earlier embedding.
    """
    given = isinstance(data, pd.DataFrame)
    table = data if given else _stored.read(data, key, make, suffix)
    where = "The data frame" if given else f"The table {key + suffix!r}"
    missing = [name for name in columns if name not in table]
    if missing:
        msg = f"{where} has no column {missing[0]!r}. Make it with `{make}`."
        raise KeyError(msg)
    if table.empty:
        msg = f"{where} has no rows. Make it with `{make}`."
        raise ValueError(msg)
    return table


def arrange_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that are drawn, in the order in which they are drawn, with a column ``title``."""
    records = metrics.SCORES
    table = table[[name not in records or records[name].highest <= 1 for name in table["metric"]]].reset_index(
        drop=True
    )
    if table.empty:
        msg = "The table has no score between 0 and 1, so there is nothing to draw on a common axis."
        raise ValueError(msg)
    # Scores of single covariates first, then those of classes, then those of all covariates together.
    known = sorted(records.values(), key=lambda record: (not record.per_covariate, record.level == "class"))
    names = list(dict.fromkeys([*(record.name for record in known), *table["metric"]]))
    covariates = list(dict.fromkeys([_ALL, *table["covariate"]]))
    embeddings = list(table["embedding"].unique()) if "embedding" in table else []
    ranks = pd.DataFrame(
        {
            "covariate": table["covariate"].map(covariates.index),
            "metric": table["metric"].map(names.index),
            "embedding": table["embedding"].map(embeddings.index) if embeddings else 0,
        }
    )
    order = ranks.sort_values(["covariate", "metric", "embedding"], kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    titles = [
        records[name].title if name in records else name.replace("_", " ").capitalize() for name in table["metric"]
    ]
    table.insert(int(table.columns.get_loc("metric")) + 1, "title", titles)
    return table
