"""Register guided covariates: columns of ``.obs`` as codes and numbers that the network reads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi.data.fields import BaseAnnDataField

from scbetavae._core.checks import check_key
from scbetavae._core.columns import as_classes, class_texts, holds_fractions, holds_numbers, names_in_order, obs_of
from scbetavae._core.constants import GUIDED_KEY
from scbetavae._core.text import listed
from scbetavae.module import GuidedCovariate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)

FEWEST_CELLS = 20
"""Cells of a level below which it cannot be guided."""

_OBSM_KEY = "_scvi_guided"
_EXACT = 2**24  # whole numbers up to which float32 tells neighbors apart


class GuidedField(BaseAnnDataField):
    """Guided covariates in ``.obsm``: a number of the cell, then a code or number of each covariate, NaN where it is missing.

    Parameters
    ----------
    keys
        Columns of ``.obs``.
    continuous
        Those that hold numbers even though they are whole.
    """

    registry_key: Any = GUIDED_KEY
    attr_name: Any = "obsm"
    attr_key: Any = _OBSM_KEY
    is_empty: Any = False

    def __init__(self, keys: Sequence[str], continuous: Sequence[str] = ()) -> None:
        super().__init__()
        self.keys, self.continuous = list(keys), list(continuous)

    def validate_field(self, adata: AnnData) -> None:
        """Refuse columns that are missing."""
        super().validate_field(adata)
        for key in self.keys:
            if key not in adata.obs:
                msg = (
                    f"The model is guided by {key!r}, which adata.obs does not have. Add it; to have it inferred from the "
                    f"counts, as missing: adata.obs[{key!r}] = np.nan."
                )
                raise KeyError(msg)

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Decide what each column holds, and write the codes."""
        self.validate_field(adata)
        state: dict[str, Any] = {"keys": self.keys, "levels": [], "mean": [], "sd": []}
        for key in self.keys:
            column = obs_of(adata)[key]
            levels, mean, sd = (
                _read_numbers(column) if is_numeric(column, key in self.continuous) else _read_levels(column)
            )
            for name, value in (("levels", levels), ("mean", mean), ("sd", sd)):
                state[name].append(value)
        self._write(adata, state)
        return state

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Write the codes of other cells; levels that the model does not know are inferred, or refused.

        scvi-tools passes ``extend_categories`` when a query is loaded; :func:`load_query_data` has asked before.
        """
        self.validate_field(adata_target)
        for key, new in unknown_levels(adata_target, state_registry).items():
            if not kwargs.get("extend_categories"):
                msg = (
                    f"adata.obs[{key!r}] has {listed(new)}, which the model does not know. Map such cells with "
                    f"BetaVAE.load_query_data(adata, model, new_levels='infer'), or set them to missing to have the level "
                    "inferred."
                )
                raise ValueError(msg)
        self._write(adata_target, state_registry)
        return state_registry

    def get_summary_stats(self, state_registry: dict) -> dict[str, int]:
        """Number of guided covariates."""
        return {f"n_{GUIDED_KEY}_covariates": len(state_registry["keys"])}

    def view_state_registry(self, state_registry: dict) -> Any:
        """No table."""
        return None

    def _write(self, adata: AnnData, state: Mapping[str, Any]) -> None:
        """Codes and numbers of the cells."""
        columns = [np.arange(adata.n_obs) % _EXACT]
        for key, levels in zip(state["keys"], state["levels"], strict=True):
            column = obs_of(adata)[key]
            columns.append(numbers_of(column) if not levels else codes_of(column, levels))
        adata.obsm[_OBSM_KEY] = np.column_stack(columns).astype(np.float64)


def is_numeric(column: pd.Series, is_named: bool) -> bool:
    """Whether a column is read as numbers: those with fractions, and those named by the user."""
    return holds_fractions(column) or (is_named and holds_numbers(column))


def codes_of(column: pd.Series, levels: Sequence[str]) -> np.ndarray:
    """Code of each cell's level, NaN where it is missing or not among ``levels``."""
    place = {level: float(i) for i, level in enumerate(levels)}
    return class_texts(column, "guided_keys").map(place).to_numpy(dtype=np.float64, na_value=np.nan)


