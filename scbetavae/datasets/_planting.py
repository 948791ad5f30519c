"""Real blood cells with raw counts, bundled with the package, and a known batch effect, planted on counts."""

from importlib.resources import as_file, files
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scbetavae._core import keys
from scbetavae._core.checks import check_number, check_whole_number

# Standard deviation of the gene-wise log multipliers, and range of the log depth factors, at strength 1. Real batches
# lie below and around it: .05 to .25 between donors of one experiment, .12 between two plate protocols.
LOG_MULTIPLIER_SD = 0.3
LOG_DEPTH_RANGE = 0.35
MAX_BATCH_STRENGTH = 100.0

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
        Seed of the planting, at least 0. The cells are always the same. What is out of range is a ValueError.

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


def plant_batches(
    adata: AnnData, n_batches: int, *, batch_strength: float = 1.0, batch_key: str = "batch", seed: int = 0
) -> AnnData:
    r"""Plant a known batch effect on counts by binomial thinning.

    Cells are assigned to batches of equal size at random. The count of gene :math:`g` in cell :math:`n` of batch :math:`b`
    becomes

    .. math::

        x'_{ng} \sim \operatorname{Binomial}(x_{ng},\; d_b\, p_{gb}), \qquad
        p_{gb} = \frac{m_{gb}}{\max_{b'} m_{gb'}}, \qquad
        \log m_{gb} \sim N(0,\, (0.3\, s)^2),

    with the strength :math:`s`, and depth factors :math:`\log d_b` evenly spaced from :math:`-0.35\, s` to 0, in random order.

    Thinning acts like capturing fewer molecules: if :math:`x` is Poisson or negative binomial with mean :math:`\mu`, then
    :math:`x'` has the same distribution with mean :math:`d_b\, p_{gb}\, \mu` and the same dispersion. Dividing by the largest
    multiplier of each gene keeps every probability at most 1 and the depth realistic: two batches of strength 1 keep 74% of the
    counts.

    Parameters
    ----------
    adata
        Cells x genes, raw counts in ``.X`` (dense or sparse), at least one count in every cell. It is not changed. A ValueError
        says if ``.X`` has anything but counts, ``batch_key`` exists, or a number is out of range.
    n_batches
        Number of batches, 2 to the number of cells.
    batch_strength
        Strength :math:`s` of the effect, 0 to 100. 0 changes no count and only adds labels.
    batch_key
        New column of ``.obs`` with the labels.
    seed
        Seed, at least 0. With one seed, batches and the direction of the effect are the same at any strength.

    Returns
    -------
    A new AnnData with the same cells and genes, and:

    - ``.X``: counts, CSR matrix of float32. A cell that would be left empty keeps one count. Nothing else that was derived from
      the old counts is recomputed.
    - ``.obs[batch_key]``: categorical, ``"batch_0"``, ``"batch_1"``, ...
    - ``.varm["planted_batch"]``: genes x batches, :math:`\log p_{gb}` (at most 0), columns in the order of the categories
    - ``.uns["betavae"]["planted_batch"]``: dict of ``strength``, ``seed``, ``batch_key``, ``n_batches`` and ``depth_factors``
      (:math:`d_b`, in the order of the categories)

    Examples
    --------
    >>> from scbetavae.datasets import plant_batches, simulate_counts
    >>> adata = simulate_counts(200, 100, n_batches=1)
    >>> planted = plant_batches(adata, 3, batch_key="plate")
    >>> planted.varm["planted_batch"].shape
    (100, 3)
    """
    if not isinstance(adata, AnnData):
        msg = f"adata is a {type(adata).__name__}, not an AnnData. Wrap a matrix of counts: anndata.AnnData(matrix)."
        raise TypeError(msg)
    n_batches = check_whole_number(n_batches, "n_batches", 2, adata.n_obs)
    strength = check_number(batch_strength, "batch_strength", 0, MAX_BATCH_STRENGTH)
    seed = check_whole_number(seed, "seed", 0)
    if batch_key in adata.obs:
        msg = f"adata.obs already has a column {batch_key!r}. Pass another batch_key, or remove the column first."
        raise ValueError(msg)
    planted = adata.to_memory() if adata.isbacked else adata.copy()
    counts = _read_counts(planted.X)

    # One stream each, so that the strength changes neither the batch of a cell nor which genes go up.
    for_cells, for_genes, for_depth, for_thinning = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(4))
    codes = for_cells.permutation(np.arange(adata.n_obs) % n_batches)
    log_retained = LOG_MULTIPLIER_SD * strength * for_genes.standard_normal((adata.n_vars, n_batches))
    log_retained -= log_retained.max(axis=1, keepdims=True)
    log_depth = for_depth.permutation(np.linspace(-LOG_DEPTH_RANGE * strength, 0.0, n_batches))

    planted.X = _thin(counts, codes, log_retained, log_depth, for_thinning)
    names: Any = [f"batch_{number}" for number in range(n_batches)]
    planted.obs[batch_key] = pd.Categorical.from_codes(codes, categories=names)
    planted.varm[keys.PLANTED_BATCH] = log_retained
    parameters = {"strength": strength, "seed": seed, "batch_key": batch_key, "n_batches": n_batches}
    parameters["depth_factors"] = np.exp(log_depth)
    planted.uns[keys.UNS] = {**planted.uns.get(keys.UNS, {}), keys.PLANTED_BATCH: parameters}
    return planted


def _read_counts(matrix: object) -> sp.csr_matrix:
    """Raw counts in rows, refused unless they are whole numbers and no cell is empty."""
    if matrix is None:
        msg = "adata.X is None. Put raw counts into .X, for example adata.X = adata.layers['counts']."
        raise ValueError(msg)
    counts = sp.csr_matrix(matrix, dtype=np.float64)
    counts.sum_duplicates()
    wrong = counts.data[~np.isfinite(counts.data) | (counts.data < 0) | (counts.data != np.rint(counts.data))]
    if wrong.size:
        msg = (
            f"adata.X must have raw counts (whole numbers of at least 0), got {wrong[0]:g} among {wrong.size} invalid values. "
            "Put raw counts into .X, for example adata.X = adata.layers['counts']."
        )
        raise ValueError(msg)
    empty = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() == 0)
    if empty.size:
        msg = (
            f"{empty.size} cells have no counts, the first at position {empty[0]}. "
            "Remove them with scanpy.pp.filter_cells(adata, min_counts=1)."
        )
        raise ValueError(msg)
    return counts


def _thin(
    counts: sp.csr_matrix, codes: np.ndarray, log_retained: np.ndarray, log_depth: np.ndarray, rng: np.random.Generator
) -> sp.csr_matrix:
    """Binomial draws of the counts; a cell that would be empty keeps one count, drawn by what its counts were to retain."""
    row = np.repeat(np.arange(len(codes)), np.diff(counts.indptr))
    log_probability = log_retained[counts.indices, codes[row]] + log_depth[codes[row]]
    kept = rng.binomial(counts.data.astype(np.int64), np.exp(log_probability))
    total = np.bincount(row, weights=kept, minlength=len(codes))
    for cell in np.flatnonzero(total == 0):
        entries = np.arange(counts.indptr[cell], counts.indptr[cell + 1])
        entries = entries[counts.data[entries] > 0]  # a sparse matrix may store zeros
        # On the log scale, because at a great strength every probability may underflow.
        log_weight = np.log(counts.data[entries]) + log_probability[entries]
        weight = np.exp(log_weight - log_weight.max())
        kept[rng.choice(entries, p=weight / weight.sum())] = 1
    thinned = sp.csr_matrix((kept.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
    thinned.eliminate_zeros()
    return thinned
