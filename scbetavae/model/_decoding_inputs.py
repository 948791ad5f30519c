"""What a decoder reads beside the codes: batches and covariates, one row a cell, refused before any work."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scvi import REGISTRY_KEYS

from ._cells import resolve_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData


class DecoderConditions(NamedTuple):
    """What the decoder is told of every cell; ``None`` for what it is not told."""

    batch: np.ndarray | None = None
    """Codes of the batches, shape (n_cells, 1)."""
    categorical: np.ndarray | None = None
    """Codes of the categorical covariates, shape (n_cells, n_covariates)."""
    continuous: np.ndarray | None = None
    """Numeric covariates, shape (n_cells, n_covariates)."""

    def rows(self, rows: Any) -> DecoderConditions:
        """The conditions of some cells."""
        return DecoderConditions(*(None if part is None else part[rows] for part in self))

    @property
    def is_empty(self) -> bool:
        return all(part is None for part in self)


class DecodingInputsMixin:
    """Reads batches and covariates as the decoder of this model takes them."""

    def _check_codes(self, z: Any) -> np.ndarray:
        """Codes as finite numbers of shape (n_cells, n_latent)."""
        codes = np.asarray(z)
        n_latent = self.module.n_latent
        if codes.dtype.kind not in "fiu" or codes.ndim != 2 or codes.shape[1] != n_latent:
            msg = (
                f"z has shape {codes.shape} and dtype {codes.dtype}; decode needs numbers of shape (n_cells, {n_latent}), "
                "as get_latent_representation returns them. Put a single code in a list: z[None]."
            )
            raise ValueError(msg)
        broken = np.flatnonzero(~np.isfinite(codes).all(axis=1))
        if len(broken):
            msg = f"z holds NaN or infinite values in {len(broken)} rows, the first {broken[0]}. Leave these rows out."
            raise ValueError(msg)
        return codes.astype(np.float32, copy=False)

    def _read_conditions(
        self,
        n_cells: int,
        *,
        batch: Any = None,
        covariates: Mapping[str, Any] | None = None,
        adata: AnnData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> DecoderConditions:
        """What the decoder is told of ``n_cells`` cells, from values by name or from the cells of an AnnData."""
        recorded = self._recorded_conditions(n_cells, adata, indices)
        return DecoderConditions(
            self._read_batch(batch, n_cells, recorded.batch),
            *self._read_covariates(dict(covariates or {}), n_cells, recorded),
        )

    def _recorded_conditions(self, n_cells: int, adata: AnnData | None, indices: Any) -> DecoderConditions:
        """What ``adata`` records, all ``None`` where no cells are named."""
        if adata is None and indices is None:
            return DecoderConditions()
        if adata is None and self.adata is None:
            msg = "indices name cells, but the model was trained on a data module and holds none. Pass adata= as well."
            raise ValueError(msg)
        adata = self._validate_anndata(adata)
        rows = resolve_rows(adata, indices)
        if len(rows) != n_cells:
            msg = (
                f"z has {n_cells} rows, but adata and indices name {len(rows)} cells. Give the cells that the rows of z "
                "stand for, in their order: indices=[...]."
            )
            raise ValueError(msg)
        manager = self.get_anndata_manager(adata, required=True)

        def read(key: str, told: bool) -> np.ndarray | None:
            return np.asarray(manager.get_from_registry(key))[rows] if told else None

        return DecoderConditions(
            read(REGISTRY_KEYS.BATCH_KEY, self._is_told_batch),
            read(REGISTRY_KEYS.CAT_COVS_KEY, bool(self._categories_of_covariates())),
            read(REGISTRY_KEYS.CONT_COVS_KEY, bool(self._numeric_covariates())),
        )

    @property
    def _is_told_batch(self) -> bool:
        return bool(self.module.condition_on_batch)

    def _state(self, key: str) -> dict[str, Any]:
        return self.registry_["field_registries"].get(key, {}).get("state_registry", {})

    def _categories_of_covariates(self) -> dict[str, np.ndarray]:
        return dict(self._state(REGISTRY_KEYS.CAT_COVS_KEY).get("mappings", {}))

    def _numeric_covariates(self) -> list[str]:
        return list(self._state(REGISTRY_KEYS.CONT_COVS_KEY).get("columns", []))

    def _read_batch(self, batch: Any, n_cells: int, recorded: np.ndarray | None) -> np.ndarray | None:
        if not self._is_told_batch:
            if batch is not None:
                msg = (
                    f"batch={batch!r} needs a decoder that is told the batch, but this model has condition_on_batch=False. "
                    "Leave batch out, or train BetaVAE(adata, condition_on_batch=True)."
                )
                raise ValueError(msg)
            return None
        categories = np.asarray(self._state(REGISTRY_KEYS.BATCH_KEY)["categorical_mapping"])
        if batch is not None:
            return _codes(batch, categories, n_cells, "batch")
        if recorded is not None:
            return recorded
        if len(categories) == 1:
            return np.zeros((n_cells, 1), dtype=np.int64)
        msg = (
            "This decoder is told the batch (condition_on_batch=True), and z does not hold it. Name the cells that the rows "
            f"of z stand for, adata= or indices=, or a batch to decode as, for example batch={_plain(categories[0])!r}."
        )
        raise ValueError(msg)

    def _read_covariates(
        self, given: dict[str, Any], n_cells: int, recorded: DecoderConditions
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Categorical and numeric covariates; a value that is given by name goes before the recorded one."""
        categorical, numeric = self._categories_of_covariates(), self._numeric_covariates()
        told = [*categorical, *numeric]
        for name in given:
            if name not in told:
                near = difflib.get_close_matches(str(name), told, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                msg = f"covariates names {name!r}, which the decoder is not told.{hint} It is told {told or 'no covariates'}."
                raise KeyError(msg)

        def column(name: str, place: int, table: np.ndarray | None, read: Any) -> np.ndarray:
            if name in given:
                return read(given[name])
            if table is not None:
                return table[:, [place]]
            msg = (
                f"This decoder is told {told}, and z does not hold them. Name the cells that the rows of z stand for, adata= "
                f"or indices=, or give values: covariates={{{name!r}: ...}}."
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
            f"library_size={library_size!r} cannot be read from codes. Give a number, or one of each row: the cells' totals, or "
            "model.get_latent_library_size()."
        )
        raise ValueError(msg)
    sizes = _numbers(library_size, n_cells, "library_size")
    if (sizes <= 0).any():
        msg = f"library_size holds values that are not positive, the smallest {sizes.min():g}. It counts molecules of a cell."
        raise ValueError(msg)
    return sizes


def gene_positions(names: Any, var_names: np.ndarray) -> np.ndarray | None:
    """Places of the genes in the model, in the order they are named; ``None`` for all."""
    if names is None:
        return None
    names = [names] if isinstance(names, str) else list(names)
    place = {name: i for i, name in enumerate(var_names)}
    unknown = [name for name in names if name not in place]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), [str(name) for name in var_names], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        msg = f"gene_list names {len(unknown)} genes that the model does not have, the first {unknown[0]!r}.{hint}"
        raise KeyError(msg)
    if not names or len(set(names)) < len(names):
        msg = "gene_list is empty or names a gene twice. Name every gene once, or leave it out for all genes."
        raise ValueError(msg)
    return np.array([place[name] for name in names])


