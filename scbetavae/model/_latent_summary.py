"""One row per latent dimension: how much it carries, and what the counts lose without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS

from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata
from scbetavae._core.columns import obs_of
from scbetavae._core.constants import ACTIVE_KL, GUIDED_KEY

from ._cells import resolve_rows
from ._decoding import evaluating
from ._latent import Latent, cells_of, compute_latent, describing, random_state_kept
from ._latent_summary_collapse import collapse_status, describe_collapse, n_used, read_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._betavae import BetaVAE

_CONSTANT = 1e-6
"""Standard deviation below which a dimension is constant but for rounding."""


def get_latent_summary(
    self: BetaVAE,
    *,
    adata: AnnData | None = None,
    indices: Sequence[int] | None = None,
    batch_size: int | None = None,
    key_added: str = keys.LATENT_SUMMARY,
) -> pd.DataFrame:
    r"""Summarize every latent dimension: how much it carries and what the counts lose without it.

    A dimension carries its KL divergence :math:`\mathrm{KL}(q(z_d \mid x) \,\|\, p(z_d))`; it is active if the mean over cells is
    above 0.01 nats. Its worth is measured on held-out cells: the dimension is set to the prior mean, the others keep their
    posterior means :math:`m_i`, and the loss is

    .. math:: \log p(x_i \mid m_i) - \log p(x_i \mid m_i^{(d)})

    Parameters
    ----------
    adata
        Cells; those of the model unless given. Not a view.
    indices
        Cells on which the loss is measured, positions, names or a boolean mask: by default the cells that were held out in
        training if the model has any and ``adata`` is its own, otherwise all.
    batch_size, key_added
        Cells in a minibatch, which change the numbers by rounding alone; name of the result in ``.uns["betavae"]``.

    Returns
    -------
    DataFrame with one row per dimension, with ``latent_distribution="ln"`` of the normal variable behind the simplex:

    ``dimension``, ``kl``
        Number from 0; KL divergence from the prior, mean over all cells, in nats.
    ``sd_of_means``, ``mean_posterior_sd``
        Standard deviation of the posterior means over all cells, about 1 for a dimension that is used in full; mean of the
        posterior's standard deviation, 1 for a dimension that is not used.
    ``active``
        Whether ``kl`` is above 0.01 nats and the means vary, see :func:`scbetavae.metrics.active_dimensions`.
    ``reconstruction_lost``, ``reconstruction_lost_se``
        Nats per cell lost when the dimension is set to the prior mean, mean over the cells on which it is measured and its
        standard error (NaN for one cell). Below 0 where held-out cells are explained better without the dimension.
    ``deviance_explained``
        The same as a share of what is lost when all dimensions are set to the prior mean. Shares of dimensions that explain the
        same counts do not add up to 1. NaN for a model whose dimensions explain nothing.
    ``order``
        1 for the dimension that loses most.
    ``stability``
        How well the component that the dimension was anchored to is found again in resampled cells, in [0, 1], or NaN.
    ``anchor_correlation``
        Pearson correlation of the posterior means with that component over all cells, within batches for a batch-conditioned
        decoder: near 1 where training kept the place and sign of the dimension. NaN without a component or for constant means.
    ``anchor``
        Start of the dimension: ``"independent component"``, ``"program"``, ``""``, or
        ``"two-level factor shared by all classes"``, a candidate for batch or condition that is found without labels.

    Written to ``adata.uns["betavae"]``: what is returned, and under ``f"{key_added}_params"`` a flat dict: ``collapse_status``
    (``"none"``, ``"usual"``, ``"collapsed"`` for more than half of the dimensions inactive, ``"too early"`` or
    ``"training unknown"``); ``collapse``, a sentence about inactive dimensions, empty if there are none; ``measured_on``
    (``"validation"``, ``"all"`` or ``"given"``), the cells on which the loss was measured, and ``n_measured``, their number;
    ``nll``, their negative log-likelihood at the posterior means, in nats per cell; and ``n_anchored``, the number of dimensions
    with a component.

    Raises
    ------
    ValueError, TypeError
        For a view, cells that do not exist, minified data without counts, and what is not an AnnData.

    See Also
    --------
    to_latent_adata : the summary together with the cells, for scanpy's plots. scbetavae.pl.latent_summary : plot of the result.

    References
    ----------
    :cite:p:`Higgins2017`

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=20, enable_progress_bar=False)
    >>> frame = model.get_latent_summary()
    >>> sorted(frame["order"])
    [1, 2, 3, 4]
    >>> adata.uns["betavae"]["latent_summary_params"]["measured_on"]
    'validation'
    """
    adata = _cells_to_summarize(self, adata, "get_latent_summary")
    check_adata(adata, key_added=key_added)
    latent = compute_latent(self, adata, normal=True, batch_size=batch_size)
    frame, parameters = _summarize(self, adata, latent, indices, batch_size)
    results.store(adata, key_added, {"": frame}, parameters, describing(self, latent))
    return frame.copy()


def to_latent_adata(
    self: BetaVAE, *, adata: AnnData | None = None, batch_size: int | None = None, key: str = keys.LATENT_SUMMARY
) -> AnnData:
    """Return cells x dimensions as an AnnData, so that every plot of scanpy works on dimensions.

    Parameters
    ----------
    adata, batch_size
        Cells, those of the model unless given, and cells in a minibatch. Nothing is written to ``adata``.
    key
        Name in ``.uns["betavae"]`` of the summary, see :meth:`get_latent_summary`. It is computed if it does not exist or belongs
        to another latent representation, for example that before a second training.

    Returns
    -------
    AnnData of shape (n_cells, n_latent). ``.X``: posterior means, as :meth:`get_latent_representation` returns them. ``.var``:
    the summary, with names ``dim_0``, ``dim_1`` and so on. ``.obs``, ``.obsm``: copies of those of ``adata``, without scvi-tools'
    own columns and entries. ``.uns``: colors of categories, and the summary with its parameters under ``"betavae"``.

    Raises
    ------
    ValueError, TypeError
        For minified data without counts whose summary was not computed before, and what is not an AnnData.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=5, enable_progress_bar=False)
    >>> latent = model.to_latent_adata()
    >>> latent.var_names.tolist(), "bulk_labels" in latent.obs
    (['dim_0', 'dim_1', 'dim_2', 'dim_3'], True)
    """
    adata = _cells_to_summarize(self, adata, "to_latent_adata")
    latent = compute_latent(self, adata, normal=True, batch_size=batch_size)
    frame, parameters = adata.uns.get(keys.UNS, {}).get(key), results.parameters(adata, key)
    is_summary = isinstance(frame, pd.DataFrame) and {"dimension", "reconstruction_lost"} <= set(frame)
    if (
        not is_summary
        or len(frame) != len(latent.names)
        or not np.allclose(frame["kl"], np.asarray(latent.kl), rtol=1e-3, atol=1e-6, equal_nan=True)
    ):
        frame, parameters = _summarize(self, adata, latent, None, batch_size)
    parameters.pop(keys.FINGERPRINT, None)  # the latent representation is .X here
    is_simplex = self.module.latent_distribution == "ln"
    own = (self._LATENT_QZM_KEY, self._LATENT_QZV_KEY)
    uns = {name: value for name, value in adata.uns.items() if name.endswith("_colors")}
    return AnnData(
        np.asarray(
            (compute_latent(self, adata, batch_size=batch_size) if is_simplex else latent).means, dtype=np.float32
        ),
        obs=obs_of(adata).drop(columns=[name for name in adata.obs if str(name).startswith("_scvi_")]),
        var=frame.set_index(pd.Index(_names(adata, latent))),
        obsm=cast("Any", {name: value.copy() for name, value in adata.obsm.items() if name not in own}),
        uns=uns | {keys.UNS: {key: frame.copy(), f"{key}{keys.PARAMS_SUFFIX}": parameters}},
    )


def _names(adata: AnnData, latent: Latent) -> list[str]:
    """Names of the dimensions in the data, if they were described, or those of the model."""
    table = adata.uns.get(keys.UNS, {}).get(keys.LATENT_TABLE)
    current = isinstance(table, pd.DataFrame) and len(table) == len(latent.names)
    if current and np.allclose(table["kl"], np.asarray(latent.kl), rtol=1e-3, atol=1e-6, equal_nan=True):
        return [str(name) for name in table["name"]]
    return list(latent.names)


def _cells_to_summarize(self: BetaVAE, adata: AnnData | None, method: str) -> AnnData:
    """The cells, of which there must be some."""
    self._check_if_trained(warn=False)
    adata = cells_of(self, adata, f"{method}(adata=...)")
    if not isinstance(adata, AnnData):
        msg = f"adata is a {type(adata).__name__}, not an AnnData. Leave it out for the cells of the model."
        raise TypeError(msg)
    if adata.n_obs == 0:
        msg = "adata has no cells, so there is nothing to summarize. Pass the cells whose latent representation to summarize."
        raise ValueError(msg)
    return adata


def _summarize(
    self: BetaVAE, adata: AnnData, latent: Latent, indices: Sequence[int] | None, batch_size: int | None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The summary and its parameters. Moves no global random state."""
    rows, measured_on = _cells_to_measure_on(self, adata, indices)
    with random_state_kept(self.device), torch.inference_mode():
        (lost, lost_of_all, nll), lost_se = _ablate(self, adata, rows, batch_size)
        stability, correlation = _describe_anchor(self, adata, latent.means, batch_size)
    kl, anchor = np.asarray(latent.kl), self.module.anchor
    order = np.empty(len(kl), dtype=np.int64)
    order[np.lexsort((-kl, -lost))] = np.arange(1, len(kl) + 1)
    frame = pd.DataFrame(
        {
            "dimension": np.arange(len(kl)),
            "kl": kl,
            "sd_of_means": latent.means.std(axis=0, dtype=np.float64),
            "mean_posterior_sd": np.sqrt(np.asarray(latent.variances)).mean(axis=0),
            "active": latent.active,
            "reconstruction_lost": lost,
            "reconstruction_lost_se": lost_se,
            "deviance_explained": lost / lost_of_all if lost_of_all > 0 else np.full(len(lost), np.nan),
            "order": order,
            "stability": stability,
            "anchor_correlation": correlation,
            "anchor": "" if anchor is None else anchor.target_names + [""] * (len(kl) - self.module.n_latent),
        }
    )
    run, used = read_run(self) if _was_trained_on(self, adata) else None, n_used(self)
    n_empty = int((kl[:used] <= ACTIVE_KL).sum())
    return frame, {
        "collapse_status": collapse_status(n_empty, used, run),
        "collapse": describe_collapse(n_empty, used, float(np.nansum(kl)), run),
        "measured_on": measured_on,
        "n_measured": len(rows),
        "nll": nll,
        "n_anchored": 0 if anchor is None else anchor.n_components,
    }


