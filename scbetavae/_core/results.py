"""Results in ``.uns["betavae"]``: written here, read here, and tied to the embedding that they describe.

Every result carries a fingerprint of its embedding: for a few cells, by name, one number, a fixed weighted sum of the
cell's coordinates. Cells are known by name, so that a subset or another order of the same cells does not differ. Numbers,
not hashes, so that rounding on another device does not differ either, while one more epoch of training does. Cells that are
gone, or whose names are not unique, say nothing, and neither does an embedding that is gone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scbetavae._core import keys as _keys

if TYPE_CHECKING:
    from anndata import AnnData

_logger = logging.getLogger(__name__)

_CELLS = 32
_CHANGED = 0.05  # of the spread over cells: far more than another device changes, far less than an epoch of training
_ROUNDING = 1e-6  # of the largest number
_SUFFIXES = ("", *(suffix for name, suffix in vars(_keys).items() if name.endswith("_SUFFIX")))


def store(
    adata: AnnData,
    key_added: str,
    tables: Mapping[str, pd.DataFrame],
    parameters: Mapping[str, Any],
    embeddings: Mapping[str, Any] | str,
) -> None:
    """Write a result: ``tables`` by the suffix of their name, the parameters that are not ``None``, and the fingerprint.

    ``embeddings`` are what the result describes: arrays of shape (n_cells, n_dims) by the entry of ``.obsm`` that holds them, or
    will; or the fingerprint of the result from which this one is derived, empty if it has none.
    """
    stored = dict(adata.uns.get(_keys.UNS, {}))
    stored |= {f"{key_added}{suffix}": table for suffix, table in tables.items()}
    described = {name: value for name, value in parameters.items() if value is not None}
    text = embeddings if isinstance(embeddings, str) else _fingerprint(adata, embeddings)
    if text:
        described[_keys.FINGERPRINT] = text
    stored[f"{key_added}{_keys.PARAMS_SUFFIX}"] = described
    adata.uns[_keys.UNS] = stored


def read(adata: AnnData, key: str, make: str, suffix: str = "") -> pd.DataFrame:
    """A table of a result that describes the current ``.obsm``; ``make`` is the call that makes it, for messages.

    It is a KeyError if there is no such table, a ValueError if it describes an earlier embedding.
    """
    table = adata.uns.get(_keys.UNS, {}).get(f"{key}{suffix}")
    if not isinstance(table, pd.DataFrame):
        msg = (
            f"There is no table in {_where(key, suffix)}. Training removes the results of the model before it. "
            f"Make it with `{make}`."
        )
        raise KeyError(msg)
    changed = [name for name in _described(adata, key) if not describes(adata, key, name)]
    if changed:
        msg = (
            f"{_where(key, suffix)} describes an earlier embedding: adata.obsm[{changed[0]!r}] has changed since, for "
            f"example by another training. Make it again with `{make}`."
        )
        raise ValueError(msg)
    return table


def parameters(adata: AnnData, key: str) -> dict[str, Any]:
    """How a result was made; empty if that is not known."""
    found = adata.uns.get(_keys.UNS, {}).get(f"{key}{_keys.PARAMS_SUFFIX}")
    return dict(found) if isinstance(found, Mapping) else {}


def describes(adata: AnnData, key: str, obsm_key: str) -> bool:
    """Whether a result is about this entry of ``.obsm`` as it is now. One without a fingerprint may be about any."""
    described = json.loads(parameters(adata, key).get(_keys.FINGERPRINT, "{}"))
    if not described:
        return True
    if obsm_key not in described:
        return False
    return obsm_key not in adata.obsm or any(
        _agrees(adata, adata.obsm[obsm_key], sketch, _CHANGED) for sketch in described[obsm_key]
    )


def retire(adata: AnnData) -> None:
    """After a training: drop the results of the previous latent representation, and note which embedding it was.

    The embedding itself stays, because the user assigned it: :func:`check_embedding` refuses it until it is replaced.
    """
    stored = dict(adata.uns.get(_keys.UNS, {}))
    recorded = [name.removesuffix(_keys.PARAMS_SUFFIX) for name in stored if name.endswith(_keys.PARAMS_SUFFIX)]
    kept = {key for key in recorded if _described(adata, key) and _keys.LATENT not in _described(adata, key)}
    of_others = {f"{key}{suffix}" for key in kept for suffix in _SUFFIXES} | {_keys.HISTORY, _keys.CONFOUNDING}
    earlier = {_keys.LATENT, _keys.LATENT_ZEROED}
    earlier |= {parameters(adata, key).get("zeroed_key") for key in recorded if key not in kept}
    of_this = [n for n, entry in stored.items() if isinstance(entry, pd.DataFrame) or n.endswith(_keys.PARAMS_SUFFIX)]
    dropped = [name for name in of_this if name not in of_others]
    obsm = adata.obsm or {}  # None in an AnnCollection
    text = _fingerprint(adata, {name: obsm[name] for name in sorted(filter(None, earlier)) if name in obsm})
    for name in (*dropped, *([_keys.EARLIER] if _keys.EARLIER in stored else [])):
        del stored[name]
    if text:
        stored[_keys.EARLIER] = {_keys.FINGERPRINT: text}
    if dropped:
        _logger.info("Training removed the results of the previous latent representation: %s.", ", ".join(dropped))
    if dropped or text:
        adata.uns[_keys.UNS] = stored


def check_embedding(adata: AnnData, obsm_key: str) -> None:
    """Refuse, with a ValueError, an embedding from before the last training that has not been replaced."""
    noted = adata.uns.get(_keys.UNS, {}).get(_keys.EARLIER, {}).get(_keys.FINGERPRINT, "{}")
    for sketch in json.loads(noted).get(obsm_key, []):
        if adata.obs_names.isin(list(sketch["cells"])).any() and _agrees(adata, adata.obsm[obsm_key], sketch, 0.0):
            renew = f"adata.obsm[{obsm_key!r}] = model.get_latent_representation()"
            renew = renew if obsm_key == _keys.LATENT else "model.zero_batch_dimensions()"
            msg = (
                f"adata.obsm[{obsm_key!r}] was computed before the last training, so it is not that of the current model. "
                f"Replace it: {renew}. To use the earlier one, copy it to another name: "
                f"adata.obsm['X_earlier'] = adata.obsm[{obsm_key!r}].copy()."
            )
            raise ValueError(msg)


def _where(key: str, suffix: str) -> str:
    """The place of a table, for messages."""
    return f"adata.uns[{_keys.UNS!r}][{f'{key}{suffix}'!r}]"


def _described(adata: AnnData, key: str) -> dict[str, list[dict[str, Any]]]:
    """Sketches by entry of ``.obsm``."""
    return json.loads(parameters(adata, key).get(_keys.FINGERPRINT, "{}"))


def _fingerprint(adata: AnnData, embeddings: Mapping[str, Any]) -> str:
    """Sketches by entry of ``.obsm`` as text, empty if there are none.

    A sketch has the number of dimensions, and the numbers of some cells by name. Where a model describes its latent
    representation while ``.obsm`` holds another, that one is noted, too: the result is out of date only when the entry becomes
    a third.
    """
    sketches: dict[str, list[dict[str, Any]]] = {}
    names = adata.obs_names
    rows = np.flatnonzero(~names.duplicated(keep=False))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, _CELLS).astype(int))] if len(rows) else rows
    for key, embedding in embeddings.items():
        for described in (embedding, adata.obsm.get(key)):
            known = sketches.get(key, ())
            if described is None or (known and _agrees(adata, described, known[0], _CHANGED)):
                continue
            part, numbers = _coordinates(described, rows)
            # Means of a logistic normal are shares that sum to 1, and come of random draws: each call returns others.
            if part is None or ((part >= 0).all() and np.allclose(part.sum(axis=1), 1.0, atol=1e-4)):
                break
            cells = {str(name): float(f"{value:.9g}") for name, value in zip(names[rows], numbers, strict=True)}
            sketches.setdefault(key, []).append({"n_dims": int(part.shape[1]), "cells": cells})
    return json.dumps(sketches) if sketches else ""


def _agrees(adata: AnnData, embedding: Any, sketch: Mapping[str, Any], share: float) -> bool:
    """Whether an embedding is the one of a sketch on the cells that both have, up to a share of the spread."""
    cells, names = sketch["cells"], adata.obs_names
    rows = names.get_indexer_for(pd.Index(list(cells)))
    rows = rows[rows >= 0]
    rows = rows[~names[rows].duplicated(keep=False)]
    part, numbers = _coordinates(embedding, rows)
    if part is None or part.shape[1] != sketch["n_dims"]:
        return False
    before, expected = np.array(list(cells.values())), np.array([cells[str(name)] for name in names[rows]])
    allowed = share * before.std() + _ROUNDING * np.abs(before).max() if len(before) else 0.0
    return bool((np.abs(numbers - expected) <= allowed).all())


def _coordinates(embedding: Any, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Coordinates of these cells, (n_rows, n_dims), ``None`` if they are not numbers; and the number of each cell.

    The number is a weighted sum of its coordinates; no two dimensions have the same weight.
    """
    part: Any = embedding.iloc[rows] if isinstance(embedding, pd.DataFrame) else embedding[rows]
    try:
        part = np.asarray(part.toarray() if sparse.issparse(part) else part, dtype=np.float64)
    except (TypeError, ValueError):
        return None, np.zeros(0)
    return (part, part @ np.cos(np.arange(1, part.shape[1] + 1))) if part.ndim == 2 else (None, np.zeros(0))
