"""Class level: do single dimensions mark single classes? LMS, MSAS and MSGS of DRVI."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from scbetavae.metrics import _contingency
from scbetavae.metrics._checks import check_inputs, check_matrix
from scbetavae.metrics._contingency import Tables
from scbetavae.metrics._information import CodeBins, Estimator, label_cells
from scbetavae.metrics.disentanglement._mig import top_gap
from scbetavae.metrics.disentanglement._records import Score, register_score

CLASS_SCORES = ("lms", "msas", "msgs")
_SHARED: dict[str, Any] = {
    "level": "class",
    "per_covariate": True,
    "family": "class_alignment",
    "reference": "Moinfar2024",
}
register_score(Score("lms", "LMS (classes)", **_SHARED))
register_score(Score("msas", "MSAS (classes)", **_SHARED))
register_score(Score("msgs", "MSGS (classes)", **_SHARED))


@dataclass(frozen=True)
class ClassAlignment:
    """How single dimensions mark single classes."""

    lms: float
    """Latent matching score: mean similarity under the best one-to-one matching of dimensions and classes."""
    msas: float
    """Most similar averaging score: mean over classes of the best similarity."""
    msgs: float
    """Most similar gap score: mean over classes of best less second best; NaN with one dimension."""


def alignment_of_similarity(similarity: np.ndarray) -> np.ndarray:
    """LMS, MSAS, MSGS on the last axis, of similarities (..., n_dims, n_classes) without NaN."""
    *lead, n_dims, n_classes = similarity.shape
    if n_classes == 0 or n_dims == 0:
        return np.full((*lead, 3), 0.0 if n_classes else np.nan)
    best = similarity.max(axis=-2).mean(axis=-1)
    gap = top_gap(np.swapaxes(similarity, -1, -2)).mean(axis=-1)
    matched = np.empty(int(np.prod(lead, dtype=np.int64)))
    for i, matrix in enumerate(similarity.reshape(-1, n_dims, n_classes)):
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        matched[i] = matrix[rows, columns].sum() / n_classes
    return np.stack([matched.reshape(lead), best, gap], axis=-1)


def usable_classes(similarity: np.ndarray) -> np.ndarray:
    """Classes that count: not NaN, and only one of a pair, whose two one-against-rest problems are the same."""
    usable = np.asarray(~np.isnan(similarity.reshape(-1, similarity.shape[-1])).any(axis=0))
    if len(usable) == 2:
        usable[0] &= not usable[1]
    return usable


def class_alignment_from_similarity(similarity: ArrayLike) -> ClassAlignment:
    """LMS, MSAS and MSGS of a matrix of similarities :cite:p:`Moinfar2024`.

    ``similarity`` has shape (n_dims, n_classes), in [0, 1]; negative or non-finite entries raise a ValueError.

    Examples
    --------
    >>> result = class_alignment_from_similarity([[0.9, 0.1], [0.2, 0.7], [0.0, 0.6]])
    >>> round(result.lms, 3), round(result.msas, 3), round(result.msgs, 3)
    (0.8, 0.8, 0.4)
    """
    return ClassAlignment(*alignment_of_similarity(check_matrix(similarity, "similarity")).tolist())


def class_alignment(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    binning: str = "quantile",
    n_bins: int | None = None,
    correction: str | None = "miller_madow",
    active: ArrayLike | None = None,
) -> pd.DataFrame:
    """LMS, MSAS and MSGS of every covariate :cite:p:`Moinfar2024`.

    The similarity of a dimension j and a class c is their scaled mutual information, class against rest:
    :math:`I(z_j; 1[y = c]) / H(1[y = c])`. One dimension per cell type scores near 0 in `mig` of the cell type; here it
    scores 1. ``binning="width", n_bins=10, correction=None`` equals drvi. By default a covariate of two classes counts as one
    class against the other; with equal-width bins both count, as in drvi.

    Arguments and errors as in :func:`mig`, but equal-width bins are 10 by default. Returns a DataFrame indexed by covariate with
    columns ``lms``, ``msas``, ``msgs``, in [0, 1]; classes with one cell are left out. NaN for numeric covariates and where
    fewer than two classes have cells.

    Examples
    --------
    >>> label = np.arange(900) % 3
    >>> class_alignment(np.eye(3)[label], pd.DataFrame({"type": label.astype(str)})).loc["type", "lms"].round(3)
    np.float64(1.0)
    """
    estimator = Estimator(binning, 10 if binning == "width" and n_bins is None else n_bins, correction)
    inputs = check_inputs(codes, factors, active)
    binned = CodeBins(inputs.values, estimator)
    rows = np.full((len(inputs.covariates), 3), np.nan)
    for row, covariate in enumerate(inputs.covariates):
        cells = label_cells(binned, covariate)
        if cells.problem or cells.covariate.is_numeric:
            continue
        if not inputs.active.any():
            rows[row] = 0.0
            continue
        similarity = _contingency.class_information(Tables(cells.tables()), correct=correction is not None)[0]
        usable = ~np.isnan(similarity).any(axis=0) if binning == "width" else usable_classes(similarity)
        rows[row] = np.maximum(alignment_of_similarity(similarity[:, usable]), 0.0)
    return pd.DataFrame(rows, index=[c.name for c in inputs.covariates], columns=list(CLASS_SCORES))
