"""Set the dimensions that hold batch to a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from scbetavae import tl
from scbetavae._core import keys as _keys
from scbetavae.tl._inputs import check_writable
from scbetavae.tl._zeroing_inputs import check_dimensions, check_target, read_cells

from ._genes import gene_names, is_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable

MOLECULES = 10_000
"""Molecules of a cell in the corrected expression."""


class ZeroingMixin:
    """Set the dimensions that hold batch to a constant, with a report."""

    def zero_batch_dimensions(  # noqa: PLR0913 - independent choices, each with a default
        self,
        dimensions: int | Iterable[int] | None = None,
        *,
        batch_key: str | None = None,
        conserve: str | Iterable[str] | None = None,
        categorical: str | Iterable[str] | None = None,
        rule: str = "stepwise",
        to: str = "prior",
        reference_batch: str | None = None,
        donor_key: str | None = None,
        decode: bool | str = False,
        adata: AnnData | None = None,
        n_bootstrap: int = 200,
        seed: int = 0,
        key_added: str = _keys.ZEROED,
    ) -> np.ndarray:
        """Set the dimensions that hold batch to a constant, and write the report: :func:`scbetavae.tl.zero_batch_dimensions`.

        Posterior means are zeroed, not the model: it encodes as before, and what it is given decides what it decodes.

        Parameters
        ----------
        dimensions
            Dimensions to set to a constant, counted from 0; ``None`` for those that :meth:`find_batch_dimensions` chooses,
            which may be none.
        batch_key
            Column of ``.obs`` with the batch of every cell; ``None`` for the one given to :meth:`setup_anndata`.
        conserve
            Columns of ``.obs`` with what must stay. ``None`` takes the ``labels_key`` given to :meth:`setup_anndata`; without
            one, or for an empty list, clusters of the latent space.
        categorical
            Conserved columns whose numbers are names of classes, as in :meth:`find_batch_dimensions`.
        rule
            How :meth:`find_batch_dimensions` chooses: ``"stepwise"`` or ``"dominant"``. Unused with ``dimensions``.
        to
            What zeroed dimensions are set to: ``"prior"``, the mean of the prior; ``"reference"``, the mean over the cells of
            one batch; ``"mean"``, over all cells. The constant changes no distance between cells, but the decoder sees it:
            with ``"reference"`` corrected expression is that of a batch that exists.
        reference_batch
            That one batch.
        donor_key
            Column of ``.obs`` with the donor of every cell, for the classifiers and intervals of the report.
        decode
            Whether to write corrected expression, too: what the decoder expects of the zeroed codes, in molecules per
            10 000 of a cell (with ``size_factor_key``, at size factor 1). ``True`` writes ``.layers[f"betavae_{key_added}"]``;
            or the name of a layer. It takes the memory of this layer, float32.
        adata
            Cells to zero; those of the model unless given. Also query cells, after ``load_query_data``; they need two batches.
        n_bootstrap, seed, key_added
            As in :func:`scbetavae.tl.zero_batch_dimensions`, which also says what is written to ``.uns["betavae"]``.

        Returns
        -------
        Array of shape (n_cells, n_latent): posterior means with the dimensions set to a constant, also written to
        ``.obsm[f"X_betavae_{key_added}"]``. The posterior means as they are go to ``.obsm["X_betavae"]``. Where no dimension is
        chosen, both are equal, with a warning, and ``.uns["betavae"]["zeroed_params"]["summary"]`` says why.

        Raises
        ------
        KeyError, ValueError, TypeError
            As :func:`scbetavae.tl.zero_batch_dimensions`, before anything is computed or written.
        ValueError
            If no batch is known, the decoder is told this batch (``condition_on_batch=True``), the model has collapsed or has
            ``latent_distribution="ln"``, or ``decode`` names the layer that holds the counts.
        RuntimeError
            If the model is not trained.

        Warns
        -----
        UserWarning
            If nothing was zeroed, or zeroing took more than 5% of the accuracy for a conserved covariate, or batch accuracy below
            what the conserved covariates alone imply.

        See Also
        --------
        find_batch_dimensions : which dimensions hold batch.
        scbetavae.pl.zeroing : picture of the result.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=5, enable_progress_bar=False, accelerator="cpu")
        >>> import warnings
        >>> with warnings.catch_warnings(action="ignore"):  # of what zeroing costs a model that was hardly trained
        ...     zeroed = model.zero_batch_dimensions([1], to="reference", reference_batch="batch_1", decode=True)
        >>> zeroed.shape, adata.layers["betavae_zeroed"].shape
        ((700, 4), (700, 765))
        >>> list(adata.uns["betavae"]["zeroed"]["role"].unique())
        ['batch', 'conserved']
        """
        if adata is None and self.adata is None:
            msg = "The model was trained on a data module and holds no cells: zero_batch_dimensions(dimensions, adata=...)."
            raise ValueError(msg)
        adata = self.adata if adata is None else adata
        check_writable(adata, key_added)
        setup = self.registry_["setup_args"]
        batch_key = self._batch_to_find(batch_key, setup.get("batch_key"))
        if conserve is None:
            conserve = setup.get("labels_key")
        layer = self._layer_to_write(decode, key_added)
        self._check_can_zero()
        n_latent = self.module.n_latent
        if dimensions is not None:
            dimensions = check_dimensions(dimensions, np.ones(n_latent, dtype=bool))
        told = {"categorical": categorical, "registered": self._registered_classes()}
        cells = read_cells(adata, batch_key, n_latent, conserve=conserve, rule=rule, donor_key=donor_key, **told)
        check_target(to, reference_batch, cells.batch)

        means, kl, _ = self._posterior(adata)
        # On a shell, so that a mistake that only the search finds leaves no trace.
        shell = AnnData(obs=adata.obs.assign(**cells.conserved), obsm={_keys.LATENT: means})
        if _keys.UNS in adata.uns:
            shell.uns[_keys.UNS] = adata.uns[_keys.UNS]
        zeroed = tl.zero_batch_dimensions(
            shell,
            dimensions,
            batch_key,
            conserve=conserve,
            categorical=[],
            rule=rule,
            to=to,
            reference_batch=reference_batch,
            donor_key=donor_key,
            prior_mean=self._prior_mean(means),
            kl=kl,
            n_bootstrap=n_bootstrap,
            seed=seed,
            key_added=key_added,
        )
        if layer is not None:
            molecules = None if setup.get("size_factor_key") is not None else MOLECULES
            # The layer stands beside the counts of the user's data, whose genes may be in another order.
            genes = None if is_in_order(adata, gene_names(self.registry_)) else adata.var_names
            expression = self.decode(zeroed, library_size=molecules, adata=adata, gene_list=genes)
            shell.uns[_keys.UNS][f"{key_added}{_keys.PARAMS_SUFFIX}"]["layer"] = layer
            adata.layers[layer] = expression
        for name in shell.obs.columns.difference(adata.obs.columns):
            adata.obs[name] = shell.obs[name]
        for name in (_keys.LATENT, f"{_keys.LATENT}_{key_added}"):
            adata.obsm[name] = shell.obsm[name]
        adata.uns[_keys.UNS] = shell.uns[_keys.UNS]
        return zeroed

    def _layer_to_write(self, decode: bool | str, key_added: str) -> str | None:
        if isinstance(decode, bool):
            return f"betavae_{key_added}" if decode else None
        if not isinstance(decode, str) or not decode or "/" in decode:
            msg = f"decode={decode!r} is no name of a layer. Give True, False, or a name that is not empty and has no '/'."
            raise ValueError(msg)
        if decode == self.registry_["setup_args"].get("layer"):
            msg = f"decode={decode!r} is the layer that holds the counts, which would be lost. Give another name."
            raise ValueError(msg)
        return decode

    def _check_can_zero(self) -> None:
        if self.module.latent_distribution == "ln":
            msg = (
                'latent_distribution="ln" gives codes that are shares and sum to 1: set to a constant, a dimension changes what '
                'all others mean. Train with latent_distribution="normal" to zero dimensions.'
            )
            raise ValueError(msg)
        self._check_if_trained(warn=False)

    def _prior_mean(self, means: np.ndarray) -> np.ndarray:
        """Mean of the prior for each cell, (n_cells, n_latent)."""
        return np.zeros_like(means)
