"""Counterfactuals of covariates that the decoder reads: guided ones, and those that it is conditioned on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scbetavae._core.checks import check_choice
from scbetavae._core.text import listed

from ._counterfactual_moves import METHODS
from ._decoding_inputs import has_conditions
from ._guided import at_coordinates, coordinates_of
from ._guided_field import guided_covariates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from ._betavae import BetaVAE
    from ._counterfactual_design import Design
    from ._latent import Latent

GUIDED, CONDITIONED = DECODER_METHODS = ("guided", "conditioned")

AGREEING = 0.2
"""Standard deviation of the log ratio of library sizes over groups up to which they agree on it."""

_SAMPLES, _MOST_CELLS = 20, 500


class Change(NamedTuple):
    """What changes in the decoder's input: coordinates in guided dimensions, or arguments of :meth:`BetaVAE.decode`."""

    coordinates: np.ndarray | None
    arguments: dict[str, Any]


def decoder_method(self: BetaVAE, covariates: list[str]) -> str | None:
    """``"guided"`` or ``"conditioned"`` if the decoder reads all of these covariates in one of the two ways.

    A ValueError if it is conditioned on some of them only.
    """
    setup = self.registry_["setup_args"]
    conditioned = list(setup.get("categorical_covariate_keys") or ())
    if self.module.condition_on_batch:
        conditioned.append(setup.get("batch_key"))
    guided = [covariate.name for covariate in guided_covariates(self.registry_)]
    for method, names in ((GUIDED, guided), (CONDITIONED, conditioned)):
        if all(name in names for name in covariates):
            return method
    some = [name for name in covariates if name in conditioned]
    if some:
        msg = f"The decoder is conditioned on {listed(some)} alone. Change this and the other covariates one after the other."
        raise ValueError(msg)
    return None


def change_to(self: BetaVAE, target: Mapping[str, str], method: str) -> Change:
    """The decoder's input for these levels."""
    if method == GUIDED:
        return Change(coordinates_of(self, target).cpu().numpy(), {})
    batch_key = self.registry_["setup_args"].get("batch_key") if self.module.condition_on_batch else None
    others = {name: level for name, level in target.items() if name != batch_key}
    return Change(None, {"covariates": others or None, "batch": target.get(batch_key) if batch_key else None})


def move_guided(self: BetaVAE, means: np.ndarray, change: Change) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of cells after a change, and which dimensions moved."""
    moved = np.zeros(means.shape[1], dtype=bool)
    if change.coordinates is None:
        return means.copy(), moved
    moved[self.module.n_latent :] = np.isfinite(change.coordinates)
    return at_coordinates(self, means, change.coordinates), moved


def library_ratio(totals: np.ndarray, design: Design) -> float:
    """Ratio of the library sizes of target and source cells; 1 if the groups do not agree on it."""
    logs = []
    for group in design.training_groups:
        source, target = design.pair(group, fitted=True)
        logs.append(np.log(totals[target].mean() / totals[source].mean()))
    if len(logs) < 2 or np.std(logs, ddof=1) >= AGREEING:
        return 1.0
    return float(np.exp(np.mean(logs)))


def effect_intervals(
    self: BetaVAE, adata: AnnData, rows: np.ndarray, latent: Latent, change: Change, seed: int
) -> np.ndarray:
    """Log2 fold changes of genes, and 95% intervals over draws from the posterior, array of shape (3, n_genes)."""
    rng = np.random.default_rng([seed, 2])
    if len(rows) > _MOST_CELLS:
        rows = np.sort(rng.choice(rows, _MOST_CELLS, replace=False))
    n_free = self.module.n_latent
    sd = np.sqrt(latent.variances[rows]) if latent.variances is not None else np.zeros_like(latent.means[rows])
    sd[:, n_free:] = 0.0
    is_conditioned = change.coordinates is None
    cells = {"adata": adata, "indices": rows} if is_conditioned or has_conditions(self) else {}
    draws = []
    for _ in range(_SAMPLES):
        z = (latent.means[rows] + sd * rng.normal(size=sd.shape)).astype(np.float32)
        after, _ = move_guided(self, z, change)
        before = self.decode(z, **cells).mean(axis=0, dtype=np.float64)
        draws.append(np.log2(self.decode(after, **cells, **change.arguments).mean(axis=0, dtype=np.float64) / before))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return np.stack([np.mean(draws, axis=0), low, high])


def resolve_method(self: BetaVAE, method: str | None, levels: Mapping[str, Any], dimensions: list[int] | None) -> str:
    """The method, by default that of the decoder where it reads the covariates; a ValueError where they do not go together."""
    reads = decoder_method(self, list(levels))
    if method is None:
        method = reads or METHODS[0]
    check_choice(method, (*METHODS, *DECODER_METHODS), "method")
    names = listed(levels)
    if method in DECODER_METHODS and method != reads:
        msg = (
            f"method={method!r} needs a decoder for which {names} is {method}. Leave method out, or set the data up so."
        )
        raise ValueError(msg)
    if method not in DECODER_METHODS and reads == CONDITIONED:
        msg = (
            f"The decoder is conditioned on {names}, so the latent dimensions that method={method!r} moves do not encode it. "
            "Leave method out."
        )
        raise ValueError(msg)
    if method in DECODER_METHODS and dimensions is not None:
        msg = f"dimensions={dimensions} cannot be chosen with method={method!r}. Leave them out."
        raise ValueError(msg)
    return method
