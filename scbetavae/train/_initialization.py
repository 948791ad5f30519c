r"""Start from the data: a decoder with the mean expression and the dispersion of every gene before its first step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from scvi import REGISTRY_KEYS

from scbetavae._core.constants import GUIDED_KEY

from ._components import SparseRows
from ._loading import MinibatchDataset

MOST_CELLS = 20_000  # for initialization and the anchor: all training cells up to this number, a random sample beyond

_PHI_RANGE = (1e-3, 1e3)
_LOG_THETA_RANGE = (-3.0, 4.0)
_SHRINKAGE_CELLS = 50.0
_NO_DROPOUT = -4.0


class TrainingCells(NamedTuple):
    """Training cells or a sample: counts (n_cells, n_genes), codes of batch and label, size factors and guided values if any."""

    counts: SparseRows
    batch: np.ndarray
    labels: np.ndarray
    size_factors: np.ndarray | None
    guided: np.ndarray | None


def training_cells(data: Any, loader: Iterable, most: int = MOST_CELLS) -> TrainingCells:
    """At most ``most`` training cells of a run, independent of the random state, which stays unchanged.

    For data that are not in memory, the first minibatches of the loader are the sample.
    """
    if getattr(data, "reads_directly", False):
        rows: Any = np.sort(data.train_idx)
        if len(rows) > most:
            rows = np.random.default_rng(0).choice(rows, most, replace=False)
        dataset = MinibatchDataset(data.adata_manager, rows, sparse_counts=True)
        return _in_canonical_order(_from_tensors(dataset[range(len(rows))]))
    blocks, n_cells = [], 0
    with torch.random.fork_rng(devices=[]):
        for batch in loader:
            blocks.append(_from_tensors(batch))
            n_cells += blocks[-1].counts.shape[0]
            if n_cells >= most:
                break
    counts: SparseRows = sparse.vstack([block.counts for block in blocks], format="csr")
    columns: Any = ([block[i] for block in blocks] for i in range(1, len(TrainingCells._fields)))
    columns = [None if any(part is None for part in parts) else np.concatenate(parts)[:most] for parts in columns]
    return _in_canonical_order(TrainingCells(counts[:most], *columns))


def _in_canonical_order(cells: TrainingCells) -> TrainingCells:
    """The same cells in an order given by their counts: decompositions start from random vectors over cells."""
    order = canonical_order(cells.counts)
    parts: Any = (None if part is None else part[order] for part in cells)
    return TrainingCells(*parts)


def canonical_order(counts: SparseRows) -> np.ndarray:
    """Order of cells by a fixed random projection of their counts, indices of shape ``(n_cells,)``."""
    return np.argsort(counts @ np.random.default_rng(0).random(counts.shape[1]), kind="stable")


def _from_tensors(batch: Any) -> TrainingCells:
    """Cells of a minibatch."""
    counts: Any = batch[REGISTRY_KEYS.X_KEY].cpu()
    if counts.layout == torch.sparse_csr:
        parts = (counts.values(), counts.col_indices(), counts.crow_indices())
        counts = sparse.csr_matrix(tuple(part.numpy() for part in parts), shape=tuple(counts.shape))
    else:
        counts = sparse.csr_matrix(counts.to_dense().numpy())

    def column(key: str) -> np.ndarray | None:
        return batch[key].cpu().numpy().reshape(-1) if batch.get(key) is not None else None

    codes = [column(key) for key in (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY)]
    zeros = np.zeros(counts.shape[0], dtype=np.int64)
    codes = [zeros if values is None else values.astype(np.int64) for values in codes]
    sizes = column(REGISTRY_KEYS.SIZE_FACTOR_KEY)
    guided = batch.get(GUIDED_KEY)
    guided = None if guided is None else guided.cpu().double().numpy()
    batch_codes, labels = codes
    return TrainingCells(counts, batch_codes, labels, None if sizes is None else sizes.astype(float), guided)


@torch.no_grad()
def initialize_decoder(module: Any, cells: TrainingCells) -> None:
    r"""Set the decoder's output bias to the log mean expression and the dispersion to its estimate by moments.

    .. math::
        \rho_g = \frac{\sum_i x_{ig} + 1/2}{\sum_{ig} x_{ig} + G / 2}, \quad b_g = \log \rho_g - \overline{\log \rho}, \quad
        \phi_g = \frac{\sum_i (x_{ig} - m_{ig})^2 - m_{ig}}{\sum_i m_{ig}^2}, \quad m_{ig} = \ell_i \rho_g

    and :math:`\log \theta_g = -\log \phi_g`, clipped to [-3, 4]. Dispersions of batches or labels are estimated in each and
    shrunk towards the overall value by the weight of 50 cells.
    """
    counts = cells.counts
    library = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    exposure = cells.size_factors if module.use_size_factor_key and cells.size_factors is not None else library
    total = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
    output = module.decoder.px_scale_decoder[0]
    if module.use_size_factor_key:  # softplus in place of softmax: expected counts at a size factor of 1
        rho = (total + 0.5) / (exposure.sum() + 0.5)
        bias = rho + np.log(-np.expm1(-rho))
    else:
        rho = (total + 0.5) / (total.sum() + 0.5 * len(total))
        bias = np.log(rho) - np.log(rho).mean()
    _fill(output.bias, bias)
    if module.gene_likelihood == "zinb":  # as good as no dropout: the mean is then that of the counts
        _fill(module.decoder.px_dropout_decoder.bias, np.full(len(rho), _NO_DROPOUT))
    if module.gene_likelihood == "poisson":
        return
    estimate = _log_sd if module.gene_likelihood == "normal" else _log_theta
    overall = estimate(counts, exposure, rho)
    if module.dispersion == "gene-cell":
        _fill(module.decoder.px_r_decoder.bias, overall)
    elif module.dispersion == "gene":
        _fill(module.px_r, overall)
    else:
        groups = cells.batch if module.dispersion == "gene-batch" else cells.labels
        _fill(module.px_r, _by_group(estimate, counts, exposure, rho, groups, module.px_r.shape[1], overall))


def _fill(parameter: torch.nn.Parameter, values: np.ndarray) -> None:
    """Set a parameter."""
    parameter.copy_(torch.as_tensor(values, dtype=parameter.dtype))


def _residuals(counts: SparseRows, exposure: np.ndarray, rho: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sums over cells of squared residuals, of the mean and of its square, for each gene."""
    values = counts.data.astype(np.float64)
    crossed = np.bincount(counts.indices, values * np.repeat(exposure, np.diff(counts.indptr)), len(rho))
    squares = np.bincount(counts.indices, np.square(values, out=values), len(rho))
    mean_squares = rho**2 * np.square(exposure).sum()
    return squares - 2 * rho * crossed + mean_squares, rho * exposure.sum(), mean_squares


def _log_theta(counts: SparseRows, exposure: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Log inverse dispersion of each gene, by moments."""
    residuals, means, mean_squares = _residuals(counts, exposure, rho)
    phi = np.clip((residuals - means) / np.maximum(mean_squares, np.finfo(float).tiny), *_PHI_RANGE)
    return np.clip(-np.log(phi), *_LOG_THETA_RANGE)


def _log_sd(counts: SparseRows, exposure: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Log standard deviation of each gene."""
    residuals, _, _ = _residuals(counts, exposure, rho)
    return 0.5 * np.log(np.maximum(residuals / counts.shape[0], _PHI_RANGE[0]))


def _by_group(estimate, counts, exposure, rho, groups, n_groups, overall):
    """Estimates of each group (n_genes, n_groups), shrunk towards the overall one."""
    values = np.repeat(overall[:, None], n_groups, axis=1)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        own = estimate(counts[rows], exposure[rows], rho)
        weight = len(rows) / (len(rows) + _SHRINKAGE_CELLS)
        values[:, group] = weight * own + (1 - weight) * overall
    return values
