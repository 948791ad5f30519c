"""From codes back to expression."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._decoding_inputs import DecoderConditions, DecodingInputsMixin, gene_positions, read_library_size
from ._traversal import TraversalMixin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData

_ROWS = 256
"""Rows decoded at once: on a processor, enough for a fast product and few enough for its cache."""
_VALUES_ON_DEVICE = 2**25
"""Values decoded at once on an accelerator, which wants more rows."""


class DecodingMixin(TraversalMixin, DecodingInputsMixin):
    """From codes back to expression."""

    def decode(
        self,
        z: Any,
        *,
        library_size: float | Sequence[float] | np.ndarray | None = None,
        batch: Any = None,
        covariates: Mapping[str, Any] | None = None,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        r"""Expression that the decoder expects of codes.

        .. math:: \rho_g = f_g(z, s), \qquad \sum_g \rho_g = 1

        with :math:`s` what the decoder is told beside the code: nothing by default, or the batch
        (``condition_on_batch=True``) and the covariates of :meth:`setup_anndata`. No random number is drawn: the codes of
        :meth:`get_normalized_expression` are draws from the posterior, those given here are taken as they are.

        Parameters
        ----------
        z
            Codes of shape ``(n_cells, n_latent)``, as :meth:`get_latent_representation` returns them, moved as you like.
        library_size
            ``None`` for shares of a cell's molecules, which sum to 1 over all genes; a number, or one of each row, for
            expected counts of cells of that many molecules. With ``size_factor_key``, the decoder's output has no fixed sum:
            ``None`` gives the expression at size factor 1, and this is the size factor.
        batch
            Name of the batch to decode as, or one of each row. Needs ``condition_on_batch=True``; goes before the batch
            that ``adata`` records.
        covariates
            Value of each covariate of :meth:`setup_anndata` that the decoder is told, by name: one, or one of each row. Goes
            before what ``adata`` records.
        adata
            Cells that the rows of ``z`` stand for, whose batches and covariates the decoder is told; with ``indices``
            alone, those of the model.
        indices
            Which cells of ``adata``, in the order of ``z``; ``None`` for all.
        gene_list
            Genes to return, in this order; ``None`` for all.
        batch_size
            Rows decoded at once; changes no number beyond rounding. ``None`` takes 256, or more on an accelerator.

        Returns
        -------
        Array of shape ``(n_cells, n_genes)``, float32, at least 0.

        Raises
        ------
        ValueError
            For codes, sizes or values of the wrong shape, a batch or category the model does not know, or a decoder that is
            told something which neither ``adata`` nor an argument says.
        KeyError
            For a gene or covariate that the model does not have, with the nearest that it has.
        RuntimeError
            If the model is not trained.

        See Also
        --------
        scvi.model.SCVI.get_normalized_expression : the same, averaged over draws from the posterior.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=2, enable_progress_bar=False, accelerator="cpu")
        >>> z = model.get_latent_representation()
        >>> z[:, 0] = 0.0
        >>> model.decode(z, library_size=10_000, gene_list=["CD3D", "CST3"]).shape
        (700, 2)
        """
        self._check_if_trained(warn=False)
        codes = self._check_codes(z)
        sizes = read_library_size(library_size, len(codes))
        genes = gene_positions(gene_list, self.get_var_names())
        conditions = self._read_conditions(len(codes), batch=batch, covariates=covariates, adata=adata, indices=indices)
        batch_size = self._decoding_rows(batch_size)
        n_genes = self.module.n_input if genes is None else len(genes)
        out = np.empty((len(codes), n_genes), dtype=np.float32)
        sizes = None if sizes is None else torch.as_tensor(sizes.astype(np.float32))
        with self._decoding():
            for rows in _slices(len(codes), batch_size):
                scale = self._decode_rows(codes[rows], conditions.rows(rows))
                scale = scale if genes is None else scale[:, torch.as_tensor(genes, device=scale.device)]
                if sizes is not None:
                    scale *= sizes[rows].to(scale.device)
                out[rows] = scale.cpu().numpy()
        return out

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Evaluation mode, without gradients; the module's own mode comes back, whatever happens."""
        was_training = self.module.training
        self.module.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.module.train(was_training)

    def _decoding_rows(self, batch_size: int | None) -> int:
        """Rows to decode at once."""
        if batch_size is None:
            return _ROWS if self.device.type == "cpu" else max(_ROWS, _VALUES_ON_DEVICE // self.module.n_input)
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            msg = f"batch_size={batch_size!r} is no number of rows. Give a whole number of at least 1, or leave it out."
            raise ValueError(msg)
        return int(batch_size)

    def _decode_hidden(self, codes: np.ndarray | torch.Tensor, conditions: DecoderConditions) -> torch.Tensor:
        """Last hidden units of the decoder: all that its heads read."""

        def tensor(values: np.ndarray | None, dtype: torch.dtype) -> torch.Tensor | None:
            return None if values is None else torch.as_tensor(values, dtype=dtype, device=self.device)

        return self.module.decode_hidden(
            tensor(codes, torch.float32),
            tensor(conditions.batch, torch.int64),
            tensor(conditions.continuous, torch.float32),
            tensor(conditions.categorical, torch.int64),
        )

    def _decode_rows(self, codes: np.ndarray | torch.Tensor, conditions: DecoderConditions) -> torch.Tensor:
        """Expression of a few rows, without the rates, dispersions and dropout that nobody asked for."""
        return self.module.decoder.px_scale_decoder(self._decode_hidden(codes, conditions))


def _slices(n_rows: int, size: int) -> Iterator[slice]:
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))
