"""What a plot draws: a result stored in an AnnData, or the data frame that was passed."""

from collections.abc import Iterable
from typing import Any, cast

import pandas as pd
from anndata import AnnData

from scbetavae._core import results


def read_table(
    data: AnnData | pd.DataFrame, key: str, columns: Iterable[str], make: str, suffix: str = ""
) -> pd.DataFrame:
    """The table ``.uns["betavae"][key + suffix]``, or the one passed; refused without rows or one of ``columns``."""
    given = isinstance(data, pd.DataFrame)
    table = data if given else results.read(data, key, make, suffix)
    where = "The data frame" if given else f"The table {key + suffix!r}"
    missing = [name for name in columns if name not in table]
    if missing:
        msg = f"{where} has no column {missing[0]!r}. Make it with `{make}`."
        raise KeyError(msg)
    if table.empty:
        msg = f"{where} has no rows. Make it with `{make}`."
        raise ValueError(msg)
    return table


def read_parameters(data: AnnData | pd.DataFrame, key: str) -> dict[str, Any]:
    """How the result was made, as far as that is known."""
    return dict(cast("dict[str, Any]", data.attrs)) if isinstance(data, pd.DataFrame) else results.parameters(data, key)