def _cells_to_measure_on(self: BetaVAE, adata: AnnData, indices: Sequence[int] | None) -> tuple[np.ndarray, str]:
    """Positions of the cells, and which they are."""
    if indices is not None:
        return resolve_rows(adata, indices, at_least_one=True), "given"
    held_out = getattr(self, "validation_indices_", None)
    if held_out is not None and len(held_out) and _was_trained_on(self, adata):
        return np.sort(np.asarray(held_out)), "validation"
    return np.arange(adata.n_obs), "all"


def _was_trained_on(self: BetaVAE, adata: AnnData) -> bool:
    """Whether these are the training cells: a model loaded with others still has the positions of its own."""
    split = [getattr(self, f"{part}_indices_", None) for part in ("train", "validation", "test")]
    return adata is self.adata and sum(len(part) for part in split if part is not None) == adata.n_obs


def _ablate(
    self: BetaVAE, adata: AnnData, rows: Any, batch_size: int | None
) -> tuple[tuple[np.ndarray, float, float], np.ndarray]:
    """Means over cells in nats: lost without each dimension, lost without all, loss itself; and standard errors of the first."""
    adata = self._validate_anndata(adata)
    manager: Any = self.get_anndata_manager(adata)
    counts = manager.get_from_registry(REGISTRY_KEYS.X_KEY)
    if REGISTRY_KEYS.MINIFY_TYPE_KEY in manager.data_registry and not counts.sum():
        msg = (
            "The data were minified and hold no counts, on which the loss is measured. Call get_latent_summary() before "
            'minify_adata(), or keep the counts: minify_adata("latent_posterior_parameters_with_counts").'
        )
        raise ValueError(msg)
    loader = self._make_data_loader(adata, indices=rows, batch_size=batch_size)
    with evaluating(self):
        losses = np.concatenate([self.module.ablation_losses(tensors).numpy() for tensors in loader], axis=1)
    lost = losses[:-2]
    n_cells = lost.shape[1]
    error = lost.std(axis=1, ddof=1) / np.sqrt(n_cells) if n_cells > 1 else np.full(len(lost), np.nan)
    return (lost.mean(axis=1), *losses[-2:].mean(axis=1).tolist()), error


