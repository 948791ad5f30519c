r"""How beta moves during a run: pure functions of training progress.

A schedule gives the *fraction* of the requested beta as a function of progress, the share of the run's minibatches that
are done, in [0, 1]. It rises from 0 to 1 over the warm-up and stays at 1: the end of every run trains at the beta that was
asked for.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real
from typing import ClassVar

BetaFunction = Callable[[int], float]


@dataclass(frozen=True)
class Schedule:
    r"""Base of the warm-up schedules.

    With progress :math:`p` and warm-up :math:`w`, both fractions of the run,

    .. math:: f(p) = \begin{cases} \mathrm{ramp}(p / w) & p < w \\ 1 & p \ge w. \end{cases}

    Parameters
    ----------
    warmup
        Length of the warm-up as a fraction of the run, in [0, 1). ``0`` trains at full beta from the first minibatch.
    warmup_epochs
        Length of the warm-up in epochs (passes over the training cells). Takes the place of ``warmup``.
    warmup_steps
        Length of the warm-up in minibatches. Takes the place of ``warmup``.

    Raises
    ------
    ValueError
        If ``warmup`` is outside [0, 1), a length is negative, or both lengths are given.
    """

    warmup: float = 0.4
    warmup_epochs: int | None = None
    warmup_steps: int | None = None

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not _is_number(self.warmup) or not 0 <= self.warmup < 1:
            msg = (
                f"warmup={self.warmup!r} is not a fraction of the run in [0, 1). "
                f"For a length in epochs write {type(self).__name__}(warmup_epochs=...), in minibatches warmup_steps=...."
            )
            raise ValueError(msg)
        if self.warmup_epochs is not None and self.warmup_steps is not None:
            msg = (
                f"warmup_epochs={self.warmup_epochs!r} and warmup_steps={self.warmup_steps!r} were both given. "
                "Give one of them."
            )
            raise ValueError(msg)
        for length_name in ("warmup_epochs", "warmup_steps"):
            length = getattr(self, length_name)
            if length is not None and (not _is_number(length) or length < 0):
                msg = f"{length_name}={length!r} is not a length. Give a number of at least 0."
                raise ValueError(msg)

    def __call__(self, progress: float) -> float:
        """Fraction of beta at ``progress`` of the run, for a warm-up given as a fraction.

        Parameters
        ----------
        progress
            Share of the run that is done, in [0, 1].

        Returns
        -------
        The fraction of the requested beta, in [0, 1].

        Raises
        ------
        ValueError
            If the warm-up was given in epochs or steps, which have no meaning without a run.
        """
        if self.warmup_epochs is not None or self.warmup_steps is not None:
            msg = (
                f"{self!r} has a warm-up in epochs or steps, so it has no value at a progress alone. "
                "Use a warm-up that is a fraction of the run, or AnnealedBeta(schedule, ...).at(step)."
            )
            raise ValueError(msg)
        return self._at(progress, self.warmup)

    def ramp(self, share: float) -> float:
        """Shape of the warm-up.

        Parameters
        ----------
        share
            Share of the warm-up that is done, in [0, 1].

        Returns
        -------
        The fraction of the requested beta, 0 at the start and 1 at the end.
        """
        raise NotImplementedError

    def _at(self, progress: float, warmup: float) -> float:
        return 1.0 if progress >= warmup else self.ramp(progress / warmup)

    def _warmup_fraction(self, max_epochs: int, steps_per_epoch: int) -> float:
        """Warm-up as a fraction of a run; above 1 when the run is too short for it."""
        if self.warmup_epochs is not None:
            return self.warmup_epochs / max_epochs
        if self.warmup_steps is not None:
            return self.warmup_steps / (max_epochs * steps_per_epoch)
        return self.warmup


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    r"""Linear warm-up, :math:`\mathrm{ramp}(u) = u`.

    Parameters
    ----------
    warmup, warmup_epochs, warmup_steps
        Length of the warm-up, see :class:`Schedule`.

    Examples
    --------
    >>> from scbetavae.train import LinearSchedule
    >>> schedule = LinearSchedule(warmup=0.4)
    >>> schedule(0.0), schedule(0.2), schedule(0.4), schedule(1.0)
    (0.0, 0.5, 1.0, 1.0)
    """

    name: ClassVar[str] = "linear"

    def ramp(self, share: float) -> float:
        return share


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    r"""Half a cosine wave, :math:`\mathrm{ramp}(u) = (1 - \cos \pi u) / 2`.

    Parameters
    ----------
    warmup, warmup_epochs, warmup_steps
        Length of the warm-up, see :class:`Schedule`.

    Examples
    --------
    >>> from scbetavae.train import CosineSchedule
    >>> round(CosineSchedule(warmup=0.5)(0.25), 6)
    0.5
    """

    name: ClassVar[str] = "cosine"

    def ramp(self, share: float) -> float:
        return 0.5 * (1.0 - math.cos(math.pi * share))


@dataclass(frozen=True)
class SigmoidSchedule(Schedule):
    r"""Logistic warm-up, stretched so that it starts at exactly 0 and ends at exactly 1.

    .. math:: \mathrm{ramp}(u) = \frac{\sigma(s(u - 1/2)) - \sigma(-s/2)}{\sigma(s/2) - \sigma(-s/2)}

    Parameters
    ----------
    warmup, warmup_epochs, warmup_steps
        Length of the warm-up, see :class:`Schedule`.
    steepness
        :math:`s`, above 0. The larger, the more the rise gathers in the middle of the warm-up.

    References
    ----------
    The shape is that of :cite:t:`Bowman2016`.

    Examples
    --------
    >>> from scbetavae.train import SigmoidSchedule
    >>> schedule = SigmoidSchedule(warmup=0.5)
    >>> schedule(0.0), round(schedule(0.25), 6), schedule(0.5)
    (0.0, 0.5, 1.0)
    """

    steepness: float = 10.0

    name: ClassVar[str] = "sigmoid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _is_number(self.steepness) or not 0 < self.steepness <= 100:
            msg = f"steepness={self.steepness!r} is not in (0, 100]. The default is 10."
            raise ValueError(msg)

    def ramp(self, share: float) -> float:
        low, high = _logistic(-self.steepness / 2), _logistic(self.steepness / 2)
        return (_logistic(self.steepness * (share - 0.5)) - low) / (high - low)


@dataclass(frozen=True)
class CyclicalSchedule(Schedule):
    r"""Cyclical annealing: beta rises linearly and falls back to 0, ``n_cycles`` times.

    Every cycle of length :math:`L` rises over its first :math:`\rho L` and holds 1 for the rest. The warm-up is over when
    the *last* cycle has risen, so that :math:`((M - 1) + \rho) L` is the warm-up, and beta stays at its target from there on.
    The defaults, :math:`M = 4`, :math:`\rho = 1/2` and a warm-up of 0.875, are those of the paper: four cycles of a quarter
    of the run.

    Parameters
    ----------
    warmup, warmup_epochs, warmup_steps
        Length of the warm-up, all cycles but the last plateau, see :class:`Schedule`.
    n_cycles
        Number of cycles :math:`M`, at least 1.
    ratio
        Share :math:`\rho` of a cycle over which beta rises, in (0, 1].

    References
    ----------
    :cite:t:`Fu2019`

    Examples
    --------
    >>> from scbetavae.train import CyclicalSchedule
    >>> schedule = CyclicalSchedule()
    >>> [schedule(p) for p in (0.0, 0.0625, 0.125, 0.24, 0.25, 0.875, 1.0)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 1.0, 1.0]
    """

    warmup: float = 0.875
    n_cycles: int = 4
    ratio: float = 0.5

    name: ClassVar[str] = "cyclical"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.n_cycles, bool) or not isinstance(self.n_cycles, int) or self.n_cycles < 1:
            msg = f"n_cycles={self.n_cycles!r} is not a whole number of at least 1. The default is 4."
            raise ValueError(msg)
        if not _is_number(self.ratio) or not 0 < self.ratio <= 1:
            msg = f"ratio={self.ratio!r} is not in (0, 1]. The default is 0.5."
            raise ValueError(msg)

    def ramp(self, share: float) -> float:
        in_cycles = share * (self.n_cycles - 1 + self.ratio)
        return min(1.0, (in_cycles % 1.0) / self.ratio)


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """Full beta from the first minibatch to the last.

    Examples
    --------
    >>> from scbetavae.train import ConstantSchedule
    >>> ConstantSchedule()(0.0)
    1.0
    """

    warmup: float = 0.0

    name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup or self.warmup_epochs or self.warmup_steps:
            msg = "ConstantSchedule has no warm-up. Use LinearSchedule for one."
            raise ValueError(msg)

    def ramp(self, share: float) -> float:
        return 1.0


SCHEDULES: dict[str, type[Schedule]] = {
    schedule.name: schedule
    for schedule in (LinearSchedule, CosineSchedule, SigmoidSchedule, CyclicalSchedule, ConstantSchedule)
}
"""Schedules that a name stands for."""


@dataclass(frozen=True)
class AnnealedBeta:
    """Beta of one run: a schedule, the beta it aims for, and the length of the run.

    Parameters
    ----------
    schedule
        A :class:`Schedule`, or a function from the epoch, counted from 0, to beta.
    target
        Beta that the run is to end with, at least 0.
    max_epochs
        Epochs of the run, at least 1.
    steps_per_epoch
        Minibatches in an epoch, at least 1.

    Examples
    --------
    >>> from scbetavae.train import AnnealedBeta, LinearSchedule
    >>> beta = AnnealedBeta(LinearSchedule(warmup_epochs=2), target=4.0, max_epochs=10, steps_per_epoch=5)
    >>> beta.at(0), beta.at(5), beta.at(49)
    (0.0, 2.0, 4.0)
    >>> beta.warmup_end_epoch
    2
    """

    schedule: Schedule | BetaFunction
    target: float
    max_epochs: int
    steps_per_epoch: int = 1

    def fraction(self, step: int) -> float:
        """Fraction of the target at minibatch ``step``, counted from 0 over the whole run.

        Parameters
        ----------
        step
            Minibatches done before this one.

        Returns
        -------
        Beta at this minibatch over the target. Schedules give values in [0, 1]; a function of the user's may go above.

        Raises
        ------
        ValueError
            If a function of the user's returns a value that is no beta.
        """
        if isinstance(self.schedule, Schedule):
            n_steps = self.max_epochs * self.steps_per_epoch
            # A run of a single minibatch has no room for a warm-up.
            return self.schedule._at(step / n_steps if n_steps > 1 else 1.0, self._warmup_fraction)
        epoch = step // self.steps_per_epoch
        beta = self.schedule(epoch)
        if not _is_number(beta) or beta < 0:
            msg = (
                f"beta_schedule({epoch}) returned {beta!r}. It must return a finite beta of at least 0 for every epoch."
            )
            raise ValueError(msg)
        return float(beta) / self.target

    def at(self, step: int) -> float:
        """Beta at minibatch ``step``, counted from 0 over the whole run."""
        return self.fraction(step) * self.target

    @property
    def final(self) -> float:
        """Beta of the last minibatch of the run."""
        return self.at(self.max_epochs * self.steps_per_epoch - 1)

    @property
    def reaches_target(self) -> bool:
        """Whether the last minibatch trains at the target. A function of the user's is taken at its word."""
        return not isinstance(self.schedule, Schedule) or self.final == self.target

    @property
    def warmup_end_epoch(self) -> int:
        """First epoch, counted from 0, all of which trains at the beta the run ends with."""
        if isinstance(self.schedule, Schedule):
            # Rounding must not add an epoch to a warm-up of whole epochs, nor hide a warm-up of a single step.
            end = min(max(math.ceil(self._warmup_fraction * self.max_epochs - 1e-9), 0), self.max_epochs)
            return end + 1 if end < self.max_epochs and self.fraction(end * self.steps_per_epoch) < 1 else end
        epochs = range(self.max_epochs - 1, 0, -1)
        final = self.final
        return next((e for e in epochs if self.at((e - 1) * self.steps_per_epoch) != final), 0)

    @property
    def _warmup_fraction(self) -> float:
        return self.schedule._warmup_fraction(self.max_epochs, self.steps_per_epoch)

    def describe_shortfall(self) -> str:
        """Sentence that says how far the run gets, for a schedule that cannot reach its target."""
        if self.schedule.warmup_epochs is not None:
            lengths = f"warmup_epochs={self.schedule.warmup_epochs} leaves no plateau in a run of max_epochs={self.max_epochs}"
        else:
            lengths = (
                f"warmup_steps={self.schedule.warmup_steps} leaves no plateau in a run of "
                f"{self.max_epochs * self.steps_per_epoch} minibatches (max_epochs={self.max_epochs})"
            )
        return (
            f"The beta schedule cannot reach its target: {lengths}, so beta ends at {self.final:.4g} "
            f"instead of {self.target:.4g}. Train longer, or give the warm-up as a fraction of the run, "
            f"{type(self.schedule).__name__}(warmup=0.4)."
        )


