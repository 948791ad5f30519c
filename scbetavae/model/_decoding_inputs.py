"""What a decoder is conditioned on: batches and covariates, one row per cell, refused before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scvi import REGISTRY_KEYS

from scbetavae._core.checks import as_list
from scbetavae._core.text import did_you_mean, listed

from ._cells import resolve_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    n_latent = self.module.n_latent
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
    recorded = DecoderConditions()
    if adata is not None or indices is not None:
        recorded = _recorded_conditions(self, n_cells, adata, indices)
    read_batch = _read_batch(self, batch, n_cells, recorded.batch)
    return DecoderConditions(read_batch, *_read_covariates(self, dict(covariates or {}), n_cells, recorded))


def _recorded_conditions(self: BetaVAE, n_cells: int, adata: AnnData | None, indices: Any) -> DecoderConditions:
    """The conditions that ``adata`` records."""
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
    categorical, numeric = _covariates_of(self)
    wanted = (
        (REGISTRY_KEYS.BATCH_KEY, self.module.condition_on_batch),
        (REGISTRY_KEYS.CAT_COVS_KEY, categorical),
        (REGISTRY_KEYS.CONT_COVS_KEY, numeric),
    )
    return DecoderConditions(*(np.asarray(manager.get_from_registry(k))[rows] if used else None for k, used in wanted))


def _state(self: BetaVAE, key: str) -> dict[str, Any]:
    """What was registered for a field."""
    return self.registry_["field_registries"].get(key, {}).get("state_registry", {})


def _covariates_of(self: BetaVAE) -> tuple[dict[str, np.ndarray], list[str]]:
    """Categories of the categorical covariates by name, and names of the numeric ones."""
    categorical = dict(_state(self, REGISTRY_KEYS.CAT_COVS_KEY).get("mappings", {}))
    return categorical, list(_state(self, REGISTRY_KEYS.CONT_COVS_KEY).get("columns", []))


def _read_batch(self: BetaVAE, batch: Any, n_cells: int, recorded: np.ndarray | None) -> np.ndarray | None:
    """Integer codes of the batches."""
    if not self.module.condition_on_batch:
        if batch is not None:
            msg = (
                f"batch={batch!r} needs a decoder that is conditioned on batch, but this model has condition_on_batch=False. "
                "Leave batch out, or train BetaVAE(adata, condition_on_batch=True)."
            )
            raise ValueError(msg)
        return None
    categories = np.asarray(_state(self, REGISTRY_KEYS.BATCH_KEY)["categorical_mapping"])
    if batch is not None:
        return _codes(batch, categories, n_cells, "batch")
    if recorded is not None:
        return recorded
    if len(categories) == 1:
        return np.zeros((n_cells, 1), dtype=np.int64)
    msg = (
        "The decoder is conditioned on batch (condition_on_batch=True): pass adata= or indices=, the cells that the rows of z "
        f"stand for, or a batch to decode as, for example batch={_plain(categories[0])!r}."
    )
    raise ValueError(msg)


def _read_covariates(
    self: BetaVAE, given: dict[str, Any], n_cells: int, recorded: DecoderConditions
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Categorical and numeric covariates; a value that is given by name takes precedence over the recorded one."""
    categorical, numeric = _covariates_of(self)
    names = [*categorical, *numeric]
    for name in given:
        if name not in names:
            msg = (
                f"covariates has {name!r}, but the decoder is not conditioned on it.{did_you_mean(name, names)} "
                f"It is conditioned on {listed(names, empty='no covariates')}."
            )
            raise KeyError(msg)

    def column(name: str, place: int, table: np.ndarray | None, read: Callable[[Any], np.ndarray]) -> np.ndarray:
        if name in given:
            return read(given[name])
        if table is not None:
            return table[:, [place]]
        msg = (
            f"The decoder is conditioned on {listed(names)}: pass adata= or indices=, the cells that the rows of z stand for, or "
            f"values, covariates={{{name!r}: ...}}."
        )
        raise ValueError(msg)

    codes = [
        column(name, i, recorded.categorical, lambda v, n=name, c=c: _codes(v, np.asarray(c), n_cells, n))
        for i, (name, c) in enumerate(categorical.items())
    ]
    numbers = [
        column(name, i, recorded.continuous, lambda v, n=name: _numbers(v, n_cells, n))
        for i, name in enumerate(numeric)
    ]
    return (np.hstack(codes) if codes else None), (np.hstack(numbers).astype(np.float32) if numbers else None)


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


def gene_positions(names: Any, var_names: np.ndarray) -> np.ndarray | None:
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


def _codes(values: Any, categories: np.ndarray, n_cells: int, argument: str) -> np.ndarray:
    """Integer codes of category names, one for all cells or one of each."""
    values = np.asarray(values, dtype=object)
    values = np.full(n_cells, values.item(), dtype=object) if values.ndim == 0 else values
    if values.shape != (n_cells,):
        msg = f"{argument} has shape {values.shape}; pass one category, or one of each of the {n_cells} rows of z."
        raise ValueError(msg)
    place = {_plain(category): i for i, category in enumerate(categories)}
    unknown = next((v for v in values if _plain(v) not in place), None)
    if unknown is not None:
        hint = did_you_mean(unknown, place)
        msg = (
            f"{argument}={unknown!r} is not a category that the model was trained on.{hint} Those are {listed(place)}."
        )
        raise ValueError(msg)
    return np.array([place[_plain(v)] for v in values], dtype=np.int64).reshape(-1, 1)


def _numbers(values: Any, n_cells: int, argument: str) -> np.ndarray:
    """Finite numbers of shape (n_cells, 1), from one for all cells or one of each."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{argument} does not hold numbers. Pass a number, or one of each of the {n_cells} rows of z."
        raise TypeError(msg) from error
    numbers = numbers[:, 0] if numbers.ndim == 2 and numbers.shape[1] == 1 else numbers
    if numbers.ndim and numbers.shape != (n_cells,):
        msg = f"{argument} has shape {numbers.shape}; pass one number, or one of each of the {n_cells} rows of z."
        raise ValueError(msg)
    if not np.isfinite(numbers).all():
        msg = f"{argument} holds NaN or infinite values."
        raise ValueError(msg)
    return np.broadcast_to(numbers, (n_cells,)).reshape(-1, 1)


def _plain(value: Any) -> Any:
    """A number or text of Python."""
    return value.item() if isinstance(value, np.generic) else value
