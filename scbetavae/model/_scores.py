"""Scores of the latent space of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scbetavae import tl
from scbetavae._core import keys as _keys
from scbetavae._core.checks import as_list, check_adata
from scbetavae._core.columns import class_columns, scored_columns
from scbetavae._core.staging import staged

from ._find_batch_dimensions import class_overrides
from ._latent import compute_latent, registered_classes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData


class ScoresMixin:
    """How the latent dimensions of a model line up with recorded covariates."""

    def score_disentanglement(  # noqa: PLR0913 - independent choices, each with a default
        self,
        covariates: str | Iterable[str],
        *,
        adata: AnnData | None = None,
        obsm_key: str = _keys.LATENT,
        donor_key: str | None = None,
        confounder: str | None = None,
        categorical: str | Iterable[str] | None = None,
        metrics: str | Iterable[str] | None = None,
        n_permutations: int = 100,
        n_bootstrap: int = 100,
        seed: int = 0,
        key_added: str = _keys.DISENTANGLEMENT,
    ) -> pd.DataFrame:
        """Score how the latent dimensions line up with covariates: :func:`scbetavae.tl.score_disentanglement`.

        The posterior means are scored. What the model knows beyond them is used: a dimension whose mean divergence
        from the prior is below 0.01 nats does not take part, however well its tiny means order the cells, and the posterior
        variances give the total correlation of samples beside that of means.

        Parameters
        ----------
        covariates
            Columns of ``.obs``, one or several.
        adata
            Cells to score; those of the model unless given.
        obsm_key
            Entry of ``.obsm`` that receives the posterior means, so that what was scored can be looked at.
        categorical
            Columns whose numbers are names of classes, beside those that :meth:`setup_anndata` was given as labels, batch or
            categorical covariate; see :func:`scbetavae.tl.score_disentanglement`.
        donor_key, confounder, metrics, n_permutations, n_bootstrap, seed, key_added
            As in :func:`scbetavae.tl.score_disentanglement`, which also says what is written to ``.uns["betavae"]``.

        Returns
        -------
        Tidy DataFrame, see :func:`scbetavae.tl.score_disentanglement`. With the default ``metrics`` the last two rows are the
        total correlation of posterior means and of samples, in nats. A model with ``latent_distribution="ln"`` is scored by
        the means of its simplex alone: dimensions take part by their spread, and total correlation has no row.

        Raises
        ------
        KeyError, ValueError
            As :func:`scbetavae.tl.score_disentanglement`, before anything is computed or written.
        RuntimeError
            If the model is not trained.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=2, enable_progress_bar=False, accelerator="cpu")
        >>> frame = model.score_disentanglement(["batch", "bulk_labels", "phase"], metrics=["mig", "sap"])
        >>> frame["covariate"].unique().tolist()
        ['batch', 'bulk_labels', 'phase', 'all']
        """
        adata = self._cells_to_score(adata)
        check_adata(adata, key_added=key_added)
        scored_columns(  # refuses what does not fit before the cells are encoded
            adata,
            as_list(covariates),
            donor_key,
            confounder,
            categorical=categorical,
            registered=registered_classes(self),
        )
        latent = compute_latent(self, adata)
        with staged(adata, obs=class_overrides(self, adata, [*as_list(covariates), *as_list(confounder)])) as copy:
            latent.write(copy, obsm_key)
            return tl.score_disentanglement(
                copy,
                covariates,
                obsm_key=obsm_key,
                donor_key=donor_key,
                confounder=confounder,
                categorical=as_list(categorical),
                metrics=metrics,
                n_permutations=n_permutations,
                n_bootstrap=n_bootstrap,
                seed=seed,
                key_added=key_added,
            )

    def _registered_classes(self) -> list[str]:
        """Columns that were set up as classes, whatever their type."""
        return class_columns(self.registry_.get("setup_args", {}))

    def _cells_to_score(self, adata: AnnData | None) -> AnnData:
        if adata is not None:
            return adata
        if self.adata is None:
            msg = "The model was trained on a data module and holds no cells: score_disentanglement(covariates, adata=...)."
            raise ValueError(msg)
        return self.adata

    def _describing(self, means: np.ndarray) -> dict[str, np.ndarray]:
        """Which embedding a result of these means of the normal posterior describes; a logistic normal's is another."""
        return {} if self.module.latent_distribution == "ln" else {_keys.LATENT: means}

    def _posterior(self, adata: AnnData) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Means (n_cells, n_latent), mean KL of each dimension in nats, variances (n_cells, n_latent)."""
        if self.module.latent_distribution == "ln":
            # Its codes are shares that sum to 1; posterior and prior belong to the normal variable behind them.
            return self.get_latent_representation(adata), None, None
        means, variances = self.get_latent_representation(adata, return_dist=True)
        means, variances = means.astype(np.float32), variances.astype(np.float64)
        with torch.inference_mode():
            posterior = torch.distributions.Normal(
                torch.as_tensor(means, dtype=torch.float64), torch.as_tensor(variances).sqrt(), validate_args=False
            )
            kl = self.module.kl_divergence(posterior).mean(dim=0).numpy()
        return means, kl, variances