def _describe_anchor(
    self: BetaVAE, adata: AnnData, means: np.ndarray, batch_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Stability of each dimension's component, and its correlation with the posterior means; NaN without a component."""
    anchor = self.module.anchor
    if anchor is None or anchor.n_components == 0:
        return np.full(means.shape[1], np.nan), np.full(means.shape[1], np.nan)
    adata = self._validate_anndata(adata)
    targets, groups = [], []
    for tensors in self._make_data_loader(adata, batch_size=batch_size):
        # A batch that is new to the model has no offset; centering within batches makes up for it.
        targets.append(anchor.targets(tensors[REGISTRY_KEYS.X_KEY].to(self.device), None).cpu().double().numpy())
        group = self.module.anchor_groups(*(tensors.get(key) for key in (REGISTRY_KEYS.BATCH_KEY, GUIDED_KEY)))
        groups.append(np.zeros(len(targets[-1])) if group is None else group.cpu().numpy())
    n_free = self.module.n_latent
    found = _pooled_correlation(means[:, :n_free], np.concatenate(targets), np.concatenate(groups))
    known = anchor.stability.cpu().double().numpy()
    correlation, stability = np.full((2, means.shape[1]), np.nan)
    correlation[:n_free] = np.where(anchor.target_kinds.cpu().numpy() > 0, found, np.nan)
    stability[:n_free] = np.where(known >= 0, known, np.nan)
    return stability, correlation


def _pooled_correlation(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Pearson correlation of columns after centering within groups; NaN for a column that is constant."""
    first, second = (
        array - pd.DataFrame(array).groupby(groups).transform("mean").to_numpy() for array in (first, second)
    )
    spread = np.minimum(first.std(axis=0), second.std(axis=0))
    varies = spread > _CONSTANT
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.where(varies, (first * second).sum(axis=0) / np.where(varies, scale, 1.0), np.nan)
