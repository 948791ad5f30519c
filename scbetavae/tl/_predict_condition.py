"""Which dimensions of an embedding predict a covariate."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Unpack

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata, read_options
from scbetavae._core.columns import leave_out_small, scored_columns
from scbetavae._core.options import PREDICTION, Resampling
from scbetavae.tl._embedding import read
from scbetavae.tl._technical import read_technical

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData

_logger = logging.getLogger(__name__)


def predict_condition(
    adata: AnnData,
    covariate: str,
    *,
    obsm_key: str = keys.LATENT,
    donor_key: str | None = None,
    categorical: str | Iterable[str] | None = None,
    technical_covariates: str | Iterable[str] | None = None,
    layer: str | None = None,
    key_added: str = keys.CONDITION_PREDICTION,
    **options: Unpack[Resampling],
) -> pd.DataFrame:
    """Predict a covariate from single dimensions of an embedding, from all, and from technical covariates alone.

    Linear models, tested on cells or donors that they did not see, against permuted labels. The row of the technical covariates
    (library size, percent mitochondrial) says how well sequencing depth and dying cells alone predict it.

    Parameters
    ----------
    adata
        Annotated data with the embedding; not a view.
    covariate
        Column of ``.obs``: categorical, boolean, string or numeric. Cells without a label are left out.
    obsm_key
        Entry of ``.obsm``, of shape (n_cells, n_dims).
    donor_key
        Column of ``.obs`` with the donor (or other independent unit) of every cell. Whole donors are then held out and
        resampled; what is constant within donors is permuted between donors, anything else within them. Without it cells count
        as independent, which is too optimistic for anything that differs between donors.
    categorical
        The covariate again, if its numbers are names of classes. Other numbers are numbers, with a warning where they are
        whole and take at most 20 values; ``[]`` says that they are no classes.
    technical_covariates
        Columns of ``.obs`` with numbers; ``[]`` for none. By default the logarithm of the library size, from counts or else
        from a column such as ``total_counts``, and percent mitochondrial, from a column such as ``pct_counts_mt`` or else
        from the counts of genes named ``MT-...``, as far as they can be found.
    layer
        Layer with the counts; ``.X`` by default, if it holds counts.
    key_added
        Name in ``.uns["betavae"]`` of the result.
    **options
        ``n_permutations`` (200 by default) behind null and p-values, at least 0: no p-value is below 1 / (n_permutations + 1).
        ``n_bootstrap`` (100): replicates behind the intervals, at least 0. ``seed`` (0) of folds, permutations and bootstrap.

    Returns
    -------
    DataFrame, one row per dimension, one for all dimensions and one for the technical covariates, with the columns of
    :func:`scbetavae.metrics.condition_prediction`: accuracy with null, p-value, p-value corrected over dimensions (by the
    largest accuracy of any dimension in each permutation), interval, area under the ROC curve, accuracy beyond technical
    covariates, direction.

    Written to ``adata.uns["betavae"]``, all at once and only on success:

    ``key_added``
        What is returned.
    ``f"{key_added}_params"``
        What was predicted and how, a flat dict: ``covariate``, ``measure``, ``technical_covariates`` (names, joined by commas),
        ``n_missing`` (cells without a label), ``correction``, and the arguments.

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` or ``.layers`` or a column of ``.obs`` is not there, with the nearest that is.
    ValueError
        For a view, a covariate with one class, one donor only, an embedding or a technical covariate with values that are not
        finite, a cell without donor, or a layer without counts.
    TypeError
        If ``adata`` is no AnnData, or the embedding or a technical covariate holds no numbers.

    See Also
    --------
    test_dimensions : which dimensions differ between two levels on average over donors.
    score_disentanglement : whether *one* dimension encodes a covariate and nothing else.
    scbetavae.pl.condition_prediction : plot of the result.

    References
    ----------
    :cite:p:`WestfallYoung1993`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> z = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    >>> z[:, 2] += 4.0 * (adata.obs["batch"] == "batch_1")
    >>> adata.obsm["X_example"] = z
    >>> frame = scbetavae.tl.predict_condition(adata, "batch", obsm_key="X_example")
    >>> frame.loc[frame["p_adjusted"] < 0.05, ["predictor", "dimension", "direction"]].head(1).values.tolist()
    [['dimension', 2, 'batch_1']]
    >>> adata.uns["betavae"]["condition_prediction_params"]["technical_covariates"]
    'log library size, percent_mito'
    """
    settings = read_options(predict_condition, options, PREDICTION)
    check_adata(adata, key_added=key_added)
    if not isinstance(covariate, str):
        msg = f"covariate={covariate!r} is not the name of one column of adata.obs. Call this once for each covariate."
        raise TypeError(msg)
    labels = scored_columns(adata, [covariate], donor_key, categorical=categorical)[covariate]
    groups = None if donor_key is None else adata.obs[donor_key]
    embedding = read(adata, obsm_key)
    mask = embedding.free
    technical = read_technical(adata, technical_covariates, layer)
    kept, (note, is_possible) = leave_out_small(labels, "class")
    if is_possible:
        cells = (kept.notna() | labels.isna()).to_numpy()
        frame = metrics.condition_prediction(
            embedding.values[cells],
            labels[cells],
            groups=None if groups is None else groups[cells],
            technical_covariates=technical.to_numpy()[cells],
            active=mask,
            **settings,
        )
        if note:
            frame["flag"] = [f"{flag}; {note}" if flag else note for flag in frame["flag"]]
    else:
        frame = metrics.undefined_prediction(covariate, mask, int(labels.notna().sum()), labels.nunique(), note)
        _logger.warning("Prediction of %r is %s.", covariate, note)
    if not mask.any():
        _logger.warning("No dimension of adata.obsm[%r] is active, so none can predict %r.", obsm_key, covariate)
    is_numeric = int(frame["n_classes"].iloc[0]) == 0
    parameters = {
        "covariate": covariate,
        "obsm_key": obsm_key,
        "donor_key": donor_key,
        "layer": layer,
        "technical_covariates": ", ".join(technical.columns),
        "measure": "signed squared correlation" if is_numeric else "balanced accuracy, corrected for chance",
        "correction": "largest accuracy over dimensions in each permutation (Westfall and Young)",
        "status": "predicted" if is_possible else "not possible",
        "n_missing": int(labels.isna().sum()),
        **settings,
    }
    results.store(adata, key_added, {"": frame}, parameters, {obsm_key: embedding.values})
    return frame.copy()
