"""How well clusters of an embedding agree with labels."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import finite_matrix
from scbetavae.metrics._checks import check_column

_STARTS: Any = 10


def kmeans_ari(codes: ArrayLike, labels: ArrayLike | pd.Series, *, seed: int = 0) -> float:
    r"""Adjusted Rand index of k-means clusters and labels :cite:p:`HubertArabie1985`.

    As many clusters as there are classes, found without the labels from ten starts (``seed``). With :math:`n_{ij}` the cells of
    class :math:`i` in cluster :math:`j`, :math:`a_i` and :math:`b_j` its margins and :math:`n` the cells,

    .. math:: \frac{\sum_{ij} \binom{n_{ij}}{2} - E}{\frac{1}{2}\left[\sum_i \binom{a_i}{2} + \sum_j \binom{b_j}{2}\right] - E},
        \qquad E = \sum_i \binom{a_i}{2} \sum_j \binom{b_j}{2} \Big/ \binom{n}{2}.

    ``codes`` has shape (n_cells, n_dims), dimensions as they are; other numbers of ``labels`` raise a ValueError. Numbers are
    names of classes, and cells without a label are left out. Returns 1 if clusters and classes are the same, 0 in the mean over
    random partitions, at least -0.5; NaN with fewer than two classes.

    Examples
    --------
    >>> labels = np.repeat(["B cell", "T cell"], 50)
    >>> kmeans_ari(np.random.default_rng(0).normal(size=(100, 2)) + 20 * (labels == "B cell")[:, None], labels)
    1.0
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    array = finite_matrix(codes, "codes")
    covariate = check_column(np.asarray(labels, dtype=object), len(array), "labels", classes=True)
    labeled = covariate.present
    truth = covariate.values[labeled]
    n_classes = len(np.unique(truth))
    if n_classes < 2:
        return float("nan")
    # An embedding that takes fewer values than there are classes has no more clusters than values.
    n_clusters = min(n_classes, len(np.unique(array[labeled], axis=0)))
    clusters = KMeans(n_clusters, n_init=_STARTS, random_state=seed).fit_predict(array[labeled])
    return float(adjusted_rand_score(truth, clusters))
