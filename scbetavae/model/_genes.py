"""Genes are identified by their names, not by their positions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi import REGISTRY_KEYS

from scbetavae._core.columns import obs_of
from scbetavae._core.genes import IDENTIFIER
from scbetavae._core.text import listed

from ._checks import counts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_MUCH = 0.5  # share of the missing genes that a hint has to explain


def gene_names(registry: Mapping[str, Any]) -> pd.Index | None:
    """Names of a model's genes in its order; ``None`` where a data module did not say them."""
    field = registry.get("field_registries", {}).get(REGISTRY_KEYS.X_KEY, {})
    state = field.get("state_registry", {})
    names = state.get("column_names")
    if names is None or len(names) != state.get("n_vars", len(names)):
        return None
    return pd.Index(np.asarray(names, dtype=object)).astype(str)


def check_unique_genes(adata: AnnData) -> None:
    """Refuse gene names that several genes share."""
    if not adata.var_names.is_unique:
        shared = adata.var_names[adata.var_names.duplicated()].unique()
        msg = (
            f"{len(shared)} gene names occur more than once in adata.var_names ({listed(shared, 3)}), so a gene "
            "cannot be selected by name. Run adata.var_names_make_unique() first."
        )
        raise ValueError(msg)


def is_in_order(adata: AnnData, names: pd.Index | None) -> bool:
    """Whether the genes of the data are those of the model, in its order."""
    return names is None or np.array_equal(adata.var_names.to_numpy(dtype=object), names.to_numpy(dtype=object))


def check_genes(adata: AnnData, names: pd.Index, *, more_allowed: bool = False) -> None:
    """Refuse data without the genes of the model: how many are missing or unknown, the first of each, and the likely reason."""
    check_unique_genes(adata)
    missing = names[~names.isin(adata.var_names)]
    unknown = adata.var_names[~adata.var_names.isin(names)]
    if not len(missing) and (more_allowed or not len(unknown)):
        return
    found = [
        f"{len(genes)} {what} ({listed(genes, 3)})"
        for genes, what in ((missing, "genes of the model are missing"), (unknown, "genes are unknown to it"))
        if len(genes)
    ]
    msg = (
        f"adata does not have the genes of the model: {' and '.join(found)}. Genes are identified by name. "
        f"{_explain(adata, missing, unknown)}"
    )
    raise ValueError(msg)


def reorder_genes(adata: AnnData, names: pd.Index, layer: str | None) -> AnnData:
    """The part of the data that a model reads, with the genes in its order; the data themselves stay as they are."""
    view = adata[:, adata.var_names.get_indexer(names)]
    counts = counts_of(view, layer)[0]
    counts = counts.copy() if hasattr(counts, "copy") else counts
    return AnnData(
        counts if layer is None else None,
        obs=obs_of(adata).copy(),
        var=cast("pd.DataFrame", view.var).copy(),
        obsm=cast("Any", dict(adata.obsm)),
        layers={} if layer is None else {layer: counts},
        uns=dict(adata.uns),
    )


def _explain(adata: AnnData, missing: pd.Index, unknown: pd.Index) -> str:
    """The likely difference between the names, and what to do."""
    if not len(missing):
        return "Leave the others out: adata = adata[:, model.get_var_names()].copy()."
    for change, words in (
        (_without_version, "version suffixes (as in ENSG00000141510.5)"),
        (str.upper, "upper and lower case"),
        (lambda name: _without_version(name).upper(), "version suffixes and case"),
    ):
        if _shared(missing, unknown, change) >= _MUCH * len(missing):
            return f"Most names differ only in {words}: give adata.var_names the form {str(missing[0])!r}."
    for column in adata.var.columns:
        values = adata.var[column]
        if not pd.api.types.is_numeric_dtype(values) and _shared(missing, values, str) >= _MUCH * len(missing):
            return (
                f"adata.var[{column!r}] holds the names of the model's genes: adata.var_names = adata.var[{column!r}]"
                ".astype(str), then adata.var_names_make_unique()."
            )
    ids = [bool(len(genes)) and bool(IDENTIFIER.match(str(genes[0]))) for genes in (missing, unknown)]
    if ids[0] != ids[1] and len(unknown):
        kinds = ("ids", "symbols") if ids[0] else ("symbols", "ids")
        return f"The model identifies genes by {kinds[0]}, adata by {kinds[1]}: translate adata.var_names."
    return (
        "To count missing genes as 0 and leave unknown ones out: BetaVAE.prepare_query_anndata(adata, model); "
        "otherwise train on the genes that both have."
    )


def _shared(missing: Iterable[Any], others: Iterable[Any], change: Callable[[str], str]) -> int:
    """Number of missing genes that have a counterpart among the others once both are changed."""
    changed = {change(str(name)) for name in others}
    return sum(change(str(name)) in changed for name in missing)


def _without_version(name: str) -> str:
    """The id of a gene without its version."""
    return re.sub(r"\.\d+$", "", name)
