"""Decode latent coordinates to expression."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scbetavae._core.checks import check_whole_number

from ._decoding_inputs import DecoderConditions, check_z, gene_positions, read_conditions, read_library_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData

    from ._betavae import BetaVAE

_ROWS = 256
"""Rows decoded at once: on a processor, enough for a fast product and few enough for its cache."""
_VALUES_ON_DEVICE = 2**25
"""Values decoded at once on an accelerator, which wants more rows."""


def decode(  # noqa: PLR0913 - independent choices, each with a default
    self: BetaVAE,
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
    r"""Expected expression at latent coordinates.

    .. math:: \rho_g = f_g(z, s), \qquad \sum_g \rho_g = 1

    with :math:`s` what the decoder is conditioned on: nothing by default, or the batch (``condition_on_batch=True``) and the
    covariates of :meth:`setup_anndata`. No random number is drawn: :meth:`get_normalized_expression` decodes draws from the
    posterior, this method the coordinates as they are given.

    Parameters
    ----------
    z
        Latent coordinates of shape ``(n_cells, n_latent)``, as :meth:`get_latent_representation` returns them, changed as you
        like.
    library_size
        ``None`` for shares of a cell's molecules, which sum to 1 over all genes; a number, or one of each row, for expected
        counts of cells of that many molecules. With ``size_factor_key``, the decoder's output has no fixed sum: ``None`` gives
        the expression at size factor 1, and this is the size factor.
    batch
        Name of the batch to decode as, or one of each row. Needs ``condition_on_batch=True``; takes precedence over the batch
        that ``adata`` records.
    covariates
        Values of the covariates of :meth:`setup_anndata` by name, one or one of each row. Take precedence over those that
        ``adata`` records.
    adata
        Cells that the rows of ``z`` stand for, with the batches and covariates to decode with; with ``indices`` alone, those of
        the model.
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
        For coordinates, sizes or values of the wrong shape, a batch or category the model does not know, or a decoder that is
        conditioned on something which neither ``adata`` nor an argument gives.
    KeyError
        For a gene or covariate that the model does not have, with the nearest that it has.

    See Also
    --------
    scvi.model.SCVI.get_normalized_expression : the same, averaged over draws from the posterior.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=2, enable_progress_bar=False)
    >>> z = model.get_latent_representation()
    >>> z[:, 0] = 0.0
    >>> model.decode(z, library_size=10_000, gene_list=["CD3D", "CST3"]).shape
    (700, 2)
    """
    self._check_if_trained(warn=False)
    z = check_z(self, z)
    sizes = read_library_size(library_size, len(z))
    genes = gene_positions(gene_list, self.get_var_names())
    conditions = read_conditions(self, len(z), batch=batch, covariates=covariates, adata=adata, indices=indices)
    size = rows_at_once(self) if batch_size is None else check_whole_number(batch_size, "batch_size", 1)
    out = np.empty((len(z), self.module.n_input if genes is None else len(genes)), dtype=np.float32)
    sizes = None if sizes is None else torch.as_tensor(sizes.astype(np.float32))
    with evaluating(self):
        for start in range(0, len(z), size):
            rows = slice(start, start + size)
            scale = self.module.decoder.px_scale_decoder(decode_hidden(self, z[rows], conditions.rows(rows)))
            scale = scale if genes is None else scale[:, torch.as_tensor(genes, device=scale.device)]
            if sizes is not None:
                scale *= sizes[rows].to(scale.device)
            out[rows] = scale.cpu().numpy()
    return out


@contextmanager
def evaluating(self: BetaVAE) -> Iterator[None]:
    """Evaluation mode, without gradients; the module's own mode is restored in any case."""
    was_training = self.module.training
    self.module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        self.module.train(was_training)


def rows_at_once(self: BetaVAE) -> int:
    """Rows to decode at once."""
    return _ROWS if self.device.type == "cpu" else max(_ROWS, _VALUES_ON_DEVICE // self.module.n_input)


def decode_hidden(self: BetaVAE, z: np.ndarray | torch.Tensor, conditions: DecoderConditions) -> torch.Tensor:
    """Last hidden units of the decoder: all that its heads read."""
    values = (z, conditions.batch, conditions.continuous, conditions.categorical)
    kinds = (torch.float32, torch.int64, torch.float32, torch.int64)
    tensors = (
        None if value is None else torch.as_tensor(value, dtype=kind, device=self.device)
        for value, kind in zip(values, kinds, strict=True)
    )
    return self.module.decode_hidden(*tensors)
