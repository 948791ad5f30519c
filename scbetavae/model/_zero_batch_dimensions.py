"""Set the latent dimensions that encode batch to a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import numpy as np

from scbetavae import metrics, tl
from scbetavae._core import keys
from scbetavae._core.checks import check_dimensions, read_options
from scbetavae._core.columns import class_columns, class_texts, obs_of
from scbetavae._core.constants import MINIMUM_CELLS
from scbetavae._core.options import REMOVAL, RemovalOptions
from scbetavae._core.staging import staged

from ._genes import gene_names, is_in_order
from ._guided import at_coordinates, coordinates_of, guided_state
from ._latent import batch_columns, cells_of, write_latent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

    from ._betavae import BetaVAE

MOLECULES = 10_000
"""Molecules of a cell in the corrected expression."""


def zero_batch_dimensions(  # noqa: PLR0913 - self and eight arguments
    self: BetaVAE,
    dimensions: int | Iterable[int] | None = None,
    *,
    batch_key: str | None = None,
    conserve: str | Iterable[str] | None = None,
    to: str = "prior",
    reference_batch: str | None = None,
    decode: bool | str = False,
    adata: AnnData | None = None,
    key_added: str = keys.BATCH_REMOVAL,
    **options: Unpack[RemovalOptions],
) -> np.ndarray:
    """Set the dimensions that encode batch to a constant: :func:`scbetavae.tl.zero_batch_dimensions`.

    The posterior means change, not the model: it encodes as before.

    Parameters
    ----------
    dimensions
        Dimensions to set to a constant, from 0. ``None`` takes those that :meth:`find_batch_dimensions` chose, which may be none;
        without such a search of the same cells it is made. If batch is guided, ``None`` takes its guided dimensions.
    batch_key, conserve
        As in :meth:`find_batch_dimensions`.
    to, reference_batch, key_added
        As in :func:`scbetavae.tl.zero_batch_dimensions`, which also says what is written to ``.uns["betavae"]``. With
        ``to="reference"``, corrected expression is that of a batch that exists.
    decode
        Whether to write corrected expression: the decoder's expected counts for the embedding without batch, per 10 000 molecules
        of a cell (with ``size_factor_key``, at size factor 1), float32. ``True`` writes ``.layers["betavae_zeroed"]``; a text
        names the layer. If batch is guided, expression is that of the reference batch, or the mean over all batches.
    adata
        Cells; those of the model unless given. Query cells need two batches.
    **options
        ``categorical`` (``None`` by default), ``method`` (``"stepwise"``), ``donor_key`` (``None``), ``n_bootstrap`` (200) and
        ``seed`` (0), as in :func:`scbetavae.tl.zero_batch_dimensions`.

    Returns
    -------
    Array of shape (n_cells, n_latent): posterior means without batch, also written to ``.obsm["X_betavae_zeroed"]``. The
    posterior means go to ``.obsm["X_betavae"]``. Where no dimension is chosen both are equal, with a warning, and
    ``.uns["betavae"]["batch_removal_params"]["summary"]`` says why.

    Raises
    ------
    KeyError, ValueError, TypeError
        As :func:`scbetavae.tl.zero_batch_dimensions`; nothing is written then. A ValueError also if no batch is known, the
        decoder is conditioned on this batch, the model has collapsed or has ``latent_distribution="ln"``, or ``decode`` names the
        layer that holds the counts.

    Warns
    -----
    UserWarning
        As :func:`scbetavae.tl.zero_batch_dimensions`.

    See Also
    --------
    find_batch_dimensions : which dimensions encode batch.
    scbetavae.pl.batch_removal : plot of the result.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=5, enable_progress_bar=False)
    >>> import warnings
    >>> with warnings.catch_warnings(action="ignore"):  # the model was hardly trained
    ...     zeroed = model.zero_batch_dimensions([1], to="reference", reference_batch="batch_1", decode=True)
    >>> zeroed.shape, adata.layers["betavae_zeroed"].shape
    ((700, 4), (700, 765))
    >>> list(adata.uns["betavae"]["batch_removal"]["role"].unique())
    ['batch', 'conserved']
    """
    settings = read_options(zero_batch_dimensions, options, REMOVAL)
    adata = cells_of(self, adata, "zero_batch_dimensions(dimensions, adata=...)")
    removal = tl.check_removal(
        adata,
        *batch_columns(self, batch_key, conserve),
        to=to,
        reference_batch=reference_batch,
        key_added=key_added,
        options=settings,
        registered=class_columns(self.registry_["setup_args"]),
    )
    layer = None if decode is False else _layer_to_write(self, decode, key_added)
    if self.module.latent_distribution == "ln":
        msg = (
            'With latent_distribution="ln" the latent representation consists of shares that sum to 1: a constant dimension '
            'changes what all others mean. Train with latent_distribution="normal" to remove dimensions.'
        )
        raise ValueError(msg)
    if dimensions is not None:
        dimensions = check_dimensions(dimensions, self.module.n_dimensions)
        tl.check_left(np.ones(self.module.n_dimensions, dtype=bool), keys.LATENT, dimensions)
    with staged(adata) as copy:
        write_latent(self, adata, copy)
        zeroed = tl.run_removal(copy, removal, dimensions, keys.LATENT)
        batch_key = str(removal.cells.batch.name)
        if self.module.guided is not None and batch_key in guided_state(self):
            held_out = _held_out_accuracy(self, adata, zeroed, batch_key)
            copy.uns[keys.UNS][f"{key_added}{keys.PARAMS_SUFFIX}"] |= held_out
        if layer is not None:
            levels = _levels_to_average(self, batch_key, zeroed, to, removal.reference_batch)
            molecules = None if self.registry_["setup_args"].get("size_factor_key") is not None else MOLECULES
            # The layer is one of the user's data, whose genes may be in another order.
            genes = None if is_in_order(adata, gene_names(self.registry_)) else list(adata.var_names)
            copy.uns[keys.UNS][f"{key_added}{keys.PARAMS_SUFFIX}"]["layer"] = layer
            expected = [self.decode(z, library_size=molecules, adata=adata, gene_list=genes) for z in levels]
            adata.layers[layer] = np.mean(expected, axis=0)
    return zeroed


def _levels_to_average(
    self: BetaVAE, batch_key: str, zeroed: np.ndarray, to: str, reference: str | None
) -> list[np.ndarray]:
    """Coordinates to decode: those without batch or, where it is guided, of every cell at each level or at the reference.

    The mean of the levels' coordinates, which is 0, is not a place where the decoder was trained.
    """
    levels = guided_state(self).get(batch_key)
    if not levels or (to == "reference" and reference is None):
        return [zeroed]
    blocks = (coordinates_of(self, {batch_key: level}) for level in (levels if reference is None else [reference]))
    return [at_coordinates(self, zeroed, block.cpu().numpy()) for block in blocks]


def _held_out_accuracy(self: BetaVAE, adata: AnnData, zeroed: np.ndarray, batch_key: str) -> dict[str, float]:
    """Batch accuracy on cells that took no part in training, which a guided model leaves higher than on the others."""
    held_out = getattr(self, "validation_indices_", None)
    if adata is not self.adata or held_out is None or len(held_out) < MINIMUM_CELLS:
        return {}
    test = np.isin(np.arange(adata.n_obs), held_out)
    free = zeroed[:, : self.module.n_latent]
    accuracy = metrics.knn_accuracy(free, class_texts(obs_of(adata)[batch_key], "batch_key"), test=test)
    return {"n_held_out": int(test.sum()), "held_out_accuracy": float(accuracy)}


def _layer_to_write(self: BetaVAE, decode: bool | str, key_added: str) -> str:
    """Name of the layer with corrected expression."""
    if decode is True:
        return f"betavae_{'zeroed' if key_added == keys.BATCH_REMOVAL else key_added}"
    if not isinstance(decode, str) or not decode or "/" in decode:
        msg = f"decode={decode!r} is not a valid layer name. Pass True, False, or a name that is not empty and has no '/'."
        raise ValueError(msg)
    if decode == self.registry_["setup_args"].get("layer"):
        msg = f"decode={decode!r} is the layer of the counts, which would be lost. Pass another name."
        raise ValueError(msg)
    return decode
