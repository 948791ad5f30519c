"""From ``BetaVAE(objective=..., beta=..., objective_kwargs=...)`` to a regularizer, or to an error that says what to do."""

from __future__ import annotations

import difflib
import math
from inspect import signature
from numbers import Real
from typing import Any

from ._regularizers import (
    BetaTCVAERegularizer,
    BetaVAERegularizer,
    CapacityRegularizer,
    DIPVAEIIRegularizer,
    DIPVAEIRegularizer,
    FactorVAERegularizer,
    Regularizer,
)

REGULARISERS: dict[str, type[Regularizer]] = {
    r.name: r
    for r in (
        BetaVAERegularizer,
        CapacityRegularizer,
        BetaTCVAERegularizer,
        FactorVAERegularizer,
        DIPVAEIRegularizer,
        DIPVAEIIRegularizer,
    )
}
"""Regularizers that ``BetaVAE(objective=...)`` knows."""

DEFAULT_OBJECTIVE = "beta_tcvae"
"""Objective of a model by default: ``benchmarks/recipe.py --arms objectives`` compares it with the plain one."""

DEFAULT_BETA = 2.0
"""Beta of the objectives that have one."""


def make_regularizer(
    objective: str,
    n_latent: int,
    objective_kwargs: dict[str, Any] | None = None,
    *,
    beta: float = DEFAULT_BETA,
    latent_distribution: str = "normal",
) -> Regularizer:
    """Build the regularizer of an objective.

    Parameters
    ----------
    objective
        Name of the objective.
    n_latent
        Number of latent dimensions.
    objective_kwargs
        Arguments of the objective.
    beta
        Beta of the model.
    latent_distribution
        Distribution of the codes, ``"normal"`` or ``"ln"``.

    Returns
    -------
    The regularizer.

    Raises
    ------
    ValueError
        For a name that is not an objective, with the nearest that is, or a value that an argument does not take.
    TypeError
        For an argument that the objective does not take, with those that it does.
    """
    if objective not in REGULARISERS:
        nearest = difflib.get_close_matches(str(objective), REGULARISERS, n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        msg = f"objective={objective!r} is not an objective.{hint} Take one of {sorted(REGULARISERS)}."
        raise ValueError(msg)
    regularizer_cls = REGULARISERS[objective]
    objective_kwargs = dict(objective_kwargs or {})
    allowed = sorted(set(signature(regularizer_cls).parameters) - {"n_latent"})
    for name in objective_kwargs:
        if name not in allowed:
            nearest = difflib.get_close_matches(name, allowed, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            takes = f"It takes {allowed}." if allowed else "It takes none: its strength is beta."
            msg = f"objective_kwargs has {name!r}, which objective={objective!r} does not take.{hint} {takes}"
            raise TypeError(msg)
    if regularizer_cls.needs_gaussian_codes and latent_distribution != "normal":
        msg = (
            f'objective={objective!r} needs latent_distribution="normal": the codes of {latent_distribution!r} '
            "lie on a simplex, where no two dimensions are independent."
        )
        raise ValueError(msg)
    if objective == "factor_vae" and objective_kwargs.get("gamma") is None and beta < 1:
        msg = (
            f"objective='factor_vae' takes beta - 1 as gamma, but beta={beta:g} is below 1. "
            "Give objective_kwargs={'gamma': ...}."
        )
        raise ValueError(msg)
    return regularizer_cls(n_latent, **objective_kwargs)


def check_beta(beta: float | None, objective: str = "beta_vae") -> float:
    """Return the beta of a model.

    Parameters
    ----------
    beta
        Weight of the regularizer, in nats per nat; ``None`` takes 2 where the objective has a beta.
    objective
        Name of the objective.

    Returns
    -------
    Beta; 1 for an objective that has none, the scale that a schedule moves over.

    Raises
    ------
    ValueError
        If it is not a finite number of at least 0, or the objective has no beta.
    """
    uses_beta = objective not in REGULARISERS or REGULARISERS[objective].uses_beta
    if beta is None:
        return DEFAULT_BETA if uses_beta else 1.0
    if isinstance(beta, bool) or not isinstance(beta, Real) or not math.isfinite(beta) or beta < 0:
        msg = (
            f"beta={beta!r} is not a weight. Give a finite number of at least 0: 1 is a plain VAE, "
            "above 1 favors fewer and more independent dimensions, below 1 favors reconstruction."
        )
        raise ValueError(msg)
    if not uses_beta and beta != 1:
        allowed = sorted(set(signature(REGULARISERS[objective]).parameters) - {"n_latent"})
        msg = (
            f"objective={objective!r} has no beta, but beta={beta!r} was given. Leave beta out; "
            f"the strength of this objective is in objective_kwargs={{...}}, which takes {allowed}."
        )
        raise ValueError(msg)
    return float(beta)
