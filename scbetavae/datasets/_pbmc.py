"""Real blood cells with raw counts, bundled with the package."""

from importlib.resources import as_file, files

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scbetavae._core.checks import check_number, check_whole_number
from scbetavae.datasets._planting import MAX_BATCH_STRENGTH, plant_batches

_SOURCE = (
    "Zheng et al. 2017, doi:10.1038/ncomms14049: 68k PBMCs of 10x Genomics, donor A; 700 cells and 765 genes from "
    "scanpy.datasets.pbmc68k_reduced(); raw counts recovered from its log-normalized values"
)


def pbmc68k(planted_batches: int = 0, batch_strength: float = 1.0, *, seed: int = 0) -> AnnData:
    """Load 700 real blood cells with raw counts, with a planted batch effect on request.

    The counts ship with this package (``pbmc68k.npz``). They are those of ``scanpy.datasets.pbmc68k_reduced()`` (scanpy,
    BSD-3-Clause), a part of the "Fresh 68k PBMCs (Donor A)" of 10x Genomics (CC BY 4.0) :cite:p:`Zheng2017`. scanpy's file has
    log-normalized values of three decimals. ``tests/datasets/scanpy_counts.py`` recovers the counts from them: they come out
    within .082 of whole numbers, and rounded they reproduce every value.

    Parameters
    ----------
    planted_batches
        Number of batches to plant with :func:`plant_batches`: 0 for none, otherwise 2 to 700.
    batch_strength
        Strength of the planted effect, 0 (labels only) to 100; 1 is a clear effect. Unused without batches.
    seed
        Seed of the planting, at least 0. The cells are always the same.

    Returns
    -------
    AnnData of 700 cells x 765 genes, of which 240 dendritic cells:

    - ``.X``: raw counts, CSR matrix of float32
    - ``.obs``: ``bulk_labels`` (10 cell types), ``louvain`` (11 clusters), ``phase`` (G1, S, G2M), ``S_score``, ``G2M_score``,
      ``percent_mito`` (fraction, 0 to 1), ``n_counts`` (counts over *all* genes of the experiment, before any planting; the 765
      genes have 11 to 28% of them)
    - ``.var``: ``means`` and ``dispersions``, computed on the whole experiment
    - ``.uns["source"]``: where the data come from
    - with planted batches, what :func:`plant_batches` adds

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from scbetavae.datasets import pbmc68k
    >>> adata = pbmc68k(planted_batches=2)
    >>> adata.shape
    (700, 765)
    >>> adata.obs["batch"].value_counts().tolist()
    [350, 350]
    """
    planted_batches = check_whole_number(planted_batches, "planted_batches", 0, 700)
    batch_strength = check_number(batch_strength, "batch_strength", 0, MAX_BATCH_STRENGTH)
    seed = check_whole_number(seed, "seed", 0)
    if planted_batches == 1:
        msg = "planted_batches=1 is not allowed: one batch is no batch effect. Pass 0, or 2 or more."
        raise ValueError(msg)
    adata = _load()
    return plant_batches(adata, planted_batches, batch_strength=batch_strength, seed=seed) if planted_batches else adata


def _load() -> AnnData:
    """The bundled cells. Arrays are named after their axis and column; categories have one of their own."""
    with as_file(files("scbetavae.datasets") / "pbmc68k.npz") as path, np.load(path) as file:
        arrays = dict(file)
    tables = {"obs": pd.DataFrame(index=arrays["cells"]), "var": pd.DataFrame(index=arrays["genes"])}
    for key, values in arrays.items():
        axis, _, name = key.partition("_")
        if axis in tables and not name.endswith("_categories"):
            named = arrays.get(f"{key}_categories")
            tables[axis][name] = values if named is None else pd.Categorical.from_codes(values, pd.Index(named))
    counts = sp.csr_matrix(arrays["counts"], dtype=np.float32)
    return AnnData(counts, obs=tables["obs"], var=tables["var"], uns={"source": _SOURCE})
