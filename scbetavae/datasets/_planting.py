"""A known batch effect, planted on real counts."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scbetavae.datasets._checks import PLANTED_BATCH, UNS, check_integer, check_real, pandas_options_quiet

# Standard deviation of the gene-wise log multipliers, and range of the log depth factors, at strength 1. Real batches
# lie below and around it: .05 to .25 between donors of one experiment, .12 between two plate protocols.
LOG_MULTIPLIER_SD = 0.3
LOG_DEPTH_RANGE = 0.35
MAX_BATCH_STRENGTH = 100.0


def plant_batches(
    adata: AnnData, n_batches: int, *, batch_strength: float = 1.0, batch_key: str = "batch", seed: int = 0
) -> AnnData:
    r"""Plant a known batch effect on counts by binomial thinning.

    Cells are dealt to the batches at random, equally many to each. The count of gene :math:`g` in cell :math:`n` of
    batch :math:`b` becomes

    .. math::

        x'_{ng} \sim \operatorname{Binomial}(x_{ng},\; d_b\, p_{gb}), \qquad
        p_{gb} = \frac{m_{gb}}{\max_{b'} m_{gb'}}, \qquad
        \log m_{gb} \sim N(0,\, (0.3\, s)^2),

    with the strength :math:`s`, and the depth factors :math:`\log d_b` evenly spaced from :math:`-0.35\, s` to 0 and
    dealt at random to the batches.

    Thinning is how capturing fewer molecules acts: if :math:`x` is Poisson or negative binomial with mean
    :math:`\mu`, then :math:`x'` is exactly so with mean :math:`d_b\, p_{gb}\, \mu` and the same dispersion. Nothing is
    invented, and no structure but the batch is added; adding counts to raise a gene would need a model of the cell, and
    would leave its zeros in place. Dividing by the largest multiplier *of each gene* keeps every probability
    at most 1 and the depth realistic: two batches of strength 1 keep 74% of the counts, the shallower about 61% and
    the deeper 87%.

    Parameters
    ----------
    adata
        Cells x genes, raw counts in ``.X`` (dense or sparse; whole numbers of at least 0, at least one count a cell).
        It is not changed.
    n_batches
        Number of batches, from 2 to the number of cells.
    batch_strength
        Strength :math:`s` of the effect, from 0 to 100. 0 changes no count and only adds the labels.
    batch_key
        Column of ``.obs`` to write the labels to. It must not exist.
    seed
        Seed, at least 0. With one seed, batches and the direction of the effect are the same at any strength.

    Returns
    -------
    A new AnnData with the same cells and genes, and:

    - ``.X``: counts, CSR matrix of float32. A cell that would be left empty keeps one count, drawn in proportion to
      what its counts were to retain on average. Nothing else that was derived from the old counts is recomputed.
    - ``.obs[batch_key]``: categorical, ``"batch_0"``, ``"batch_1"``, ...
    - ``.varm["planted_batch"]``: array of genes x batches, :math:`\log p_{gb}` (at most 0, the largest of each gene
      is 0), columns in the order of the categories
    - ``.uns["betavae"]["planted_batch"]``: dict of ``strength``, ``seed``, ``batch_key``, ``n_batches`` and
      ``depth_factors`` (array of :math:`d_b`, in the order of the categories)

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, ``batch_key`` exists, or ``.X`` does not hold counts.

    See Also
    --------
    pbmc68k : Real cells on which this is done in the same call.

    Examples
    --------
    >>> from scbetavae.datasets import plant_batches, simulate_counts
    >>> adata = simulate_counts(200, 100, n_batches=1)
    >>> planted = plant_batches(adata, 3, batch_key="plate")
    >>> planted.varm["planted_batch"].shape
    (100, 3)
    """
    if not isinstance(adata, AnnData):
        msg = f"adata must be an AnnData, got {type(adata).__name__}."
        raise TypeError(msg)
    n_batches = check_integer("n_batches", n_batches, minimum=2)
    strength = check_real("batch_strength", batch_strength, low=0, high=MAX_BATCH_STRENGTH)
    seed = check_integer("seed", seed, minimum=0)
    if n_batches > adata.n_obs:
        msg = f"n_batches must be at most the number of cells, {adata.n_obs}, got {n_batches}."
        raise ValueError(msg)
    if batch_key in adata.obs:
        msg = f".obs already has a column {batch_key!r}. Give another batch_key, or remove the column first."
        raise ValueError(msg)
    with pandas_options_quiet():
        planted = adata.to_memory() if adata.isbacked else adata.copy()
    counts = _read_counts(planted.X)

    # One stream each, so that the strength does not change who is in which batch, nor which genes go up.
    for_cells, for_genes, for_depth, for_thinning = (np.random.default_rng(s) for s in _seeds(seed, 4))
    codes = for_cells.permutation(np.arange(adata.n_obs) % n_batches)
    log_retained = LOG_MULTIPLIER_SD * strength * for_genes.standard_normal((adata.n_vars, n_batches))
    log_retained -= log_retained.max(axis=1, keepdims=True)
    log_depth = for_depth.permutation(np.linspace(-LOG_DEPTH_RANGE * strength, 0.0, n_batches))

    planted.X = _thin(counts, codes, log_retained, log_depth, for_thinning)
    names = [f"batch_{number}" for number in range(n_batches)]
    planted.obs[batch_key] = pd.Categorical.from_codes(codes, categories=names)
    planted.varm[PLANTED_BATCH] = log_retained
    stored = planted.uns.get(UNS, {})
    planted.uns[UNS] = {
        **stored,
        PLANTED_BATCH: {
            "strength": strength,
            "seed": seed,
            "batch_key": batch_key,
            "n_batches": n_batches,
            "depth_factors": np.exp(log_depth),
        },
    }
    return planted


def _seeds(seed: int, number: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence(seed).spawn(number)


def _read_counts(matrix: object) -> sp.csr_matrix:
    if matrix is None:
        msg = "adata.X is None. Put raw counts into .X, for example adata.X = adata.layers['counts']."
        raise ValueError(msg)
    counts = sp.csr_matrix(matrix, dtype=np.float64)
    counts.sum_duplicates()
    values = counts.data
    wrong = ~np.isfinite(values) | (values < 0) | (values != np.rint(values))
    if wrong.any():
        msg = (
            f"adata.X must hold raw counts (whole numbers of at least 0), got {values[wrong][0]:g} among "
            f"{int(wrong.sum())} unfit values. Put raw counts into .X, for example adata.X = adata.layers['counts']."
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
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    log_probability = log_retained[counts.indices, codes[row]] + log_depth[codes[row]]
    kept = rng.binomial(counts.data.astype(np.int64), np.exp(log_probability))
    total = np.bincount(row, weights=kept, minlength=counts.shape[0])
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
