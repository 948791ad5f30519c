"""Where the bundled counts come from: ``python tests/datasets/scanpy_counts.py FILE.npz`` makes them from scanpy's file."""

import sys
import warnings

import numpy as np
import pandas as pd
import scipy.sparse as sp

OBS = ("bulk_labels", "louvain", "phase", "S_score", "G2M_score", "percent_mito", "n_counts")
VAR = ("means", "dispersions")  # of the whole experiment, hence not derivable from these cells


def recover() -> tuple[sp.csr_matrix, pd.DataFrame, pd.DataFrame]:
    """Counts, cells and genes of scanpy's ``pbmc68k_reduced``, from its log-normalized values.

    The file holds y = log(1 + 1e4 x / n), rounded to three decimals, and n. Recovered counts lie within .082 of whole numbers;
    rounded, they reproduce every y to half of its third decimal.
    """
    import scanpy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file predates today's anndata
        source = scanpy.datasets.pbmc68k_reduced()
    values = sp.csr_matrix(source.raw.X, dtype=np.float64)
    per_value = np.repeat(source.obs["n_counts"].to_numpy(dtype=float), np.diff(values.indptr)) / 1e4
    exact = np.expm1(values.data) * per_value
    rounded = np.rint(exact)
    assert np.abs(exact - rounded).max() < 0.1
    assert np.abs(np.log1p(rounded / per_value) - values.data).max() < 0.5e-3 + 1e-6
    counts = sp.csr_matrix((rounded, values.indices, values.indptr), shape=values.shape)
    counts.eliminate_zeros()
    obs, var = source.obs[list(OBS)].copy(), source.var[list(VAR)].copy()
    obs["n_counts"] = np.rint(obs["n_counts"].to_numpy(dtype=np.float64)).astype(np.int64)
    obs.index.name = var.index.name = None
    return counts.astype(np.float32), obs, var


def write(path: str) -> None:
    """Write the file that the package ships: plain arrays of numbers and text."""
    counts, obs, var = recover()
    arrays = {"counts": counts.toarray().astype(np.uint16), "cells": np.array(obs.index, dtype=str)}
    arrays["genes"] = np.array(var.index, dtype=str)
    for axis, table in (("obs", obs), ("var", var)):
        for name, column in table.items():
            arrays[f"{axis}_{name}"] = column.to_numpy() if column.dtype != "category" else column.cat.codes.to_numpy()
            if column.dtype == "category":
                arrays[f"{axis}_{name}_categories"] = np.array(column.cat.categories, dtype=str)
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    write(sys.argv[1])