def resolve_schedule(
    beta_schedule: str | float | Schedule | BetaFunction, beta: float
) -> tuple[Schedule | BetaFunction, float]:
    """Turn what ``train(beta_schedule=...)`` takes into a schedule and the beta it aims for.

    Parameters
    ----------
    beta_schedule
        A name (``"linear"``, ``"cosine"``, ``"sigmoid"``, ``"cyclical"``, ``"constant"``), a :class:`Schedule`, a number
        (that beta from first to last) or a function from the epoch, counted from 0, to beta.
    beta
        Beta of the model, at least 0.

    Returns
    -------
    schedule
        A :class:`Schedule`, or the user's function.
    target
        Beta that the run aims for: the model's, or the number that was given.

    Raises
    ------
    ValueError
        For an unknown name (the nearest is named), a number below 0 or not finite, or a function with a model of beta 0.
    TypeError
        For anything else.
    """
    if isinstance(beta_schedule, str):
        if beta_schedule not in SCHEDULES:
            nearest = difflib.get_close_matches(beta_schedule, SCHEDULES, n=1, cutoff=0.5)
            hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
            msg = (
                f"beta_schedule={beta_schedule!r} is not a schedule. {hint}Take one of {sorted(SCHEDULES)}, a number, "
                "a schedule object such as scbetavae.train.LinearSchedule(warmup=0.25), or a function from epoch to beta."
            )
            raise ValueError(msg)
        return SCHEDULES[beta_schedule](), beta
    if isinstance(beta_schedule, Schedule):
        return beta_schedule, beta
    if isinstance(beta_schedule, Real) and not isinstance(beta_schedule, bool):
        if not math.isfinite(beta_schedule) or beta_schedule < 0:
            msg = f"beta_schedule={beta_schedule!r} is not a beta. Give a finite number of at least 0."
            raise ValueError(msg)
        return ConstantSchedule(), float(beta_schedule)
    if isinstance(beta_schedule, type) and issubclass(beta_schedule, Schedule):
        msg = f"beta_schedule is the class {beta_schedule.__name__}. Give an object of it: {beta_schedule.__name__}()."
        raise TypeError(msg)
    if callable(beta_schedule):
        if beta == 0:
            msg = "beta_schedule is a function, but the model's beta is 0. Set the model's beta to the largest one you want."
            raise ValueError(msg)
        return beta_schedule, beta
    msg = (
        f"beta_schedule is a {type(beta_schedule).__name__}. Take one of {sorted(SCHEDULES)}, a number, a schedule object "
        "such as scbetavae.train.LinearSchedule(warmup=0.25), or a function from epoch to beta."
    )
    raise TypeError(msg)


def schedule_to_dict(schedule: Schedule | BetaFunction) -> dict[str, str | float | int]:
    """Flat dict of plain values that describes a schedule, for storage.

    Parameters
    ----------
    schedule
        What :func:`resolve_schedule` returned.

    Returns
    -------
    ``{"beta_schedule": name, "beta_schedule_<field>": value, ...}`` without the fields that are ``None``.
    """
    if not isinstance(schedule, Schedule):
        return {"beta_schedule": getattr(schedule, "__name__", type(schedule).__name__)}
    values = {f"beta_schedule_{f.name}": getattr(schedule, f.name) for f in fields(schedule)}
    return {"beta_schedule": schedule.name} | {k: v for k, v in values.items() if v is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))
