"""Map query cells, and give weights to the batches, labels and covariates that the reference model does not know."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS, settings
from scvi.model import SCVI
from scvi.nn import FCLayers

from scbetavae._core.checks import check_choice
from scbetavae._core.constants import GUIDED_KEY
from scbetavae._core.text import listed

from ._guided_field import unknown_levels
from ._registered_cells import in_order_of, registry_of

if TYPE_CHECKING:
    from scbetavae.module import BetaVAEModule

    from ._betavae import BetaVAE

_DISPERSION_OF = {"gene-batch": REGISTRY_KEYS.BATCH_KEY, "gene-label": REGISTRY_KEYS.LABELS_KEY}


def load_query_data(
    cls: type[BetaVAE],
    adata: AnnData | None = None,
    reference_model: Any = None,
    *args: Any,
    unfrozen: bool = False,
    new_levels: str = "error",
    **kwargs: Any,
) -> BetaVAE:
    """Map query cells with a trained model, as :meth:`scvi.model.SCVI.load_query_data`.

    Training changes the weights of batches and covariates, and scale and shift of the decoder's batch norm. Everything else stays
    as the reference learned it, including the running statistics of batch norm. A new category starts at the mean of those that
    the reference knows. A model that is not conditioned on batch has no weights for the batches of the query: it maps query cells
    as it is, without training, unless its dispersion depends on batches or labels that are new. To adapt all weights, pass
    ``unfrozen=True`` and train.

    Parameters
    ----------
    adata
        Query cells, with the genes of the reference. In another order, the model holds a copy in its own order.
    reference_model
        A trained model, or the folder it was saved to.
    *args, unfrozen, **kwargs
        As in scVI's method.
    new_levels
        For a guided covariate: ``"error"`` refuses levels that the reference does not know, ``"infer"`` takes them as missing, so
        that the levels of these cells are inferred from their counts.

    Returns
    -------
    Model of the query cells. ``is_trained`` says whether it can be used without training; a UserWarning says so where only their
    dispersion must be learned.
    """
    if isinstance(reference_model, os.PathLike):
        reference_model = os.fspath(reference_model)
    if isinstance(adata, AnnData) and reference_model is not None:
        subset = kwargs.get("inplace_subset_query_vars", args[1] if len(args) > 1 else False)
        known = registry_of(reference_model)
        _check_levels(adata, known, new_levels)
        adata = in_order_of(adata, known, more_allowed=subset)
    model: Any = SCVI.load_query_data.__func__(cls, adata, reference_model, *args, unfrozen=unfrozen, **kwargs)
    model.starts_from_weights_ = True
    is_folder = isinstance(reference_model, str)
    reference = cls.load_registry(reference_model) if is_folder else registry_of(reference_model)
    module = model.module
    _place_new_categories(module, reference)
    if unfrozen:
        return model
    # Whether no weight of the decoder belongs to a batch or a category: all of the query's cells use the same ones.
    is_common = module.batch_representation != "embedding" and not sum(module.decoder.px_decoder.n_cat_list)
    nothing_else = is_common and all(value for name, value in kwargs.items() if name.startswith("freeze_"))
    must_train = _freeze_reference(module, reference, nothing_else=nothing_else)
    if must_train and is_common:
        warnings.warn(
            f"The query has batches or labels that the reference does not know, and dispersion={module.dispersion!r} "
            "has weights of each of them. Train the model before using it: only these weights will change.",
            UserWarning,
            stacklevel=settings.warnings_stacklevel,
        )
    model.is_trained_ = nothing_else and not must_train
    return model


def _check_levels(adata: AnnData, registry: Mapping[str, Any], choice: str) -> None:
    """Refuse levels of guided covariates that the reference does not know, unless they are inferred."""
    check_choice(choice, ("error", "infer"), "new_levels")
    state = registry["field_registries"].get(GUIDED_KEY, {}).get("state_registry")
    new = unknown_levels(adata, state) if state else {}
    if new and choice == "error":
        name, levels = next(iter(new.items()))
        msg = (
            f"The query has {listed(levels)} in adata.obs[{name!r}], levels that the reference is not guided by. Pass "
            "new_levels='infer' to have the levels of these cells inferred from their counts."
        )
        raise ValueError(msg)


def _place_new_categories(module: BetaVAEModule, reference: Mapping[str, Any]) -> None:
    """Give every category of the reference its weights, and every new one the mean of theirs.

    scvi-tools appends weights of new categories after all others, of any covariate, and leaves them random.
    """
    states = {key: field.get("state_registry", {}) for key, field in reference["field_registries"].items()}
    n_batch = len(states[REGISTRY_KEYS.BATCH_KEY]["categorical_mapping"])
    covariates = states.get(REGISTRY_KEYS.CAT_COVS_KEY, {}).get("mappings", {}).values()
    known = [n_batch if module.condition_on_batch else 0, *map(len, covariates)]
    with torch.no_grad():
        if module.batch_representation == "embedding":
            known = known[1:]
            rows = module.get_embedding(REGISTRY_KEYS.BATCH_KEY).weight
            rows[n_batch:] = rows[:n_batch].mean(dim=0)
        for layers in module.modules():
            if isinstance(layers, FCLayers) and sum(layers.n_cat_list):
                for i, (linear, *_) in enumerate(cast("Any", layers.fc_layers)):
                    if layers.inject_into_layer(i):
                        _arrange(linear.weight, known, layers.n_cat_list)
        n_known = _n_known_dispersions(module, reference)
        if n_known is not None:
            module.px_r[:, n_known:] = module.px_r[:, :n_known].mean(dim=1, keepdim=True)


def _freeze_reference(module: BetaVAEModule, reference: Mapping[str, Any], *, nothing_else: bool) -> bool:
    """Unfreeze what the query adds; freeze, if ``nothing_else``, what scvi-tools left free. Whether training must come first."""
    module.reference_is_frozen = True
    if nothing_else:
        module.requires_grad_(requires_grad=False)
    if module.batch_representation == "embedding":  # scvi-tools 1.4 freezes it
        module.get_embedding(REGISTRY_KEYS.BATCH_KEY).requires_grad_()
    n_known = _n_known_dispersions(module, reference)
    must_train = False
    if n_known is not None and n_known < module.px_r.shape[1]:
        must_train = True
        new = torch.arange(module.px_r.shape[1], device=module.px_r.device) >= n_known
        module.px_r.requires_grad_()
        module.px_r.register_hook(lambda gradient: gradient * new.to(gradient))
    if must_train or not nothing_else:
        module.regularizer.requires_grad_()  # a discriminator is trained on the query's cells, too
    return must_train


def _n_known_dispersions(module: BetaVAEModule, reference: Mapping[str, Any]) -> int | None:
    """Columns of the dispersion that the reference learned, ``None`` if it has no columns."""
    key = _DISPERSION_OF.get(module.dispersion)
    return None if key is None else len(reference["field_registries"][key]["state_registry"]["categorical_mapping"])


def _arrange(weight: torch.Tensor, known: list[int], now: list[int]) -> None:
    """Move the columns of known categories to their places, among the last columns of the weights of a layer."""
    block = weight[:, weight.shape[1] - sum(now) :]
    loaded = block.clone()
    read = write = 0
    for n_known, n_now in zip(known, now, strict=True):
        n_old = n_known if n_known > 1 else 0  # a single category has no column
        old = loaded[:, read : read + n_old]
        block[:, write : write + n_old] = old
        block[:, write + n_old : write + n_now] = old.mean(dim=1, keepdim=True) if n_old else 0.0
        read, write = read + n_old, write + n_now
