"""Data that a model is given: genes by name, cells by position, mask or name, and counts that have not changed."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from anndata import AnnData
from scvi.data._constants import _SCVI_UUID_KEY
from scvi.data._utils import _assign_adata_uuid, _check_if_view, _get_adata_minify_type
from scvi.model import SCVI
from scvi.model.base._save_load import _load_saved_files

from scbetavae._core.checks import check_keys

from . import _checks, _genes
from ._cells import resolve_rows, rows_of_population
from ._fingerprint import check_unchanged
from ._guided import coordinates_of, reference_levels

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from ._betavae import BetaVAE

COUNT_LIKELIHOODS = ("nb", "zinb", "poisson")


def load(
    cls: type[BetaVAE], dir_path: str | os.PathLike, adata: AnnData | None = None, *args: Any, **kwargs: Any
) -> BetaVAE:
    """Load a saved model, as :meth:`scvi.model.SCVI.load`. Training continues from its weights.

    ``adata`` are cells with the genes of the model (a ValueError otherwise). If they are in another order, the model holds a copy
    in its own order, with a warning.
    """
    if isinstance(adata, AnnData):
        prefix = kwargs.get("prefix", args[2] if len(args) > 2 else None)
        url = kwargs.get("backup_url", args[3] if len(args) > 3 else None)
        adata = in_order_of(adata, registry_of(dir_path, prefix, url))
    model = SCVI.load.__func__(cls, dir_path, adata, *args, **kwargs)
    model.starts_from_weights_ = True
    return model


def registry_of(model: Any, prefix: str | None = None, backup_url: str | None = None) -> dict:
    """Registry of a model, or of one that was saved to a folder."""
    if not isinstance(model, str | os.PathLike):
        return model.registry_
    saved, *_ = _load_saved_files(os.fspath(model), False, prefix=prefix, map_location="cpu", backup_url=backup_url)
    return saved["registry_"]


def in_order_of(adata: AnnData, registry: dict, *, more_allowed: bool = False) -> AnnData:
    """Data for a model to hold: those given, or a copy with the genes in the model's order."""
    names = _genes.gene_names(registry)
    if names is None or _genes.is_in_order(adata, names):
        return adata
    _genes.check_genes(adata, names, more_allowed=more_allowed)
    if more_allowed:
        return adata
    msg = (
        "The genes of adata are in another order than those of the model, which holds a reordered copy: results are "
        "written to model.adata. To have them in yours, reorder it first: adata = adata[:, model.get_var_names()].copy()."
    )
    warnings.warn(msg, UserWarning, stacklevel=3)
    reordered = adata[:, adata.var_names.get_indexer(names)]
    reordered = reordered.to_memory() if adata.isbacked else reordered.copy()
    _assign_adata_uuid(reordered, overwrite=True)
    return reordered


def set_adata(self: BetaVAE, adata: Any) -> None:
    """Give a model other data: those, or a copy with the genes in its order."""
    theirs: Any = SCVI.adata
    theirs.fset(self, in_order_of(adata, self.registry_) if isinstance(adata, AnnData) else adata)


def validate_anndata(self: BetaVAE, adata: AnnData | None = None, copy_if_view: bool = True) -> AnnData:
    """Data as the model reads them: its own, unchanged, or others, checked, with the genes in the model's order."""
    adata = self.adata if adata is None else adata
    if isinstance(adata, AnnData):
        if adata is self.adata:
            check_unchanged(self.adata_manager)
        else:
            adata = _check_other_data(self, adata, copy_if_view)
    return SCVI._validate_anndata(self, adata, copy_if_view=copy_if_view)


def _check_other_data(self: BetaVAE, adata: AnnData, copy_if_view: bool) -> AnnData:
    """Data the model was not built on: scvi-tools transfers the setup, but checks neither names nor values."""
    arguments = self.registry_["setup_args"]
    layer = arguments.get("layer")
    names = _genes.gene_names(self.registry_)
    in_order = names is None or _genes.is_in_order(adata, names)
    if names is not None and not in_order:
        _genes.check_genes(adata, names)
    if _get_adata_minify_type(adata) is None:
        check_keys({"layer": layer}, adata.layers.keys(), "adata.layers")
        _checks.check_matrix(adata, layer)
        if self.module.gene_likelihood in COUNT_LIKELIHOODS:
            _checks.check_integer_counts(adata, layer, self.module.gene_likelihood)
        _checks.check_encoder_input(adata, arguments.get("encoder_obsm_key"))
    if names is None or in_order:
        return adata
    _check_if_view(adata, copy_if_view=copy_if_view)
    _assign_adata_uuid(adata)
    reordered = _genes.reorder_genes(adata, names, layer)
    # Always the same name for a copy of the same data: scvi-tools keeps all data that a model has seen, and would keep every
    # copy.
    reordered.uns[_SCVI_UUID_KEY] = f"{adata.uns[_SCVI_UUID_KEY]}-reordered"
    self._per_instance_manager_store.get(self.id, {}).pop(reordered.uns[_SCVI_UUID_KEY], None)
    return reordered


