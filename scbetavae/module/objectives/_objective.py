"""The base class of objectives: a regularizer of the latent space, and a record of its arguments and what it logs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from scbetavae._core.checks import check_arguments, check_choice, check_number, check_whole_number


@dataclass(frozen=True)
class Parameter:
    """One argument of an objective.

    Parameters
    ----------
    default
        Value by default; ``None`` leaves the choice to the objective.
    low, high, open_, whole
        Range of a number, the ends that are excluded (``"low"``, ``"high"`` or ``"both"``), and whether it is an integer.
    choices
        Allowed names, for an argument that is not a number.
    """

    default: float | str | None
    low: float = 0.0
    high: float = math.inf
    open_: str = ""
    whole: bool = False
    choices: tuple[str, ...] = ()

    def check(self, value: Any, argument: str) -> Any:
        """The value, if it is allowed; otherwise a ValueError that names the argument."""
        if value is None and self.default is None:
            return None
        if self.choices:
            check_choice(value, self.choices, argument)
            return value
        if self.whole:
            return check_whole_number(value, argument, int(self.low))
        return check_number(value, argument, self.low, self.high, open_=self.open_)


@dataclass(frozen=True)
class Posterior:
    """What an objective sees of a minibatch: tensors of shape ``(cells, dims)``.

    Parameters
    ----------
    z, mean, variance
        One sample of the posterior per cell, and the moments of the posterior.
    kl
        KL divergence from the standard normal prior in nats.
    n_obs
        Number of training cells.
    """

    z: Tensor
    mean: Tensor
    variance: Tensor
    kl: Tensor
    n_obs: int


@dataclass(frozen=True)
class Penalty:
    """Value of an objective on a minibatch, scalars in nats per cell.

    Parameters
    ----------
    running, full
        The regularizer annealed by ``r(t)``, which enters the loss, and at full beta.
    parts
        Scalars to write to the history, by name.
    """

    running: Tensor
    full: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def annealed(cls, full: Tensor, fraction: float, **parts: Tensor) -> Penalty:
        """The penalty of a regularizer that is scaled by the schedule; ``parts`` are logged without gradient."""
        return cls(fraction * full, full, {name: part.detach() for name, part in parts.items()})


class Objective(torch.nn.Module):
    r"""Base of the objectives: the regularizer :math:`R` of ``loss = NLL + r(t) R``.

    A subclass sets the class attributes and computes :math:`R` in :meth:`forward`. Register it with
    :func:`register_objective`, or pass the class to ``BetaVAE(objective=...)``. Each entry of ``arguments`` becomes an
    attribute of the same name. If ``has_discriminator``, it also has a network ``discriminator`` and a method
    ``discriminator_step(z, generator)`` that returns the loss and the accuracy of this network.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    **arguments
        Values for ``arguments``, checked by :meth:`check`; the others take their default.

    Examples
    --------
    >>> from scbetavae.module import Objective, Parameter, Penalty
    >>> class MeanPenalty(Objective):
    ...     name, title = "mean_penalty", "Penalty of the posterior means"
    ...     arguments = {"weight": Parameter(1.0)}
    ...
    ...     def forward(self, posterior, beta, fraction):
    ...         full = posterior.kl.sum(dim=1).mean() + self.weight * posterior.mean.mean(dim=0).square().sum()
    ...         return Penalty.annealed(full, fraction)
    >>> MeanPenalty(10, weight=3.0).weight
    3.0
    """

    name: ClassVar[str] = ""
    """What ``BetaVAE(objective=...)`` takes."""
    title: ClassVar[str] = ""
    """Name in plots and tables."""
    reference: ClassVar[str] = ""
    """Key of the citation in the documentation's bibliography."""
    uses_beta: ClassVar[bool] = False
    """Whether beta enters the regularizer."""
    needs_gaussian_posterior: ClassVar[bool] = False
    """Whether samples must come from a Gaussian posterior, so that a logistic normal is refused."""
    has_discriminator: ClassVar[bool] = False
    """Whether it trains a discriminator with an optimizer of its own."""
    arguments: ClassVar[Mapping[str, Parameter]] = {}
    """What ``objective_kwargs`` takes."""
    history: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Quantities that it writes to the training history, with title and unit."""
    neutral: ClassVar[Mapping[str, Any] | None] = None
    """Arguments, beta included, with which the model is a plain VAE; ``None`` if there are none."""

    if TYPE_CHECKING:  # arguments are attributes

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, n_latent: int, **arguments: Any) -> None:
        super().__init__()
        self.n_latent = n_latent
        for name, value in self.check(arguments).items():
            setattr(self, name, value)

    @classmethod
    def check(cls, arguments: Mapping[str, Any], beta: float = 1.0) -> dict[str, Any]:  # noqa: ARG003 - for subclasses
        """Values of all arguments by name, defaults included; ``beta`` of the model is for arguments that depend on it.

        Raises
        ------
        TypeError
            For an argument that the objective does not take.
        ValueError
            For a value that is not allowed.
        """
        check_arguments(arguments, cls.arguments, f"objective={cls.name!r} in objective_kwargs")
        given = {name: parameter.default for name, parameter in cls.arguments.items()} | dict(arguments)
        return {name: cls.arguments[name].check(value, f"objective_kwargs[{name!r}]") for name, value in given.items()}

    def forward(self, posterior: Posterior, beta: float, fraction: float) -> Penalty:
        """Penalty of a minibatch, for beta at the end of the warm-up and the fraction ``r(t)`` of this minibatch."""
        raise NotImplementedError