def _codes(values: Any, categories: np.ndarray, n_cells: int, argument: str) -> np.ndarray:
    """Codes of category names, one for all cells or one of each."""
    values = np.asarray(values, dtype=object)
    if values.ndim == 0:
        values = np.full(n_cells, values.item(), dtype=object)
    if values.shape != (n_cells,):
        msg = f"{argument} has shape {values.shape}; give one category, or one of each of the {n_cells} rows of z."
        raise ValueError(msg)
    place = {_plain(category): i for i, category in enumerate(categories)}
    unknown = next((v for v in values if _plain(v) not in place), None)
    if unknown is not None:
        near = difflib.get_close_matches(str(unknown), [str(name) for name in place], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        msg = f"{argument}={unknown!r} is not a category that the model was trained on.{hint} Those are {list(place)}."
        raise ValueError(msg)
    return np.array([place[_plain(v)] for v in values], dtype=np.int64).reshape(-1, 1)


def _numbers(values: Any, n_cells: int, argument: str) -> np.ndarray:
    """Finite numbers of shape (n_cells, 1), from one for all cells or one of each."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{argument} holds no numbers. Give a number, or one of each of the {n_cells} rows of z."
        raise TypeError(msg) from error
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.ndim and numbers.shape != (n_cells,):
        msg = f"{argument} has shape {numbers.shape}; give one number, or one of each of the {n_cells} rows of z."
        raise ValueError(msg)
    if not np.isfinite(numbers).all():
        msg = f"{argument} holds NaN or infinite values."
        raise ValueError(msg)
    return np.broadcast_to(numbers, (n_cells,)).reshape(-1, 1)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
