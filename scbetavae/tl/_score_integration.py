"""How well an embedding keeps cell types apart and mixes batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata, check_keys
from scbetavae._core.columns import class_texts, leave_out_small, obs_of
from scbetavae.tl._embedding import read

if TYPE_CHECKING:
    from anndata import AnnData


def score_integration(
    adata: AnnData,
    labels_key: str | None = None,
    batch_key: str | None = None,
    *,
    obsm_key: str = keys.LATENT,
    seed: int = 0,
    key_added: str = keys.INTEGRATION,
) -> pd.DataFrame:
    """Score how well an embedding as a whole keeps cell types apart and mixes batches.

    Unlike :func:`score_disentanglement` this asks nothing of single dimensions: rotations change no score.

    Parameters
    ----------
    adata
        Annotated data with the embedding; not a view.
    labels_key
        Column of ``.obs`` with the type of every cell; values are taken as categories.
    batch_key
        Column of ``.obs`` with the batch of every cell; values are taken as categories.
    obsm_key
        Entry of ``.obsm`` to score, of shape (n_cells, n_dims).
    seed
        Seed of clusters, folds and permutations.
    key_added
        Name in ``.uns["betavae"]`` of the result.

    Returns
    -------
    DataFrame, one row per (metric, covariate):

    ``metric``
        For the labels ``"kmeans_ari"``, the agreement of clusters with them, and ``"knn_accuracy"``, the balanced accuracy of
        the 15 nearest neighbors on held-out cells, corrected for chance. For the batch ``"knn_accuracy"``, 0 if
        neighbors do not predict it, and ``"ilisi"``, 1 if neighborhoods mix batches as random cells would.
    ``covariate``
        Name of the column.
    ``value``
        The score: 0 is chance and 1 the most for the first two, :func:`scbetavae.metrics.ilisi` says what for the third.
    ``n_cells``, ``n_classes``
        Cells with a label, and their classes, without those of fewer than 4 cells.
    ``flag``
        Why a score is not defined, or which classes are left out; empty otherwise.

    It is written to ``adata.uns["betavae"][key_added]``, and what was scored to ``f"{key_added}_params"``.

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` or a column of ``.obs`` is not there, with the nearest that is.
    ValueError
        For a view, an embedding with values that are not finite, neither labels nor batch, or columns of fractions.
    TypeError
        If ``adata`` is no AnnData, or the embedding holds no numbers.

    See Also
    --------
    scbetavae.metrics.kmeans_ari, scbetavae.metrics.knn_accuracy, scbetavae.metrics.ilisi

    References
    ----------
    :cite:p:`HubertArabie1985,Korsunsky2019`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> z = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    >>> z[:, 0] += 20.0 * (adata.obs["batch"] == "batch_1")
    >>> adata.obsm["X_example"] = z
    >>> frame = scbetavae.tl.score_integration(adata, batch_key="batch", obsm_key="X_example")
    >>> frame.set_index("metric")["value"].round(1).to_dict()
    {'knn_accuracy': 1.0, 'ilisi': 0.0}
    """
    check_adata(adata, key_added=key_added)
    chosen = {"labels_key": labels_key, "batch_key": batch_key}
    if labels_key is None and batch_key is None:
        msg = "labels_key and batch_key are both None: name a column of adata.obs for at least one of them."
        raise ValueError(msg)
    check_keys(chosen, adata.obs.columns, "adata.obs")
    embedding = read(adata, obsm_key)
    z = embedding.values[:, np.array(embedding.roles) == "free"]
    rows = []
    if labels_key is not None:
        labels, (note, _) = leave_out_small(class_texts(obs_of(adata)[labels_key], "labels_key"), "class")
        rows.append(_row("kmeans_ari", labels, note, metrics.kmeans_ari(z, labels, seed=seed)))
        rows.append(_row("knn_accuracy", labels, note, metrics.knn_accuracy(z, labels, seed=seed)))
    if batch_key is not None:
        batch, (note, _) = leave_out_small(class_texts(obs_of(adata)[batch_key], "batch_key"), "batch")
        if batch_key != labels_key:
            rows.append(_row("knn_accuracy", batch, note, metrics.knn_accuracy(z, batch, seed=seed)))
        rows.append(_row("ilisi", batch, note, metrics.ilisi(z, batch, seed=seed)))
    frame = pd.DataFrame(rows).astype({"value": np.float64, "n_cells": np.int64, "n_classes": np.int64})
    how = {"obsm_key": obsm_key, "seed": seed} | chosen
    results.store(adata, key_added, {"": frame}, how, {obsm_key: z})
    return frame.copy()


def _row(metric: str, column: pd.Series, note: str, value: float) -> dict[str, object]:
    """A row of the frame; ``note`` says which classes are too small."""
    n_cells, n_classes = int(column.notna().sum()), column.nunique()
    flag = note or ("" if np.isfinite(value) else f"not defined: {n_classes} classes in {n_cells} labeled cells")
    return {
        "metric": metric,
        "covariate": str(column.name),
        "value": value,
        "n_cells": n_cells,
        "n_classes": n_classes,
        "flag": flag,
    }
