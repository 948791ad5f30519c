"""What a verb reads from an AnnData, refused before any work where it does not fit."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scbetavae import metrics
from scbetavae._core import results as _stored
from scbetavae._core.columns import read_factors

if TYPE_CHECKING:
    from collections.abc import Iterable


class ScoredColumns(NamedTuple):
    """Columns of ``.obs`` that take part in scoring."""

    factors: pd.DataFrame
    association: pd.DataFrame
    """How the factors relate to each other."""
    groups: pd.Series | None
    confounder: pd.Series | None

    def put_into(self, obs: pd.DataFrame) -> pd.DataFrame:
        """The columns of cells, with these as they are scored."""
        confounder = {} if self.confounder is None else {str(self.confounder.name): self.confounder}
        return obs.assign(**{**confounder, **self.factors})


def check_writable(adata: AnnData, key_added: str) -> None:
    """Refuse what no result can be stored in.

    Parameters
    ----------
    adata
        Annotated data.
    key_added
        Name under which results will be stored.

    Raises
    ------
    TypeError
        If ``adata`` is no AnnData.
    ValueError
        For a view, and for a name that is empty or holds a ``/``.
    """
    if not isinstance(adata, AnnData):
        msg = f"adata is a {type(adata).__name__}, not an AnnData. For arrays use scbetavae.metrics.score_frame."
        raise TypeError(msg)
    if adata.is_view:
        msg = "adata is a view of another AnnData, so nothing can be stored in it. Run adata = adata.copy() first."
        raise ValueError(msg)
    if not isinstance(key_added, str) or not key_added or "/" in key_added:
        msg = f"key_added={key_added!r} cannot be stored: give a name that is not empty and has no '/'."
        raise ValueError(msg)


def read_columns(
    adata: AnnData,
    covariates: str | Iterable[str],
    donor_key: str | None = None,
    confounder: str | None = None,
    *,
    categorical: str | Iterable[str] | None = None,
    registered: Iterable[str] = (),
) -> ScoredColumns:
    """Columns of ``.obs`` by name.

    Parameters
    ----------
    adata
        Annotated data.
    covariates
        One column or several.
    donor_key
        Column with the donor of every cell.
    confounder
        Column of a confounder.
    categorical, registered
        As :func:`read_factors`.

    Raises
    ------
    KeyError
        For a column that is not there, with the nearest that is.
    ValueError
        If no covariate is named, one is named twice or holds infinite values, or a cell has no group.
    TypeError
        If a covariate holds dates, durations or complex numbers.
    """
    names = [covariates] if isinstance(covariates, str) else list(covariates)
    there = list(adata.obs.columns)
    if not names:
        msg = f"covariates is empty: name at least one column of adata.obs, which has {_shorten(there)}."
        raise ValueError(msg)
    for argument, wanted in (("covariates", names), ("donor_key", [donor_key]), ("confounder", [confounder])):
        for name in wanted:
            if name is not None or argument == "covariates":
                check_key(name, there, argument, "adata.obs")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"covariates names {_shorten(twice)} twice. Name every column once."
        raise ValueError(msg)
    groups = None if donor_key is None else adata.obs[donor_key]
    if groups is not None and groups.isna().any():
        msg = (
            f"donor_key={donor_key!r} is missing for {int(groups.isna().sum())} cells. "
            f"Leave them out: adata = adata[adata.obs[{donor_key!r}].notna()].copy()."
        )
        raise ValueError(msg)
    wanted = list(dict.fromkeys([*names, *([] if confounder is None else [confounder])]))
    factors = read_factors(adata, wanted, "covariates", categorical, registered)
    association = metrics.covariate_association(factors[names])  # refuses what no score can read
    confounder = None if confounder is None else factors[confounder]
    return ScoredColumns(factors[names], association, groups, confounder)


def read_embedding(adata: AnnData, obsm_key: str, argument: str = "obsm_key") -> np.ndarray:
    """An entry of ``.obsm`` as finite numbers.

    Parameters
    ----------
    adata
        Annotated data.
    obsm_key
        Name of the entry: an array, sparse matrix or data frame of shape (n_cells, n_dims).
    argument
        Name of the argument that named it, for messages.

    Returns
    -------
    Array of shape (n_cells, n_dims).

    Raises
    ------
    KeyError
        If it is not there, with the nearest that is.
    TypeError
        If it does not hold numbers.
    ValueError
        If it is not a matrix with a column, holds NaN or infinite values, or is that of a model before its last training
        (unless it is one of several, which may well be of several models).
    """
    check_key(obsm_key, list(adata.obsm), argument, "adata.obsm")
    if argument == "obsm_key":
        _stored.check_embedding(adata, obsm_key)
    where = f"adata.obsm[{obsm_key!r}]"
    entry = adata.obsm[obsm_key]
    if sparse.issparse(entry):
        entry = entry.toarray()
    try:
        codes = np.asarray(entry, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{where} does not hold numbers. Store an array of shape (n_cells, n_dims)."
        raise TypeError(msg) from error
    if codes.ndim != 2 or codes.shape[1] == 0:
        msg = f"{where} has shape {codes.shape}; scores need (n_cells, n_dims) with at least one dimension."
        raise ValueError(msg)
    broken = np.flatnonzero(~np.isfinite(codes).all(axis=1))
    if len(broken):
        msg = (
            f"{where} holds NaN or infinite values in {len(broken)} cells, the first {adata.obs_names[broken[0]]!r}. "
            "Leave these cells out, or find out why the embedding has no finite value for them."
        )
        raise ValueError(msg)
    return codes


def check_key(key: str, there: list[str], argument: str, where: str) -> None:
    """Raise a KeyError that names the nearest key, unless ``key`` is there."""
    if key in there:
        return
    nearest = difflib.get_close_matches(str(key), [str(name) for name in there], n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    msg = f"{argument}={key!r} is not in {where}. {hint}{where} has {_shorten(there)}."
    raise KeyError(msg)


def _shorten(names: Iterable[str], most: int = 8) -> str:
    names = [repr(name) for name in names]
    return (", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")) or "nothing"