def numbers_of(column: pd.Series) -> np.ndarray:
    """Values of a numeric column."""
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def unknown_levels(adata: AnnData, state: Mapping[str, Any]) -> dict[str, list[str]]:
    """Levels of other cells that a registered state does not have, by column."""
    found = {}
    for key, levels in zip(state["keys"], state["levels"], strict=True):
        if levels and key in adata.obs:
            new = set(class_texts(obs_of(adata)[key], "guided_keys").dropna()) - set(levels)
            if new:
                found[key] = sorted(new)
    return found


def guided_covariates(registry: Mapping[str, Any] | None) -> tuple[GuidedCovariate, ...]:
    """Guided covariates of a registry; none without them."""
    state = None if registry is None else registry["field_registries"].get(GUIDED_KEY, {}).get("state_registry")
    if not state:
        return ()
    parts = zip(state["keys"], map(len, state["levels"]), state["mean"], state["sd"], strict=True)
    return tuple(GuidedCovariate(*part) for part in parts)


def check_guided_columns(adata: AnnData, keys: Sequence[str], continuous: Sequence[str], batch_key: str | None) -> None:
    """Refuse columns that cannot be guided, before any work."""
    for key in keys:
        check_key(key, list(adata.obs.columns), "guided_keys", "adata.obs")
    twice = sorted({key for key in keys if list(keys).count(key) > 1})
    unknown = [key for key in continuous if key not in keys]
    if twice or unknown:
        msg = (
            f"guided_keys has {listed(twice)} twice. Pass every column once."
            if twice
            else f"continuous_guided_keys has {listed(unknown)}, which guided_keys does not have. Name them in both."
        )
        raise ValueError(msg)
    for key in keys:
        column = obs_of(adata)[key]
        if key in continuous and not is_numeric(column, is_named=True):
            msg = f"continuous_guided_keys has {key!r}, which does not hold numbers. Leave it out to guide by its categories."
            raise TypeError(msg)
        if is_numeric(column, key in continuous):
            _check_numbers(column, key)
            if key == batch_key:
                msg = f"guided_keys has {key!r}, the batch, which holds fractions. Batches are categories: cut it with pd.cut."
                raise ValueError(msg)
        else:
            _check_levels(column, key)


def _check_levels(column: pd.Series, key: str) -> None:
    """Refuse a column of one level, and levels of few cells."""
    sizes = class_texts(as_classes(column, "guided_keys"), "guided_keys").value_counts()
    if len(sizes) < 2:
        msg = f"guided_keys has {key!r}, which takes {len(sizes)} value. A guided covariate needs two levels. Leave it out."
        raise ValueError(msg)
    small = sizes[sizes < FEWEST_CELLS]
    if len(small):
        name = small.index[0]
        amount = f"If {key!r} is an amount, pass continuous_guided_keys=[{key!r}]; otherwise merge"
        remedy = amount if holds_numbers(column) else "Merge"
        msg = (
            f"{len(small)} levels of guided_keys {key!r} have fewer than {FEWEST_CELLS} cells, {name!r} has {small.iloc[0]}: too "
            f"few to learn its effect. {remedy} them with another level: adata.obs[{key!r}] = "
            f"adata.obs[{key!r}].replace({{{name!r}: ...}}); or set them to missing to have their level inferred."
        )
        raise ValueError(msg)


def _check_numbers(column: pd.Series, key: str) -> None:
    """Refuse numbers that are infinite, hardly known or all alike."""
    values = numbers_of(column)
    known = values[~np.isnan(values)]
    if not np.isfinite(known).all():
        msg = f"guided_keys has {key!r}, which holds infinite values. Set them to missing: np.nan."
        raise ValueError(msg)
    if len(known) < FEWEST_CELLS or known.std() <= 1e-9 * max(np.abs(known).max(), 1e-300):
        msg = f"guided_keys has {key!r}, which is known for {len(known)} cells or constant. Leave it out."
        raise ValueError(msg)


def _read_levels(column: pd.Series) -> tuple[list[str], float, float]:
    """Levels in order."""
    classes = as_classes(column, "guided_keys")
    return names_in_order(classes, class_texts(classes, "guided_keys")), 0.0, 1.0


def _read_numbers(column: pd.Series) -> tuple[list[str], float, float]:
    """Mean and standard deviation."""
    values = numbers_of(column)
    known = values[~np.isnan(values)]
    return [], float(known.mean()), float(known.std())
