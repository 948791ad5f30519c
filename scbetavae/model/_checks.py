"""Refuse data that would train silently wrong, and say which cells and genes and what to do."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scvi import settings

from ._matrix_scan import FLOAT32_MAX, Finding, overflows_float32, scan_matrix

_LARGEST_EXACT = 2**24
"""Largest whole number up to which float32 has all of them."""


def counts_of(adata: AnnData, layer: str | None) -> tuple[Any, str]:
    """Matrix of counts and its name in messages.

    Parameters
    ----------
    adata
        Annotated data.
    layer
        Layer that holds the counts; ``None`` for ``.X``.

    Returns
    -------
    The matrix and its name.

    Raises
    ------
    ValueError
        If ``.X`` is asked for and empty.
    """
    if layer is None:
        if adata.X is None:
            msg = "adata.X is None. Put the raw counts there, or name their layer: setup_anndata(adata, layer=...)."
            raise ValueError(msg)
        return adata.X, "adata.X"
    return adata.layers[layer], f"adata.layers[{layer!r}]"


def check_matrix(adata: AnnData, layer: str | None) -> None:
    """Refuse a matrix that no likelihood can explain.

    Parameters
    ----------
    adata
        Annotated data.
    layer
        Layer that holds the counts; ``None`` for ``.X``.

    Raises
    ------
    ValueError
        For values that are negative or not finite in float32, and cells without counts.
    """
    matrix, name = counts_of(adata, layer)
    if 0 in matrix.shape:
        msg = f"{name} has {matrix.shape[0]} cells and {matrix.shape[1]} genes. There is nothing to train on."
        raise ValueError(msg)
    scan = scan_matrix(matrix)
    for finding, kind, remedy in (
        (scan.non_finite, "NaN or infinite", "Set them to 0 or drop their cells or genes."),
        (
            scan.overflowing,
            f"too large (beyond {FLOAT32_MAX:.2g}, the largest number of float32, in which the model computes)",
            "Look at how the matrix was made: counts of molecules are far smaller.",
        ),
        (
            scan.negative,
            "negative",
            "Counts are at least 0: scaled or regressed data cannot be used, give the raw counts.",
        ),
    ):
        if finding is not None:
            msg = f"{name} holds {finding.n_values} {kind} values, the first {_where(adata, finding)}. {remedy}"
            raise ValueError(msg)
    if scan.overflowing_rows.size:
        msg = (
            f"The counts of {scan.overflowing_rows.size} cells in {name} sum to more than float32 can hold "
            f"({_names(adata.obs_names[scan.overflowing_rows])}). Look at how the matrix was made, or drop these cells."
        )
        raise ValueError(msg)
    if scan.empty_rows.size:
        names = _names(adata.obs_names[scan.empty_rows])
        msg = (
            f"{scan.empty_rows.size} cells have no counts in {name}: {names}. "
            "Drop them first: sc.pp.filter_cells(adata, min_counts=1)."
        )
        raise ValueError(msg)


def check_integer_counts(adata: AnnData, layer: str | None, gene_likelihood: str) -> None:
    """Refuse values that are not counts, for a likelihood of counts.

    Parameters
    ----------
    adata
        Annotated data.
    layer
        Layer that holds the counts; ``None`` for ``.X``.
    gene_likelihood
        Name of the likelihood.

    Raises
    ------
    ValueError
        If a value is not an integer.
    """
    matrix, name = counts_of(adata, layer)
    scan = scan_matrix(matrix)
    if scan.largest > _LARGEST_EXACT:
        warnings.warn(
            f"{name} holds counts of up to {scan.largest:.3g}. Above {_LARGEST_EXACT:,} float32, in which the model computes, "
            "rounds them (by less than 1e-7 of their value). So many molecules of a gene in one cell are unusual: "
            "look at how the matrix was made.",
            UserWarning,
            stacklevel=settings.warnings_stacklevel,
        )
    if scan.fractional is None:
        return
    looks = f" It looks log-normalized (its largest value is {scan.largest:.3g})." if scan.largest < 20 else ""
    other = _other_counts(adata, layer)
    msg = (
        f"{name} holds {scan.fractional.n_values} values that are not integers, the first {_where(adata, scan.fractional)}, "
        f"but gene_likelihood={gene_likelihood!r} explains raw counts.{looks} {other}"
        'Give raw counts, or use gene_likelihood="normal" for data that are no counts.'
    )
    raise ValueError(msg)


def _other_counts(adata: AnnData, layer: str | None) -> str:
    """Point at a layer that holds integers, if there is one."""
    for name in adata.layers:
        # anndata 0.13 lists .X among the layers, under the name None
        if name is None or name == layer:
            continue
        scan = scan_matrix(adata.layers[name])
        if scan.fractional is None and scan.negative is None and scan.non_finite is None:
            return f"adata.layers[{name!r}] holds integers: setup_anndata(adata, layer={name!r}). "
    return ""


def check_adata(adata: AnnData) -> None:
    """Refuse what is no AnnData of its own.

    Parameters
    ----------
    adata
        What was given.

    Raises
    ------
    TypeError
        If it is no AnnData.
    ValueError
        If it is a view.
    """
    if not isinstance(adata, AnnData):
        msg = f"adata is a {type(adata).__name__}, not an AnnData. Wrap a matrix of counts: anndata.AnnData(matrix)."
        raise TypeError(msg)
    if adata.is_view:
        msg = "adata is a view of another AnnData, so nothing can be stored in it. Run adata = adata.copy() first."
        raise ValueError(msg)


def check_keys(container: Iterable[Any], keys: Mapping[str, Any], where: str) -> None:
    """Refuse keys that are not there, naming the nearest.

    Parameters
    ----------
    container
        Keys that are there.
    keys
        Keys that were asked for, by the argument that asked.
    where
        Name of the container in messages.

    Raises
    ------
    KeyError
        For the first key that is missing.
    """
    there = [key for key in container if key is not None]
    for argument, key in keys.items():
        if key is None or key in there:
            continue
        nearest = difflib.get_close_matches(str(key), [str(k) for k in there], n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        msg = f"{argument}={key!r} is not in {where}. {hint}{where} has {_names(there)}."
        raise KeyError(msg)


def check_no_missing(adata: AnnData, keys: Mapping[str, str | None], *, numeric: bool) -> None:
    """Refuse covariates with missing values.

    Parameters
    ----------
    adata
        Annotated data.
    keys
        Columns of ``.obs``, by the argument that named them; absent columns are skipped.
    numeric
        Whether the columns must be finite numbers.

    Raises
    ------
    ValueError
        For the first column with missing values, or numbers that are not finite in float32, with the count of cells.
    TypeError
        For a numeric column that holds no numbers.
    """
    for argument, key in keys.items():
        if key is None or key not in adata.obs:
            continue
        column = adata.obs[key]
        if numeric and not pd.api.types.is_numeric_dtype(column):
            msg = (
                f"{argument}={key!r} must be numeric, but adata.obs[{key!r}] is {column.dtype}. "
                "Convert it, or use it as a category."
            )
            raise TypeError(msg)
        missing = overflows_float32(column.to_numpy(dtype=float)) if numeric else column.isna().to_numpy()
        if missing.any():
            what = "missing or infinite values" if numeric else "missing labels"
            remedy = (
                "Drop these cells or fill the values in (numbers above 3.4e+38 are infinite in float32)"
                if numeric
                else f"Drop these cells, adata = adata[adata.obs[{key!r}].notna()].copy(), or give them a label of their own"
            )
            msg = (
                f"{argument}={key!r}: {int(missing.sum())} of {adata.n_obs} cells have {what} "
                f"({_names(adata.obs_names[missing])}). {remedy}."
            )
            raise ValueError(msg)


def check_positive(adata: AnnData, argument: str, key: str | None) -> None:
    """Refuse size factors that are not positive.

    Parameters
    ----------
    adata
        Annotated data.
    argument
        Argument that named the column.
    key
        Column of ``.obs``.

    Raises
    ------
    ValueError
        If a value is 0 or less.
    """
    if key is None or key not in adata.obs:
        return
    wrong = adata.obs[key].to_numpy(dtype=float) <= 0
    if wrong.any():
        msg = (
            f"{argument}={key!r}: {int(wrong.sum())} of {adata.n_obs} cells have a value of 0 or less "
            f"({_names(adata.obs_names[wrong])}). Size factors are positive: recompute them, or drop these cells."
        )
        raise ValueError(msg)


def check_encoder_input(adata: AnnData, key: str | None) -> None:
    """Refuse a matrix that the encoder cannot read.

    Parameters
    ----------
    adata
        Annotated data.
    key
        Entry of ``.obsm``, or ``None``.

    Raises
    ------
    KeyError
        If it is not there.
    TypeError
        If it is sparse or holds no numbers.
    ValueError
        If it holds values that are not finite in float32.
    """
    if key is None:
        return
    check_keys(adata.obsm.keys(), {"encoder_obsm_key": key}, "adata.obsm")
    matrix = adata.obsm[key]
    if sparse.issparse(matrix):
        msg = f"adata.obsm[{key!r}] is sparse. The encoder reads a dense matrix: adata.obsm[{key!r}].toarray()."
        raise TypeError(msg)
    try:
        values = np.asarray(matrix, dtype=float)
    except (TypeError, ValueError):
        msg = f"adata.obsm[{key!r}] holds values that are no numbers. Give a matrix of shape (cells, columns)."
        raise TypeError(msg) from None
    wrong = overflows_float32(values).any(axis=tuple(range(1, values.ndim)))
    if wrong.any():
        msg = (
            f"adata.obsm[{key!r}] holds NaN, infinite values or values beyond {FLOAT32_MAX:.2g} (float32) in "
            f"{int(wrong.sum())} cells ({_names(adata.obs_names[wrong])}). Recompute it, or drop these cells."
        )
        raise ValueError(msg)


def _where(adata: AnnData, finding: Finding) -> str:
    return f"{finding.value:.4g} in cell {adata.obs_names[finding.row]!r}, gene {adata.var_names[finding.column]!r}"


def _names(names: Iterable[Any], most: int = 5) -> str:
    names = [repr(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
