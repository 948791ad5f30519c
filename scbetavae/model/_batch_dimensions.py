"""Find the dimensions that carry batch, and set them to a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anndata import AnnData

from scbetavae import tl
from scbetavae._core import keys as _keys
from scbetavae.tl._batch_inputs import read_search
from scbetavae.tl._inputs import check_writable

from ._zeroing import ZeroingMixin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd


class BatchDimensionsMixin(ZeroingMixin):
    """Find the dimensions that carry batch, and set them to a constant."""

    def find_batch_dimensions(  # noqa: PLR0913 - independent choices, each with a default
        self,
        batch_key: str | None = None,
        *,
        conserve: str | Iterable[str] | None = None,
        categorical: str | Iterable[str] | None = None,
        adata: AnnData | None = None,
        obsm_key: str = _keys.LATENT,
        rule: str | Sequence[int] = "stepwise",
        n_permutations: int = 100,
        fdr: float = 0.05,
        seed: int = 0,
        key_added: str = _keys.BATCH_DIMENSIONS,
    ) -> pd.DataFrame:
        """Find the latent dimensions that hold batch and can be zeroed: :func:`scbetavae.tl.find_batch_dimensions`.

        The posterior means are looked at. A dimension whose mean divergence from the prior is below 0.01 nats takes no part.

        Parameters
        ----------
        batch_key
            Column of ``.obs`` with the batch of every cell; ``None`` for the one given to :meth:`setup_anndata`.
        conserve
            Columns of ``.obs`` whose information must stay. ``None`` takes the ``labels_key`` given to
            :meth:`setup_anndata`; without one, or for an empty list, clusters of the latent space.
        categorical
            Conserved columns whose numbers are names of classes, beside those that :meth:`setup_anndata` was given as labels,
            batch or categorical covariate.
        adata
            Cells to look at; those of the model unless given.
        obsm_key
            Entry of ``.obsm`` that receives the posterior means, so that what was looked at can be seen.
        rule, n_permutations, fdr, seed, key_added
            As in :func:`scbetavae.tl.find_batch_dimensions`, which also says what is written to ``.uns["betavae"]``.

        Returns
        -------
        DataFrame, a row a dimension, see :func:`scbetavae.tl.find_batch_dimensions`; ``frame.attrs["summary"]`` is the result
        in words. That no dimension can be given up is a result.

        Raises
        ------
        KeyError, ValueError, TypeError
            As :func:`scbetavae.tl.find_batch_dimensions`, before anything is computed or written.
        ValueError
            If no batch is known, the decoder is told this batch (``condition_on_batch=True``), or the model has collapsed.
        RuntimeError
            If the model is not trained.

        See Also
        --------
        zero_batch_dimensions : set them to a constant, with a report.
        scbetavae.pl.batch_dimensions : the picture.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=2, enable_progress_bar=False, accelerator="cpu")
        >>> frame = model.find_batch_dimensions()
        >>> len(frame), adata.uns["betavae"]["batch_dimensions_params"]["conserve"]
        (4, 'bulk_labels')
        """
        if adata is None and self.adata is None:
            msg = "The model was trained on a data module and holds no cells: find_batch_dimensions(batch_key, adata=...)."
            raise ValueError(msg)
        adata = self.adata if adata is None else adata
        check_writable(adata, key_added)
        setup = self.registry_["setup_args"]
        batch_key = self._batch_to_find(batch_key, setup.get("batch_key"))
        if conserve is None:
            conserve = setup.get("labels_key")
        choice = {"conserve": conserve, "rule": rule, "n_permutations": n_permutations, "fdr": fdr}
        told = {"categorical": categorical, "registered": self._registered_classes()}
        search = read_search(adata, batch_key, self.module.n_latent, **choice, **told)
        means, kl, _ = self._posterior(adata)
        # On a shell, so that a mistake that only the search finds leaves no trace.
        shell = AnnData(obs=adata.obs.assign(**search.conserved), obsm={obsm_key: means})
        if _keys.UNS in adata.uns:
            shell.uns[_keys.UNS] = adata.uns[_keys.UNS]
        frame = tl.find_batch_dimensions(
            shell, batch_key, categorical=[], obsm_key=obsm_key, kl=kl, seed=seed, key_added=key_added, **choice
        )
        adata.obsm[obsm_key] = means
        clusters = f"{key_added}{_keys.CLUSTERS_SUFFIX}"
        if clusters in shell.obs:
            adata.obs[clusters] = shell.obs[clusters]
        adata.uns[_keys.UNS] = shell.uns[_keys.UNS]
        return frame

    def _batch_to_find(self, batch_key: str | None, registered: str | None) -> str:
        """The batch that is asked for, if this model can hold it in its latent space.

        Raises
        ------
        ValueError
            If there is none, or the decoder is told it.
        """
        if batch_key is None and registered is None:
            msg = (
                "The model was set up without a batch: name a column of adata.obs, find_batch_dimensions(batch_key), "
                "or pass batch_key to setup_anndata."
            )
            raise ValueError(msg)
        if self.module.condition_on_batch and batch_key in (None, registered):
            msg = (
                f"This model was built with condition_on_batch=True: its decoder is told {registered!r}, so that no latent "
                "dimension needs to hold it, and zeroing what is left would cost biology. Train "
                "BetaVAE(adata, condition_on_batch=False) to have batch dimensions, or use this latent space as it is."
            )
            raise ValueError(msg)
        return registered if batch_key is None else batch_key
