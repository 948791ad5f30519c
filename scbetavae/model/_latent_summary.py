"""What each latent dimension carries."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae._core.checks import check_adata
from scbetavae._core.constants import ACTIVE_KL

from ._cells import resolve_rows
from ._latent_summary_anchor import describe_anchor
from ._latent_summary_collapse import PosteriorCollapseWarning, describe_collapse, is_severe, read_run

_COLUMNS = (
    "dimension",
    "kl",
    "sd_of_means",
    "mean_posterior_sd",
    "active",
    "reconstruction_lost",
    "reconstruction_lost_se",
    "order",
    "stability",
    "anchor_correlation",
)


class LatentSummaryMixin:
    """What each latent dimension carries."""

    minibatches_per_epoch_: int | None = None
    """Minibatches in an epoch of the last training."""

    def get_latent_summary(
        self,
        *,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int | None = None,
        key_added: str = _keys.LATENT_SUMMARY,
    ) -> pd.DataFrame:
        r"""Say of every latent dimension how much it carries and what the counts lose without it.

        The divergence :math:`\mathrm{KL}(q(z_d \mid x) \,\|\, p(z_d))` is what a dimension carries; a dimension is active if
        its mean over cells is above 0.01 nats. What it is worth is measured on held-out cells: the dimension is set to the
        prior mean, the others keep their posterior means :math:`m_i`, and the loss is

        .. math:: \log p(x_i \mid m_i) - \log p(x_i \mid m_i^{(d)})

        Parameters
        ----------
        adata
            Cells; those of the model unless given. Not a view.
        indices
            Cells on which the loss is measured, positions, names or a boolean mask: the cells that were held out in
            training if the model has any and ``adata`` is its own, otherwise all.
        batch_size
            Cells in a minibatch; changes the numbers by rounding alone.
        key_added
            Name in ``.uns["betavae"]`` of the result.

        Returns
        -------
        DataFrame, a row a dimension:

        ``dimension``
            Counted from 0.
        ``kl``
            Divergence from the prior, mean over all cells, in nats.
        ``sd_of_means``
            Standard deviation of the posterior means over all cells; about 1 for a dimension that is used in full.
        ``mean_posterior_sd``
            Mean of the posterior's standard deviation; 1 for a dimension that is not used.
        ``active``
            Whether ``kl`` is above 0.01 nats.
        ``reconstruction_lost``
            Nats per cell lost when the dimension is set to the prior mean, mean over the cells on which it is measured.
            It can be below 0: held-out cells are then explained better without the dimension.
        ``reconstruction_lost_se``
            Its standard error over these cells, NaN for a single one.
        ``order``
            1 for the dimension that loses most.
        ``stability``
            How well the component that the dimension was anchored to is found again in resampled cells, in [0, 1]; NaN for a
            dimension without a component.
        ``anchor_correlation``
            Pearson correlation of the posterior means with that component over all cells, within batches for a
            batch-conditioned decoder: near 1 where training kept the dimension's place and sign, below 0 where it turned the
            sign. NaN without a component, or where the means are constant.
        ``anchor``
            What the dimension started from: ``"independent component"``, ``"program"``, ``"two-level factor shared by all
            classes"``, a candidate for batch or condition that no label was needed for, or ``""`` for nothing.

        With ``latent_distribution="ln"`` all of it is about the normal variable behind the simplex.

        ``frame.attrs["collapse"]`` is a sentence about empty dimensions, ``""`` if there are none. Written to
        ``adata.uns["betavae"]``: what is returned, and under ``f"{key_added}_params"`` a flat dict with that sentence
        (``collapse``), the cells on which the loss was measured (``measured_on``: ``"validation"``, ``"all"`` or
        ``"given"``), their number (``n_measured``) and the number of dimensions with a component (``n_anchored``).

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            For a view, cells that are not there, or minified data without counts.
        TypeError
            If ``adata`` is no AnnData.

        See Also
        --------
        to_latent_adata : the summary beside the cells, for scanpy's plots.
        scbetavae.pl.latent_summary : the picture.

        References
        ----------
        :cite:p:`Higgins2017`

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=20, enable_progress_bar=False, accelerator="cpu")
        >>> frame = model.get_latent_summary()
        >>> sorted(frame["order"])
        [1, 2, 3, 4]
        >>> adata.uns["betavae"]["latent_summary_params"]["measured_on"]
        'validation'
        """
        adata = self._cells_to_summarize(adata, "get_latent_summary")
        check_adata(adata, key_added=key_added)
        frame, parameters, means = self._summarize(adata, indices, batch_size)
        _stored.store(adata, key_added, {"": frame}, parameters, self._describing(means))
        return frame.copy()

    def to_latent_adata(
        self, *, adata: AnnData | None = None, batch_size: int | None = None, key: str = _keys.LATENT_SUMMARY
    ) -> AnnData:
        """Return cells x dimensions as an AnnData, so that every plot of scanpy works on dimensions.

        Parameters
        ----------
        adata
            Cells; those of the model unless given. Nothing is written to it.
        batch_size
            Cells in a minibatch.
        key
            Name in ``.uns["betavae"]`` of the summary, see :meth:`get_latent_summary`. It is computed if it is not there or
            belongs to other codes, for example those before a second training.

        Returns
        -------
        AnnData of shape (n_cells, n_latent):

        ``.X``
            Posterior means, as :meth:`get_latent_representation` returns them.
        ``.var``
            The summary, with names ``dim_0``, ``dim_1`` and so on.
        ``.obs``, ``.obsm``
            Copies of those of ``adata``, without scvi-tools' own columns and entries.
        ``.uns``
            Colors of categories, and the summary with its parameters under ``"betavae"``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            For minified data without counts whose summary was not computed before.
        TypeError
            If ``adata`` is no AnnData.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=5, enable_progress_bar=False, accelerator="cpu")
        >>> latent = model.to_latent_adata()
        >>> latent.var_names.tolist(), "bulk_labels" in latent.obs
        (['dim_0', 'dim_1', 'dim_2', 'dim_3'], True)
        """
        adata = self._cells_to_summarize(adata, "to_latent_adata")
        frame, parameters = adata.uns.get(_keys.UNS, {}).get(key), _stored.parameters(adata, key)
        if not self._describes(frame, adata, batch_size):  # asked of the model itself, whatever .obsm holds
            frame, parameters, _ = self._summarize(adata, None, batch_size)
        parameters.pop(_keys.FINGERPRINT, None)  # the codes are .X here
        with _random_state_kept(self.device):
            codes = self.get_latent_representation(adata, batch_size=batch_size)
        names = pd.Index([f"dim_{d}" for d in frame["dimension"]])
        own = (self._LATENT_QZM_KEY, self._LATENT_QZV_KEY)
        uns = {name: value for name, value in adata.uns.items() if name.endswith("_colors")}
        return AnnData(
            np.asarray(codes, dtype=np.float32),
            obs=adata.obs.drop(columns=[name for name in adata.obs if str(name).startswith("_scvi_")]),
            var=frame.set_index(names),
            obsm={name: value.copy() for name, value in adata.obsm.items() if name not in own},
            uns=uns | {_keys.UNS: {key: frame.copy(), f"{key}{_keys.PARAMS_SUFFIX}": parameters}},
        )

    def _cells_to_summarize(self, adata: AnnData | None, method: str) -> AnnData:
        self._check_if_trained(warn=False)
        adata = self.adata if adata is None else adata
        if adata is None:
            msg = f"The model was trained on a data module and holds no cells: {method}(adata=...)."
            raise ValueError(msg)
        if not isinstance(adata, AnnData):
            msg = f"adata is a {type(adata).__name__}, not an AnnData. Leave it out for the cells of the model."
            raise TypeError(msg)
        if adata.n_obs == 0:
            msg = "adata holds no cells, so there is nothing to summarize. Give the cells whose codes you want to know."
            raise ValueError(msg)
        return adata

    def _summarize(
        self, adata: AnnData, indices: Sequence[int] | None, batch_size: int | None
    ) -> tuple[pd.DataFrame, dict[str, Any], np.ndarray]:
        """The summary, its parameters, and posterior means (n_cells, n_latent). Draws no random number that anyone notices."""
        rows, measured_on = self._cells_to_measure_on(adata, indices)
        with _random_state_kept(self.device), torch.inference_mode():
            means, sds, kl = self._moments(adata, batch_size)
            lost, lost_se = self._ablate(adata, rows, batch_size)
            stability, correlation = describe_anchor(self, adata, means, batch_size)
        n_dims = len(kl)
        order = np.empty(n_dims, dtype=np.int64)
        order[np.lexsort((-kl, -lost))] = np.arange(1, n_dims + 1)
        columns = (np.arange(n_dims), kl, means.std(axis=0), sds.mean(axis=0), kl > ACTIVE_KL, lost, lost_se, order)
        columns += (stability, correlation)
        frame = pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))
        frame["anchor"] = "" if self.module.anchor is None else self.module.anchor.target_names
        run = read_run(self) if self._was_trained_on(adata) else None
        used = self._n_used()
        collapse = describe_collapse(int((kl[:used] <= ACTIVE_KL).sum()), used, float(kl.sum()), run)
        frame.attrs["collapse"] = collapse
        parameters = {"collapse": collapse, "measured_on": measured_on, "n_measured": len(rows)}
        return (
            frame,
            parameters | {"n_anchored": 0 if self.module.anchor is None else self.module.anchor.n_components},
            means,
        )

    def _cells_to_measure_on(self, adata: AnnData, indices: Sequence[int] | None) -> tuple[np.ndarray, str]:
        if indices is None:
            held_out = getattr(self, "validation_indices_", None)
            if held_out is not None and len(held_out) and self._was_trained_on(adata):
                return np.sort(np.asarray(held_out)), "validation"
            return np.arange(adata.n_obs), "all"
        return resolve_rows(adata, indices, at_least_one=True), "given"

    def _was_trained_on(self, adata: AnnData) -> bool:
        """Whether these are the training cells: a model loaded with others still has the positions of its own."""
        split = [getattr(self, f"{part}_indices_", None) for part in ("train", "validation", "test")]
        return adata is self.adata and sum(len(part) for part in split if part is not None) == adata.n_obs

    def _moments(self, adata: AnnData, batch_size: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Posterior means and standard deviations (n_cells, n_latent), and mean KL of each dimension in nats."""
        means, variances = self.get_latent_representation(adata, batch_size=batch_size, return_dist=True)
        means, sds = means.astype(np.float64), np.sqrt(variances.astype(np.float64))
        broken = np.flatnonzero(~np.isfinite(means + sds).all(axis=1))
        if len(broken):
            msg = (
                f"The codes of {len(broken)} cells are not finite, the first {adata.obs_names[broken[0]]!r}: training "
                'diverged. Train again with a smaller learning rate, plan_kwargs={"lr": 1e-4}.'
            )
            raise ValueError(msg)
        posterior = torch.distributions.Normal(torch.from_numpy(means), torch.from_numpy(sds), validate_args=False)
        return means, sds, self.module.kl_divergence(posterior).mean(dim=0).numpy()

    def _ablate(self, adata: AnnData, rows: np.ndarray, batch_size: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean over cells of what each dimension's ablation loses, and its standard error, in nats."""
        adata = self._validate_anndata(adata)
        counts = self.get_anndata_manager(adata).get_from_registry(REGISTRY_KEYS.X_KEY)
        if REGISTRY_KEYS.MINIFY_TYPE_KEY in self.get_anndata_manager(adata).data_registry and not counts.sum():
            msg = (
                "The data were minified and hold no counts, on which the loss is measured. Call get_latent_summary() before "
                'minify_adata(), or keep the counts: minify_adata("latent_posterior_parameters_with_counts").'
            )
            raise ValueError(msg)
        was_training = self.module.training
        self.module.eval()
        try:
            loader = self._make_data_loader(adata, indices=rows, batch_size=batch_size)
            lost = np.concatenate([self.module.ablation_losses(tensors).numpy() for tensors in loader], axis=1)
        finally:
            self.module.train(was_training)
        n_cells = lost.shape[1]
        error = lost.std(axis=1, ddof=1) / np.sqrt(n_cells) if n_cells > 1 else np.full(len(lost), np.nan)
        return lost.mean(axis=1), error

    def _describes(self, frame: Any, adata: AnnData, batch_size: int | None) -> bool:
        """Whether a stored summary is that of the codes as they are now."""
        if not isinstance(frame, pd.DataFrame) or not set(_COLUMNS) <= set(frame):
            return False
        with _random_state_kept(self.device), torch.inference_mode():
            kl = self._moments(adata, batch_size)[2]
        return len(kl) == len(frame) and np.allclose(frame["kl"], kl, rtol=1e-3, atol=1e-6)

    def _n_used(self) -> int:
        """Dimensions that were to be used: those with a component of the anchor, or all."""
        anchor = self.module.anchor
        return self.module.n_latent if anchor is None or not anchor.n_components else anchor.n_components

    def _warn_of_collapse(self) -> None:
        """Say once after training that most dimensions are empty, from what training has counted."""
        self.minibatches_per_epoch_ = getattr(self.trainer.lightning_module, "minibatches_per_epoch", None)
        counted = ("active_dimensions", "kl_train")
        if not all(name in self.history for name in counted):  # a logger of the user's keeps what it likes
            return
        last = {name: float(self.history[name].iloc[-1, 0]) for name in counted}
        n_dims, run = self._n_used(), read_run(self)
        n_empty = max(n_dims - int(last["active_dimensions"]), 0)
        if np.isfinite(last["kl_train"]) and is_severe(n_empty, n_dims, run):
            message = describe_collapse(n_empty, n_dims, last["kl_train"], run)
            warnings.warn(message, PosteriorCollapseWarning, stacklevel=3)


def _random_state_kept(device: torch.device) -> Any:
    """Context in which random numbers are drawn from a copy: torch's loaders draw a seed, scvi-tools a sample of the codes."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
