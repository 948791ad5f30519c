"""What a decoder is conditioned on: batches and covariates, one row per cell, refused before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scvi import REGISTRY_KEYS

from scbetavae._core.checks import as_list
from scbetavae._core.text import did_you_mean, listed

from ._cells import resolve_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anndata import AnnData

    from ._betavae import BetaVAE


class DecoderConditions(NamedTuple):
    """What the decoder is conditioned on, each of shape (n_cells, n_columns); ``None`` for what it is not conditioned on."""

    batch: np.ndarray | None = None
    categorical: np.ndarray | None = None
    continuous: np.ndarray | None = None

    def rows(self, rows: Any) -> DecoderConditions:
        """The conditions of some cells."""
        return DecoderConditions(*(None if part is None else part[rows] for part in self))


def check_z(self: BetaVAE, z: Any) -> np.ndarray:
    """Latent coordinates as finite numbers of shape (n_cells, n_latent)."""
    array = np.asarray(z)
    n_latent = self.module.n_dimensions
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] != n_latent:
        msg = (
            f"z has shape {array.shape} and dtype {array.dtype}; decode needs numbers of shape (n_cells, {n_latent}), "
            "as get_latent_representation returns them. Put a single point in a list: z[None]."
        )
        raise ValueError(msg)
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(broken):
        msg = f"z holds NaN or infinite values in {len(broken)} rows, the first {broken[0]}. Leave these rows out."
        raise ValueError(msg)
    return array.astype(np.float32, copy=False)


def has_conditions(self: BetaVAE) -> bool:
    """Whether the decoder is conditioned on batch or covariates."""
    setup = self.registry_["setup_args"]
    names = [setup.get(f"{kind}_covariate_keys") for kind in ("categorical", "continuous")]
    return self.module.condition_on_batch or any(names)


def read_conditions(
    self: BetaVAE,
    n_cells: int,
    *,
    batch: Any = None,
    covariates: Mapping[str, Any] | None = None,
    adata: AnnData | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
) -> DecoderConditions:
    """Conditions of ``n_cells`` cells, from values by name or else from the cells of an AnnData."""
    states = {key: field.get("state_registry", {}) for key, field in self.registry_["field_registries"].items()}
    recorded = {} if adata is None and indices is None else _recorded(self, n_cells, adata, indices)
    given, batches = {} if batch is None else {"batch": batch}, {}
    if self.module.condition_on_batch:
        batches = {"batch": states[REGISTRY_KEYS.BATCH_KEY]["categorical_mapping"]}
        if len(batches["batch"]) == 1:
            recorded.setdefault(REGISTRY_KEYS.BATCH_KEY, np.zeros((n_cells, 1), dtype=np.int64))
    elif given:
        msg = (
            f"batch={batch!r} needs a decoder that is conditioned on batch, but this model has condition_on_batch=False. "
            "Leave batch out, or train BetaVAE(adata, condition_on_batch=True)."
        )
        raise ValueError(msg)
    categorical = states.get(REGISTRY_KEYS.CAT_COVS_KEY, {}).get("mappings", {})
    numeric = dict.fromkeys(states.get(REGISTRY_KEYS.CONT_COVS_KEY, {}).get("columns", []))
    names = [*categorical, *numeric]
    for name in covariates or {}:
        if name not in names:
            msg = (
                f"covariates has {name!r}, but the decoder is not conditioned on it.{did_you_mean(name, names)} "
                f"It is conditioned on {listed(names, empty='no covariates')}."
            )
            raise KeyError(msg)
    return DecoderConditions(
        _read("batch", batches, given, recorded.get(REGISTRY_KEYS.BATCH_KEY), n_cells),
        _read("covariates", categorical, covariates or {}, recorded.get(REGISTRY_KEYS.CAT_COVS_KEY), n_cells),
        _read("covariates", numeric, covariates or {}, recorded.get(REGISTRY_KEYS.CONT_COVS_KEY), n_cells),
    )


def _recorded(self: BetaVAE, n_cells: int, adata: AnnData | None, indices: Any) -> dict[str, np.ndarray]:
    """What ``adata`` records of the fields that condition the decoder."""
    if adata is None and self.adata is None:
        msg = "indices name cells, but the model was trained on a data module and holds none. Pass adata= as well."
        raise ValueError(msg)
    adata = self._validate_anndata(adata)
    rows = resolve_rows(adata, indices)
    if len(rows) != n_cells:
        msg = (
            f"z has {n_cells} rows, but adata and indices name {len(rows)} cells. Name the cells that the rows of z "
            "stand for, in their order: indices=[...]."
        )
        raise ValueError(msg)
    manager: Any = self.get_anndata_manager(adata, required=True)
    fields = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.CAT_COVS_KEY, REGISTRY_KEYS.CONT_COVS_KEY)
    return {key: np.asarray(manager.get_from_registry(key))[rows] for key in fields if key in manager.data_registry}


def _read(
    argument: str, columns: Mapping[str, Any], given: Mapping[str, Any], recorded: np.ndarray | None, n_cells: int
) -> np.ndarray | None:
    """Columns by name, integer codes of categories or, where these are ``None``, numbers; those given, or else as recorded."""
    values = []
    for place, (name, categories) in enumerate(columns.items()):
        if name in given and categories is None:
            values.append(_numbers(given[name], n_cells, name))
        elif name in given:
            values.append(_codes(given[name], categories, n_cells, name))
        elif recorded is not None:
            values.append(recorded[:, [place]])
        else:
            value = "..." if categories is None else repr(np.asarray(categories).tolist()[0])
            example = f"batch={value}" if argument == "batch" else f"covariates={{{name!r}: {value}}}"
            msg = (
                f"The decoder is conditioned on {listed(columns)}: pass adata= or indices=, the cells that the rows of z stand "
                f"for, or a value to decode with, for example {example}."
            )
            raise ValueError(msg)
    return np.hstack(values) if values else None


def read_library_size(library_size: Any, n_cells: int) -> np.ndarray | None:
    """Library sizes of shape (n_cells, 1), or ``None`` for expression that is not scaled."""
    if library_size is None:
        return None
    if isinstance(library_size, str):
        msg = (
            f"library_size={library_size!r} cannot be read from latent coordinates. Pass a number, or one of each row: "
            "the cells' totals, or model.get_latent_library_size()."
        )
        raise ValueError(msg)
    sizes = _numbers(library_size, n_cells, "library_size")
    if (sizes <= 0).any():
        msg = f"library_size has values that are not positive, the smallest {sizes.min():g}. It counts molecules of a cell."
        raise ValueError(msg)
    return sizes


def gene_positions(names: Any, var_names: Iterable[Any]) -> np.ndarray | None:
    """Positions of the genes in the model, in the order given; ``None`` for all."""
    if names is None:
        return None
    names = as_list(names)
    place = {name: i for i, name in enumerate(var_names)}
    unknown = [name for name in names if name not in place]
    if unknown:
        hint = did_you_mean(unknown[0], var_names, cutoff=0.6)
        msg = f"gene_list has {len(unknown)} genes that the model does not have, the first {unknown[0]!r}.{hint}"
        raise KeyError(msg)
    if not names or len(set(names)) < len(names):
        msg = "gene_list is empty or names a gene twice. Name every gene once, or leave it out for all genes."
        raise ValueError(msg)
    return np.array([place[name] for name in names])


def _codes(values: Any, categories: Any, n_cells: int, argument: str) -> np.ndarray:
    """Integer codes of category names, one for all cells or one of each, shape (n_cells, 1)."""
    names = _one_of_each(np.asarray(values, dtype=object), n_cells, argument).tolist()
    place = {category: i for i, category in enumerate(np.asarray(categories).tolist())}
    unknown = next((name for name in names if name not in place), None)
    if unknown is not None:
        hint = did_you_mean(unknown, place)
        msg = (
            f"{argument}={unknown!r} is not a category that the model was trained on.{hint} Those are {listed(place)}."
        )
        raise ValueError(msg)
    return np.array([place[name] for name in names], dtype=np.int64).reshape(-1, 1)


def _numbers(values: Any, n_cells: int, argument: str) -> np.ndarray:
    """Finite numbers, one for all cells or one of each, shape (n_cells, 1)."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{argument} does not hold numbers. Pass a number, or one of each of the {n_cells} rows of z."
        raise TypeError(msg) from error
    if not np.isfinite(numbers).all():
        msg = f"{argument} holds NaN or infinite values."
        raise ValueError(msg)
    return _one_of_each(numbers, n_cells, argument).reshape(-1, 1)


def _one_of_each(values: np.ndarray, n_cells: int, argument: str) -> np.ndarray:
    """A value for every cell."""
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim and values.shape != (n_cells,):
        msg = f"{argument} has shape {values.shape}; pass one value, or one of each of the {n_cells} rows of z."
        raise ValueError(msg)
    return np.broadcast_to(values, (n_cells,))
