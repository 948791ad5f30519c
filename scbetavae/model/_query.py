"""What a query brings that the reference model does not know: new batches, labels and covariates, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from scvi import REGISTRY_KEYS
from scvi.nn import FCLayers

from scbetavae.module import BetaVAEModule

_DISPERSION_OF = {"gene-batch": REGISTRY_KEYS.BATCH_KEY, "gene-label": REGISTRY_KEYS.LABELS_KEY}


def place_new_categories(module: BetaVAEModule, reference: Mapping[str, Any]) -> None:
    """Give every category of the reference its weights, and every new one the mean of theirs.

    scvi-tools appends weights of new categories after all others, whichever covariate they belong to, and leaves them random.

    Parameters
    ----------
    module
        Module of the query, as scvi-tools loaded it.
    reference
        Registry of the reference.
    """
    n_batch = len(_categories(reference, REGISTRY_KEYS.BATCH_KEY))
    covariates = _state(reference, REGISTRY_KEYS.CAT_COVS_KEY).get("mappings", {}).values()
    known = [n_batch if module.condition_on_batch else 0, *map(len, covariates)]
    with torch.no_grad():
        if module.batch_representation == "embedding":
            known = known[1:]
            rows = module.get_embedding(REGISTRY_KEYS.BATCH_KEY).weight
            rows[n_batch:] = rows[:n_batch].mean(dim=0)
        for layers in module.modules():
            if isinstance(layers, FCLayers) and sum(layers.n_cat_list):
                for i, (linear, *_) in enumerate(layers.fc_layers):
                    if layers.inject_into_layer(i):
                        _arrange(linear.weight, known, layers.n_cat_list)
        n_known = _n_known_dispersions(module, reference)
        if n_known is not None:
            module.px_r[:, n_known:] = module.px_r[:, :n_known].mean(dim=1, keepdim=True)


def freeze_reference(module: BetaVAEModule, reference: Mapping[str, Any], *, nothing_else: bool) -> bool:
    """Leave free what the query brings, beside what scvi-tools leaves free.

    Parameters
    ----------
    module
        Module of the query, as scvi-tools loaded and froze it.
    reference
        Registry of the reference.
    nothing_else
        Whether to freeze what scvi-tools left free.

    Returns
    -------
    Whether there are new weights that must be trained before the model is used.
    """
    module.reference_is_frozen = True
    if nothing_else:
        module.requires_grad_(requires_grad=False)
    if module.batch_representation == "embedding":  # scvi-tools 1.4 freezes it
        module.get_embedding(REGISTRY_KEYS.BATCH_KEY).requires_grad_()
    n_known = _n_known_dispersions(module, reference)
    must_train = n_known is not None and n_known < module.px_r.shape[1]
    if must_train:
        new = torch.arange(module.px_r.shape[1], device=module.px_r.device) >= n_known
        module.px_r.requires_grad_()
        module.px_r.register_hook(lambda gradient: gradient * new.to(gradient))
    if must_train or not nothing_else:
        module.regularizer.requires_grad_()  # a discriminator is trained on the query's cells, too
    return must_train


def is_told_nothing(module: BetaVAEModule) -> bool:
    """Whether no weight of the decoder belongs to a batch or a category: all of the query's cells go through the same."""
    return module.batch_representation != "embedding" and not sum(module.decoder.px_decoder.n_cat_list)


def _state(registry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return registry["field_registries"].get(key, {}).get("state_registry", {})


def _categories(registry: Mapping[str, Any], key: str) -> Any:
    return _state(registry, key)["categorical_mapping"]


def _n_known_dispersions(module: BetaVAEModule, reference: Mapping[str, Any]) -> int | None:
    """Columns of the dispersion that the reference learned, ``None`` if it has no columns."""
    key = _DISPERSION_OF.get(module.dispersion)
    return None if key is None else len(_categories(reference, key))


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
