"""Which dimensions of an embedding predict a covariate."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scbetavae import metrics
from scbetavae._core import columns
from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.tl import _inputs, _scoring, _technical

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike

_logger = logging.getLogger(__name__)


def predict_condition(  # noqa: PLR0913 - independent choices, each with a default
    adata: AnnData,
    covariate: str,
    *,
    obsm_key: str = _keys.LATENT,
    donor_key: str | None = None,
    categorical: str | Iterable[str] | None = None,
    technical_covariates: str | Iterable[str] | None = None,
    layer: str | None = None,
    n_permutations: int = 200,
    n_bootstrap: int = 100,
    active: ArrayLike | None = None,
    kl: ArrayLike | None = None,
    seed: int = 0,
    key_added: str = _keys.CONDITION_PREDICTION,
) -> pd.DataFrame:
    """Predict a covariate from single dimensions of an embedding, from all, and from technical covariates alone.

    Linear models, tested on cells or donors that they did not see, against permuted labels. The row of the technical covariates
    (library size, percent mitochondrial) says what sequencing depth and dying cells alone would tell.

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
        as independent, which flatters whatever donors differ in.
    categorical
        The covariate again, if its numbers are names of classes. Other numbers are numbers, with a warning where they are
        whole and take at most 20 values; ``[]`` says that they are no classes.
    technical_covariates
        Columns of ``.obs`` with numbers; ``[]`` for none. By default the logarithm of the library size, from counts or else
        from a column such as ``total_counts``, and percent mitochondrial, from a column such as ``pct_counts_mt`` or else
        from the counts of genes named ``MT-...``, as far as they can be found.
    layer
        Layer with the counts; ``.X`` by default, if it holds counts.
    n_permutations
        Permutations behind null and p-values, at least 0. No p-value is below 1 / (n_permutations + 1).
    n_bootstrap
        Bootstrap replicates behind the intervals, at least 0.
    active
        Boolean mask of the dimensions that take part, of shape (n_dims,); by default those that
        :func:`scbetavae.metrics.active_dimensions` finds.
    kl
        Mean divergence of the posterior from the prior per dimension, of shape (n_dims,), in nats: a dimension with less than
        0.01 nats does not take part. :meth:`scbetavae.model.BetaVAE.predict_condition` passes it.
    seed
        Seed of folds, permutations and bootstrap.
    key_added
        Name in ``.uns["betavae"]`` of the result.

    Returns
    -------
    DataFrame, a row a dimension, one for all dimensions and one for the technical covariates, with the columns of
    :func:`scbetavae.metrics.condition_prediction`: accuracy with null, p-value, p-value corrected over dimensions (by the
    largest accuracy of any dimension in each permutation), interval, area under the ROC curve, accuracy beyond technical
    covariates, direction.

    Written to ``adata.uns["betavae"]``, all at once and only if everything went well:

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
        For a view, a covariate with one class, one donor only, an embedding or a technical with values that are not finite, a
        cell without donor, a layer without counts, or both ``active`` and ``kl``.
    TypeError
        If ``adata`` is no AnnData, or the embedding or a technical holds no numbers.

    See Also
    --------
    score_disentanglement : whether *one* dimension holds a covariate and nothing else.
    scbetavae.pl.condition_prediction : the picture.

    References
    ----------
    :cite:p:`WestfallYoung1993`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> codes = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    >>> codes[:, 2] += 4.0 * (adata.obs["batch"] == "batch_1")
    >>> adata.obsm["X_example"] = codes
    >>> frame = scbetavae.tl.predict_condition(adata, "batch", obsm_key="X_example")
    >>> frame.loc[frame["p_adjusted"] < 0.05, ["predictor", "dimension", "direction"]].head(1).values.tolist()
    [['dimension', 2, 'batch_1']]
    >>> adata.uns["betavae"]["condition_prediction_params"]["technical"]
    'log library size, percent_mito'
    """
    _inputs.check_writable(adata, key_added)
    labels, groups = read_labels(adata, covariate, donor_key, categorical)
    codes = _inputs.read_embedding(adata, obsm_key)
    mask = _scoring.resolve_mask(codes, active, kl)
    aside = _technical.read_technical(adata, technical_covariates, layer)
    kept, told = columns.leave_out_small(labels, "class")
    if told.startswith("not possible"):
        frame = metrics.undefined_prediction(covariate, mask, int(labels.notna().sum()), labels.nunique(), told)
        _logger.warning("Prediction of %r is %s.", covariate, told)
    else:
        cells = (kept.notna() | labels.isna()).to_numpy()
        frame = metrics.condition_prediction(
            codes[cells],
            labels[cells],
            groups=None if groups is None else groups[cells],
            technical_covariates=aside.to_numpy()[cells],
            active=mask,
            n_permutations=n_permutations,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )
        if told:
            frame["flag"] = [f"{flag}; {told}" if flag else told for flag in frame["flag"]]
    if not mask.any():
        _logger.warning("No dimension of adata.obsm[%r] is active, so none can predict %r.", obsm_key, covariate)
    is_numeric = int(frame["n_classes"].iloc[0]) == 0
    parameters = {
        "covariate": covariate,
        "obsm_key": obsm_key,
        "donor_key": donor_key,
        "layer": layer,
        "technical": ", ".join(aside.columns),
        "measure": "signed squared correlation" if is_numeric else "balanced accuracy, corrected for chance",
        "correction": "largest accuracy over dimensions in each permutation (Westfall and Young)",
        "status": "not possible" if told.startswith("not possible") else "predicted",
        "n_missing": int(labels.isna().sum()),
        "n_permutations": n_permutations,
        "n_bootstrap": n_bootstrap,
        "seed": seed,
    }
    _stored.store(adata, key_added, {"": frame}, parameters, {obsm_key: codes})
    return frame.copy()


def read_labels(
    adata: AnnData,
    covariate: str,
    donor_key: str | None,
    categorical: str | Iterable[str] | None,
    registered: Iterable[str] = (),
) -> tuple[pd.Series, pd.Series | None]:
    """The covariate and the donors, refused with the nearest name or the classes that are there.

    Parameters
    ----------
    adata
        Annotated data.
    covariate
        One column of ``.obs``.
    donor_key
        Column with the donor of every cell.
    categorical, registered
        Columns that are classes, as in `read_factors`.

    Raises
    ------
    KeyError
        For a column that is not there, with the nearest that is.
    TypeError
        If the covariate is not one name, or holds dates, durations or complex numbers.
    ValueError
        If the covariate holds infinite values, or a cell has no group.
    """
    if not isinstance(covariate, str):
        msg = f"covariate={covariate!r} is not the name of one column of adata.obs. Call this once for each covariate."
        raise TypeError(msg)
    columns = _inputs.read_columns(adata, covariate, donor_key, categorical=categorical, registered=registered)
    labels = columns.factors[covariate]
    return labels, columns.groups
