"""Predict a covariate from latent dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbetavae import tl
from scbetavae._core import keys as _keys
from scbetavae._core.checks import as_list, check_adata
from scbetavae._core.columns import scored_columns
from scbetavae._core.staging import staged

from ._arguments import COUNT_LIKELIHOODS
from ._find_batch_dimensions import class_overrides
from ._latent import compute_latent, registered_classes

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData


class ConditionPredictionMixin:
    """Which latent dimensions of a model predict a covariate."""

    def predict_condition(  # noqa: PLR0913 - independent choices, each with a default
        self,
        covariate: str,
        *,
        adata: AnnData | None = None,
        obsm_key: str = _keys.LATENT,
        donor_key: str | None = None,
        categorical: str | Iterable[str] | None = None,
        technical_covariates: str | Iterable[str] | None = None,
        n_permutations: int = 200,
        n_bootstrap: int = 100,
        seed: int = 0,
        key_added: str = _keys.CONDITION_PREDICTION,
    ) -> pd.DataFrame:
        """Predict a covariate from single latent dimensions, and from all: :func:`scbetavae.tl.predict_condition`.

        The posterior means predict. A dimension whose mean divergence from the prior is below 0.01 nats does not take part,
        however well its tiny means tell the classes apart. Library sizes are those of the counts that the model reads.

        Parameters
        ----------
        covariate
            Column of ``.obs``: categorical, boolean, string or numeric.
        adata
            Cells to predict; those of the model unless given.
        obsm_key
            Entry of ``.obsm`` that receives the posterior means, so that what predicted can be looked at.
        categorical
            The covariate again, if its numbers are names of classes. Those that :meth:`setup_anndata` was given as labels, batch
            or categorical covariate always are.
        donor_key, technical, n_permutations, n_bootstrap, seed, key_added
            As in :func:`scbetavae.tl.predict_condition`, which also says what is written to ``.uns["betavae"]``.

        Returns
        -------
        DataFrame, a row a dimension, one for all dimensions and one for the technical covariates, see
        :func:`scbetavae.tl.predict_condition`.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :func:`scbetavae.tl.predict_condition`, before anything is computed or written.
        RuntimeError
            If the model is not trained.

        See Also
        --------
        score_disentanglement : whether one dimension holds a covariate and nothing else.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata)
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=2, enable_progress_bar=False, accelerator="cpu")
        >>> frame = model.predict_condition("bulk_labels")
        >>> frame["predictor"].tolist()
        ['dimension', 'dimension', 'dimension', 'dimension', 'all', 'technical']
        """
        adata = self._cells_to_score(adata)
        check_adata(adata, key_added=key_added)
        if isinstance(covariate, str):  # anything else is refused below, before anything is written
            scored_columns(adata, [covariate], donor_key, categorical=categorical, registered=registered_classes(self))
        technical = tl.read_technical(adata, technical_covariates, self._layer_of_counts(adata))
        latent = compute_latent(self, adata)
        overrides = class_overrides(self, adata, as_list(covariate))
        with staged(adata, obs={**technical, **overrides}) as copy:
            latent.write(copy, obsm_key)
            return tl.predict_condition(
                copy,
                covariate,
                obsm_key=obsm_key,
                donor_key=donor_key,
                categorical=as_list(categorical),
                technical_covariates=list(technical),
                n_permutations=n_permutations,
                n_bootstrap=n_bootstrap,
                seed=seed,
                key_added=key_added,
            )

    def _layer_of_counts(self, adata: AnnData) -> str | None:
        """Layer of the counts that the model reads, if it reads counts from a layer that is there."""
        layer = self.registry_.get("setup_args", {}).get("layer")
        return layer if layer in adata.layers and self.module.gene_likelihood in COUNT_LIKELIHOODS else None
