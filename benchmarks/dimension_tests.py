"""Tests over donors and tests over cells: principal components of a file of counts that differ between two levels.

``python benchmarks/dimension_tests.py onek1k_subset.h5ad --covariate sex --donor-key donor --groupby cell_type``

The covariate must be constant within donors. The first row is the covariate as recorded, the second the mean over permutations
between donors, where no dimension differs. Columns are shares of all tests (groups x dimensions) with p < 0.05, and the same
after correction (Benjamini-Hochberg).
"""

import argparse

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import stats

import scbetavae


def shares(adata: anndata.AnnData, covariate: str, donor_key: str, groupby: str) -> dict[str, float]:
    """Significant shares of both kinds of tests."""
    frame = scbetavae.tl.test_dimensions(adata, covariate, donor_key=donor_key, groupby=groupby, obsm_key="X_pca")
    target = (adata.obs[covariate].astype(str) == frame["target"].iloc[0]).to_numpy()
    groups = [(adata.obs[groupby] == name).to_numpy() for name in frame["group"].unique()]
    z = adata.obsm["X_pca"]
    of_cells = [stats.ttest_ind(z[here & target], z[here & ~target], equal_var=False).pvalue for here in groups]
    p_values = {"donors": frame["p_value"].dropna().to_numpy(), "cells": np.concatenate(of_cells)}
    raw = {name: float((p < 0.05).mean()) for name, p in p_values.items()}
    adjusted = {name: float((stats.false_discovery_control(p) < 0.05).mean()) for name, p in p_values.items()}
    return {f"{name}_{kind}": part[name] for kind, part in (("p", raw), ("adjusted", adjusted)) for name in part}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--covariate", required=True)
    parser.add_argument("--donor-key", required=True)
    parser.add_argument("--groupby", required=True)
    parser.add_argument("--n-permutations", type=int, default=100)
    arguments = parser.parse_args()
    adata = anndata.read_h5ad(arguments.path)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=10)
    of_donor = adata.obs.groupby(arguments.donor_key, observed=True)[arguments.covariate].first().astype(str)
    rng = np.random.default_rng(0)
    permuted = []
    for _ in range(arguments.n_permutations):
        labels = pd.Series(rng.permutation(of_donor), index=of_donor.index)
        adata.obs["permuted"] = adata.obs[arguments.donor_key].astype(str).map(labels)
        permuted.append(shares(adata, "permuted", arguments.donor_key, arguments.groupby))
    rows = {"recorded": shares(adata, arguments.covariate, arguments.donor_key, arguments.groupby)}
    rows["permuted"] = pd.DataFrame(permuted).mean().to_dict()
    print(pd.DataFrame(rows).T.round(3).to_string())


if __name__ == "__main__":
    main()
