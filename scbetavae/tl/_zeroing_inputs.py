"""What zeroing reads: dimensions, columns of `.obs`, and the constant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scbetavae._core import columns
from scbetavae.metrics._checks import check_choice
from scbetavae.tl import _batch_inputs, _inputs

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike

TARGETS = ("prior", "reference", "mean")
N_PERMUTATIONS = 100
FDR = 0.05
"""As :func:`scbetavae.tl.find_batch_dimensions` takes them by default."""


class Cells(NamedTuple):
    """Columns of ``.obs``."""

    batch: pd.Series
    conserved: pd.DataFrame
    """Without columns if nothing is conserved by name."""
    groups: pd.Series | None


def read_cells(
    adata: AnnData,
    batch_key: str,
    n_dims: int,
    *,
    conserve: str | Iterable[str] | None,
    rule: str,
    donor_key: str | None,
    categorical: str | Iterable[str] | None = None,
    registered: Iterable[str] = (),
) -> Cells:
    """All that can be read and refused without looking at the codes.

    ``categorical`` and ``registered`` name conserved columns that are classes, as in `read_factors`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As :func:`zero_batch_dimensions`.
    """
    if not isinstance(rule, str):
        msg = f"rule={rule!r} is no name of a rule. To name dimensions yourself, give them as `dimensions`."
        raise ValueError(msg)
    if batch_key in adata.obs and adata.obs[batch_key].nunique() == 1:
        msg = (
            f"batch_key={batch_key!r} has one category among these {adata.n_obs} cells, so no batch can be told from another. "
            "To zero query cells of one batch, give them together with the reference cells, in one AnnData."
        )
        raise ValueError(msg)
    search = _batch_inputs.read_search(
        adata,
        batch_key,
        n_dims,
        conserve=conserve,
        rule=rule,
        n_permutations=N_PERMUTATIONS,
        fdr=FDR,
        categorical=categorical,
        registered=registered,
    )
    groups = _inputs.read_columns(adata, batch_key, donor_key, categorical=batch_key).groups
    return Cells(search.batch, search.conserved, groups)


def check_target(to: str, reference_batch: str | None, batch: pd.Series) -> None:
    """Refuse a target that does not exist.

    Raises
    ------
    ValueError
        If ``to`` is unknown, or the reference batch is missing, unknown, or given without use.
    """
    check_choice(to, TARGETS, "to")
    if to != "reference":
        if reference_batch is not None:
            msg = f'reference_batch={reference_batch!r} is used with to="reference" alone, but to={to!r}.'
            raise ValueError(msg)
        return
    there = sorted(batch.dropna().unique())
    if reference_batch is None:
        msg = f'to="reference" needs reference_batch, one of {there}.'
        raise ValueError(msg)
    if columns.class_name(reference_batch) not in there:
        nearest = difflib.get_close_matches(str(reference_batch), there, n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        msg = f"reference_batch={reference_batch!r} is no batch of {batch.name!r}. {hint}There are {there}."
        raise ValueError(msg)


def check_dimensions(dimensions: int | Iterable[int], active: np.ndarray) -> list[int]:
    """Dimensions in order."""
    listed = np.atleast_1d(np.asarray(list(dimensions) if isinstance(dimensions, Iterable) else dimensions))
    n_dims = len(active)
    if listed.size == 0:
        msg = "dimensions is empty. Name at least one, or leave it out: find_batch_dimensions then chooses."
        raise ValueError(msg)
    wrong = [d for d in listed.tolist() if isinstance(d, bool) or not isinstance(d, int) or not 0 <= d < n_dims]
    if wrong:
        msg = f"dimensions has {wrong[0]!r}, which is no dimension. There are {n_dims}: whole numbers from 0 to {n_dims - 1}."
        raise ValueError(msg)
    chosen = sorted(set(listed.tolist()))
    if set(np.flatnonzero(active).tolist()) <= set(chosen):
        msg = (
            f"dimensions={chosen} are all of the {int(active.sum())} active dimensions, so nothing would be left of the cells. "
            "Leave out at least one that holds biology."
        )
        raise ValueError(msg)
    return chosen


def make_constants(
    to: str, reference_batch: str | None, prior_mean: ArrayLike | None, codes: np.ndarray, batch: pd.Series
) -> np.ndarray:
    """What zeroed dimensions are set to, (n_cells, n_dims)."""
    if to == "mean":
        return np.broadcast_to(codes.mean(axis=0), codes.shape)
    if to == "reference":
        return np.broadcast_to(
            codes[(batch == columns.class_name(reference_batch)).to_numpy()].mean(axis=0), codes.shape
        )
    if prior_mean is None:
        msg = 'to="prior" needs prior_mean: an embedding alone has no prior. Give it, or take to="mean".'
        raise ValueError(msg)
    mean = np.asarray(prior_mean, dtype=np.float64)
    if mean.shape not in (codes.shape, codes.shape[1:]) or not np.isfinite(mean).all():
        msg = f"prior_mean has shape {mean.shape}; it must be finite, of shape {codes.shape[1:]} or {codes.shape}."
        raise ValueError(msg)
    return np.broadcast_to(mean, codes.shape)
