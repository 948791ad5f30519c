"""The objectives by name, and what ``BetaVAE(objective=..., beta=..., objective_kwargs=...)`` makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from scbetavae._core.checks import check_choice, check_number
from scbetavae._core.text import listed

from ._objective import Objective

OBJECTIVES: dict[str, type[Objective]] = {}
"""Objectives that ``BetaVAE(objective=...)`` knows, by name."""

DEFAULT_OBJECTIVE = "beta_tcvae"  # benchmarks/recipe.py --arms objectives compares it with the plain one
DEFAULT_BETA = 2.0
GUIDED_BETA = 4.0  # benchmarks/guided.py

ObjectiveClass = TypeVar("ObjectiveClass", bound=type[Objective])


def register_objective(cls: ObjectiveClass) -> ObjectiveClass:
    """Make a subclass of :class:`Objective` available as ``BetaVAE(objective=name)``; usable as a decorator.

    A saved model stores the name, so register the class before loading the model. Returns the class.

    Raises
    ------
    TypeError
        If it is not a subclass of :class:`Objective`.
    ValueError
        If it has no name, or another class has it. A class defined again in a notebook replaces the earlier one.

    Examples
    --------
    >>> from scbetavae.module import OBJECTIVES, Objective, register_objective
    >>> @register_objective
    ... class Mine(Objective):
    ...     name = "mine"
    >>> OBJECTIVES.pop("mine").name
    'mine'
    """
    if not (isinstance(cls, type) and issubclass(cls, Objective)):
        msg = f"{cls!r} is not an objective. Pass a subclass of scbetavae.module.Objective."
        raise TypeError(msg)
    if not isinstance(cls.name, str) or not cls.name.isidentifier():
        msg = f"{cls.__name__}.name is {cls.name!r}. Set the class attribute `name` to an identifier such as 'my_objective'."
        raise ValueError(msg)
    taken = OBJECTIVES.get(cls.name)
    defined_again = taken is not None and cls.__module__ == taken.__module__ == "__main__"
    if taken is not None and taken is not cls and not defined_again:
        msg = f"name={cls.name!r} is the name of {taken.__module__}.{taken.__qualname__}. Choose another name."
        raise ValueError(msg)
    OBJECTIVES[cls.name] = cls
    return cls


def resolve_objective(
    objective: str | type[Objective] | None,
    beta: float | None = None,
    objective_kwargs: Mapping[str, Any] | None = None,
    latent_distribution: str = "normal",
    *,
    is_guided: bool = False,
) -> tuple[str, float]:
    """Name of the objective and beta of a model, after all checks that need no network; a class is registered.

    By default ``"beta_tcvae"`` and 2, with guided covariates ``"beta_vae"`` and 4, with a logistic normal ``"beta_vae"`` and 2;
    beta is 1 for an objective without beta, the scale of its schedule. Unknown names and values are a ValueError, unknown
    arguments a TypeError.
    """
    default_beta = GUIDED_BETA if is_guided else DEFAULT_BETA
    if objective is None and is_guided:  # wide posteriors, from which the mutual information can be estimated
        objective = "beta_vae"
    if objective is None:  # no two dimensions of a simplex are independent
        objective = DEFAULT_OBJECTIVE if latent_distribution == "normal" else "beta_vae"
    if isinstance(objective, type):
        objective = register_objective(objective).name
    hint = " Register a class of your own with scbetavae.module.register_objective."
    check_choice(objective, OBJECTIVES, "objective", hint=hint)
    cls = OBJECTIVES[objective]
    beta = (default_beta if cls.uses_beta else 1.0) if beta is None else check_number(beta, "beta", 0)
    if not cls.uses_beta and beta != 1:
        msg = (
            f"objective={objective!r} has no beta, but beta={beta:g} was given. Leave beta out; objective_kwargs sets the "
            f"strength of this objective: {listed(cls.arguments)}."
        )
        raise ValueError(msg)
    cls.check(objective_kwargs or {}, beta)
    if cls.needs_gaussian_posterior and latent_distribution != "normal":
        msg = (
            f'objective={objective!r} needs latent_distribution="normal": a latent representation with '
            f"{latent_distribution!r} lies on a simplex, where no two dimensions are independent."
        )
        raise ValueError(msg)
    return objective, beta
