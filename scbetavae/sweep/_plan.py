"""Which runs a sweep is made of."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

OBJECTIVES = ("beta_vae", "beta_tcvae", "factor_vae", "capacity", "dip_vae_i", "dip_vae_ii")
WITHOUT_BETA = ("capacity", "dip_vae_i", "dip_vae_ii")
"""Objectives whose strength is not beta: they are trained once a seed, beside the grid."""

BASELINES = ("pca", "ica")
BASELINE_SEED = 0


@dataclass(frozen=True)
class Run:
    """One training, or one baseline."""

    method: str
    """Objective, or name of the baseline."""
    beta: float | None
    """``None`` for a baseline and for an objective without beta."""
    seed: int

    @property
    def is_baseline(self) -> bool:
        """Whether nothing is trained."""
        return self.method in BASELINES

    @property
    def name(self) -> str:
        """Name of its folder, such as ``beta_vae-beta4-seed0``."""
        if self.is_baseline:
            return self.method
        beta = "" if self.beta is None else f"-beta{repr(self.beta).removesuffix('.0')}"
        return f"{self.method}{beta}-seed{self.seed}"

    @property
    def order(self) -> tuple[Any, ...]:
        """Place in the table: models by objective, beta and seed, then baselines."""
        known = [*OBJECTIVES, *BASELINES]
        return known.index(self.method), -1.0 if self.beta is None else self.beta, self.seed


def plan_runs(
    objectives: str | Iterable[str], betas: Iterable[float], seeds: Iterable[int], baselines: str | Iterable[str] | None
) -> list[Run]:
    """Runs in the order in which they are done: baselines, then the whole grid of one seed after that of the other.

    Parameters
    ----------
    objectives, betas, seeds, baselines
        As for :func:`scbetavae.sweep.beta_sweep`.

    Raises
    ------
    TypeError
        If betas or seeds are no sequence of numbers.
    ValueError
        If one of them is empty or holds what is not allowed.
    """
    objectives = _names(objectives, OBJECTIVES, "objectives")
    baselines = _names(() if baselines is None else baselines, BASELINES, "baselines")
    if not objectives:
        msg = f"objectives is empty: name at least one of {', '.join(OBJECTIVES)}."
        raise ValueError(msg)
    betas = _betas(betas)
    seeds = _seeds(seeds)
    runs = [Run(name, None, BASELINE_SEED) for name in baselines]
    for seed in seeds:
        for objective in objectives:
            values = (None,) if objective in WITHOUT_BETA else betas
            runs += [Run(objective, beta, seed) for beta in values]
    return runs


def _names(names: str | Iterable[str], known: tuple[str, ...], argument: str) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            msg = f"{argument} has {name!r}, which is not known.{hint} Known: {', '.join(known)}."
            raise ValueError(msg)
    return tuple(dict.fromkeys(names))


def _betas(betas: Iterable[float]) -> tuple[float, ...]:
    for beta in _values(betas, "betas", "(0.1, 1, 4)"):
        if isinstance(beta, bool) or not isinstance(beta, Real) or not math.isfinite(beta) or beta < 0:
            msg = f"betas has {beta!r}, which is not a weight. Give finite numbers of at least 0, such as (0.1, 1, 4)."
            raise ValueError(msg)
    return tuple(dict.fromkeys(float(beta) for beta in betas))


def _seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    for seed in _values(seeds, "seeds", "(0, 1, 2)"):
        if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**32:
            msg = f"seeds has {seed!r}, which is not a seed. Give whole numbers from 0 to 2**32 - 1, such as (0, 1, 2)."
            raise ValueError(msg)
    return tuple(dict.fromkeys(int(seed) for seed in seeds))


def _values(values: Iterable[Any], argument: str, example: str) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        msg = f"{argument}={values!r} is not a sequence. Give several values, such as {example}."
        raise TypeError(msg)
    values = list(values)
    if not values:
        msg = f"{argument} is empty: give at least one value, such as {example}."
        raise ValueError(msg)
    return values
