"""Real blood cells, recovered as raw counts from a file that ships inside scanpy."""

import warnings
from importlib.metadata import version
from typing import NoReturn

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scbetavae.datasets._checks import check_integer, check_real, pandas_options_quiet
from scbetavae.datasets._planting import MAX_BATCH_STRENGTH, plant_batches

_OBS_COLUMNS = ("bulk_labels", "louvain", "phase", "S_score", "G2M_score", "percent_mito", "n_counts")
# Computed by the authors of the file on the whole experiment, hence not derivable from these 700 cells.
_VAR_COLUMNS = ("means", "dispersions")

# Largest distance of a recovered count from a whole number, .0815 in the known file; at .5 rounding would be a guess.
_MAX_DISTANCE_TO_INTEGER = 0.1
# The file keeps three decimals, so a right count reproduces its value to half of the third one, plus float32 rounding.
_MAX_REPRODUCTION_ERROR = 0.5e-3 + 1e-6

_SOURCE = (
    "Zheng et al. 2017, doi:10.1038/ncomms14049: 68k PBMCs of 10x Genomics, donor A; 700 cells and 765 genes from "
    "scanpy.datasets.pbmc68k_reduced(); raw counts recovered from its log-normalized values"
)


def pbmc68k(planted_batches: int = 0, batch_strength: float = 1.0, *, seed: int = 0) -> AnnData:
    r"""Load 700 real blood cells with exact raw counts, if wanted with a known batch effect.

    scanpy ships the cells as :math:`y = \log(1 + 10^4 x / n)`, rounded to three decimals, with the library size
    :math:`n` of every cell. The counts :math:`x = n\,(e^y - 1) / 10^4` come out within .082 of whole numbers; rounded,
    they reproduce every :math:`y` to half of its third decimal. Both bounds are checked at each call.

    Parameters
    ----------
    planted_batches
        Number of batches to plant with :func:`plant_batches`: 0 for none, otherwise 2 to 700.
    batch_strength
        Strength of the planted effect, from 0 (labels only) to 100; 1 is a clear effect. Unused without batches.
    seed
        Seed of the planting, at least 0. The cells themselves are always the same.

    Returns
    -------
    AnnData of 700 cells x 765 genes, of which 240 dendritic cells:

    - ``.X``: raw counts, CSR matrix of float32
    - ``.obs``: ``bulk_labels`` (10 cell types), ``louvain`` (11 clusters), ``phase`` (G1, S, G2M), ``S_score``,
      ``G2M_score``, ``percent_mito`` (fraction, 0 to 1), ``n_counts`` (counts of the cell over *all* genes of the
      experiment, before any planting; the 765 genes hold 11 to 28% of them)
    - ``.var``: ``means`` and ``dispersions``, as computed on the whole experiment
    - ``.uns["source"]``: where the data come from
    - with planted batches, what :func:`plant_batches` adds: ``.obs["batch"]``, ``.varm["planted_batch"]`` and
      ``.uns["betavae"]["planted_batch"]``

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.
    RuntimeError
        If the file in the installed scanpy is not the known one.

    See Also
    --------
    plant_batches : The same planting on other counts.
    simulate_counts : Cells of which every factor is known.

    References
    ----------
    :cite:t:`Zheng2017`

    Examples
    --------
    >>> from scbetavae.datasets import pbmc68k
    >>> adata = pbmc68k(planted_batches=2)
    >>> adata.shape
    (700, 765)
    >>> adata.obs["batch"].value_counts().tolist()
    [350, 350]
    """
    planted_batches = check_integer("planted_batches", planted_batches, minimum=0)
    batch_strength = check_real("batch_strength", batch_strength, low=0, high=MAX_BATCH_STRENGTH)
    seed = check_integer("seed", seed, minimum=0)
    if planted_batches == 1:
        msg = "planted_batches must be 0 (no batches) or at least 2, got 1: one batch is no batch effect."
        raise ValueError(msg)
    if planted_batches > 700:
        msg = f"planted_batches must be at most 700, one for each cell, got {planted_batches}."
        raise ValueError(msg)
    adata = _load_counts()
    if planted_batches:
        adata = plant_batches(adata, planted_batches, batch_strength=batch_strength, seed=seed)
    return adata


def _load_counts() -> AnnData:
    import scanpy

    with pandas_options_quiet():
        with warnings.catch_warnings():
            # The file predates today's anndata, which says so through whichever function reads it.
            warnings.filterwarnings("ignore", category=FutureWarning)
            source = scanpy.datasets.pbmc68k_reduced()
        if source.raw is None:
            _refuse("it has no .raw")
        missing = [name for name in _OBS_COLUMNS if name not in source.obs]
        missing += [name for name in _VAR_COLUMNS if name not in source.var]
        if missing:
            _refuse(f"it lacks {', '.join(missing)}")
        if source.shape != (700, 765) or not source.raw.var_names.equals(source.var_names):
            _refuse(f"it holds {source.n_obs} cells x {source.n_vars} genes, or other genes in .raw")
        library_size = source.obs["n_counts"].to_numpy(dtype=np.float64)
        counts = _recover_counts(sp.csr_matrix(source.raw.X, dtype=np.float64), library_size)
        obs = source.obs[list(_OBS_COLUMNS)].copy()
        obs["n_counts"] = np.rint(library_size).astype(np.int64)
        obs.index.name = None
        var = source.var[list(_VAR_COLUMNS)].copy()
        var.index.name = None
        return AnnData(counts.astype(np.float32), obs=obs, var=var, uns={"source": _SOURCE})


def _recover_counts(normalized: sp.csr_matrix, library_size: np.ndarray) -> sp.csr_matrix:
    per_value = np.repeat(library_size, np.diff(normalized.indptr)) / 1e4
    exact = np.expm1(normalized.data) * per_value
    rounded = np.rint(exact)
    distance = np.abs(exact - rounded).max()
    if not distance <= _MAX_DISTANCE_TO_INTEGER:  # also refuses NaN
        _refuse(f"recovered counts lie up to {distance:.3g} from whole numbers (allowed: {_MAX_DISTANCE_TO_INTEGER})")
    error = np.abs(np.log1p(rounded / per_value) - normalized.data).max()
    if not error <= _MAX_REPRODUCTION_ERROR:
        _refuse(f"recovered counts miss the stored values by up to {error:.3g} (allowed: {_MAX_REPRODUCTION_ERROR:g})")
    counts = sp.csr_matrix((rounded, normalized.indices, normalized.indptr), shape=normalized.shape)
    counts.eliminate_zeros()
    depth = np.asarray(counts.sum(axis=1)).ravel()
    if depth.min() < 1 or (depth > library_size).any():
        _refuse("the recovered counts of some cells are none, or exceed their library size")
    return counts


def _refuse(reason: str) -> NoReturn:
    msg = (
        f"The raw counts cannot be recovered from scanpy.datasets.pbmc68k_reduced() of scanpy {version('scanpy')}: "
        f"{reason}. The file differs from the one in scanpy 1.11 and 1.12. Install one of these "
        "(pip install 'scanpy<1.13'), or use scbetavae.datasets.simulate_counts()."
    )
    raise RuntimeError(msg)