def minify_adata(self: BetaVAE, *args: Any, **kwargs: Any) -> None:
    """Replace the model's data by their latent representation, as :meth:`scvi.model.SCVI.minify_adata`.

    A ValueError if the data changed since they were set up: their library sizes are kept.
    """
    self._validate_anndata()
    SCVI.minify_adata(self, *args, **kwargs)


def get_normalized_expression(
    self: BetaVAE,
    adata: AnnData | None = None,
    indices: Any = None,
    transform_batch: Any = None,
    *,
    reference: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Expected expression, cells x genes, as :meth:`scvi.model.SCVI.get_normalized_expression`.

    ``indices`` are as in :meth:`get_latent_representation`. ``transform_batch``, the batch to decode as, needs
    ``condition_on_batch=True``, and is a ValueError otherwise. ``reference`` are levels of guided covariates to decode all cells
    at, ``{"batch": "b0"}``: expression without the differences between levels. Several levels are averaged, ``None`` all of
    them: ``{"batch": None}``.
    """
    if reference is not None:
        levels = reference_levels(self, reference)
        total: Any = None
        for combination in levels:
            with self.module.guided.fixed(coordinates_of(self, combination)):
                found = get_normalized_expression(self, adata, indices, transform_batch, **kwargs)
            total = found if total is None else total + found
        return total / len(levels)
    if kwargs.get("dataloader") is None and (adata is not None or self.adata is not None):
        adata = self._validate_anndata(adata)
        indices = resolve_rows(adata, indices)
    return SCVI.get_normalized_expression(self, adata, indices, transform_batch, **kwargs)


def differential_expression(
    self: BetaVAE,
    adata: AnnData | None = None,
    groupby: str | None = None,
    group1: Any = None,
    group2: str | None = None,
    idx1: Any = None,
    idx2: Any = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Genes that differ between cells, as :meth:`scvi.model.SCVI.differential_expression`.

    ``idx1`` and ``idx2``, the cells to compare, are as ``indices`` in :meth:`get_latent_representation`, or a string, which is a
    query of ``.obs``.
    """
    if adata is not None or self.adata is not None:
        adata = self._validate_anndata(adata)
        idx1, idx2 = rows_of_population(adata, idx1, "idx1"), rows_of_population(adata, idx2, "idx2")
        if "subset_idx" in kwargs:
            kwargs["subset_idx"] = rows_of_population(adata, kwargs["subset_idx"], "subset_idx")
    return SCVI.differential_expression(self, adata, groupby, group1, group2, idx1, idx2, *args, **kwargs)


def get_aggregated_posterior(
    self: BetaVAE,
    adata: AnnData | None = None,
    indices: Any = None,
    batch_size: int | None = None,
    dof: float | None = 3.0,
) -> torch.distributions.Distribution:
    """Mixture of the cells' posteriors, as :meth:`scvi.model.SCVI.get_aggregated_posterior`.

    ``indices`` are as in :meth:`get_latent_representation`, at least one. ``dof`` are the degrees of freedom of each component,
    ``None`` for normal ones.
    """
    self._check_if_trained(warn=False)
    adata = self._validate_anndata(adata)
    rows: Any = resolve_rows(adata, indices, at_least_one=True)
    return SCVI.get_aggregated_posterior(self, adata, rows, batch_size=batch_size, dof=dof)


def differential_abundance(self: BetaVAE, adata: AnnData | None = None, *args: Any, **kwargs: Any) -> Any:
    """Density of each sample around each cell, as :meth:`scvi.model.SCVI.differential_abundance`.

    Written to ``.obsm["da_log_probs"]`` of ``adata``, or of the cells of the model if ``None``.
    """
    if adata is None:
        return SCVI.differential_abundance(self, adata, *args, **kwargs)
    read = self._validate_anndata(adata)
    result = SCVI.differential_abundance(self, read, *args, **kwargs)
    if read is not adata and "da_log_probs" in read.obsm:
        adata.obsm["da_log_probs"] = read.obsm["da_log_probs"]
    return result
