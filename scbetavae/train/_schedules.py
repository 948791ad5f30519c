r"""Schedules of beta: pure functions of training progress.

A schedule gives the *fraction* of the requested beta as a function of progress, the share of the run's minibatches that
are done, in [0, 1]. It rises from 0 to 1 over the warm-up and stays at 1, so that every run ends at the requested beta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from scbetavae._core.checks import check_number, check_whole_number


@dataclass(frozen=True)
class Schedule:
    r"""Base of the warm-up schedules.

    With progress :math:`p` and warm-up :math:`w`, both fractions of the run,

    .. math:: f(p) = \begin{cases} \mathrm{ramp}(p / w) & p < w \\ 1 & p \ge w. \end{cases}

    Parameters
    ----------
    warmup
        Length of the warm-up as a fraction of the run, in [0, 1). ``0`` trains at full beta from the first minibatch.
    warmup_epochs, warmup_steps
        Length of the warm-up in epochs (passes over the training cells) or in minibatches. Replaces ``warmup``.

    Raises
    ------
    ValueError
        If ``warmup`` is outside [0, 1), a length is negative, or both lengths are given.
    """

    warmup: float = 0.1
    warmup_epochs: int | None = None
    warmup_steps: int | None = None

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if isinstance(self.warmup, (int, float)) and self.warmup >= 1:
            msg = (
                f"warmup={self.warmup!r} is not a fraction of the run in [0, 1). For a length in epochs write "
                f"{type(self).__name__}(warmup_epochs=...), in minibatches warmup_steps=...."
            )
            raise ValueError(msg)
        check_number(self.warmup, "warmup", 0, 1, open_="high")
        lengths = {"warmup_epochs": self.warmup_epochs, "warmup_steps": self.warmup_steps}
        given = {name: length for name, length in lengths.items() if length is not None}
        if len(given) > 1:
            msg = f"{' and '.join(f'{name}={length!r}' for name, length in given.items())} were both given. Give one of them."
            raise ValueError(msg)
        for name, length in given.items():
            check_number(length, name, 0)

    def __call__(self, progress: float) -> float:
        """Fraction of beta in [0, 1] at ``progress`` of the run in [0, 1], for a warm-up given as a fraction."""
        if self.warmup_epochs is not None or self.warmup_steps is not None:
            msg = (
                f"The value of {self!r} depends on the length of the run. Use a warm-up that is a fraction of the run."
            )
            raise ValueError(msg)
        return self.at_progress(progress, self.warmup)

    def ramp(self, share: float) -> float:
        """Fraction of beta after ``share`` of the warm-up: 0 at 0 and 1 at 1."""
        raise NotImplementedError

    def at_progress(self, progress: float, warmup: float) -> float:
        """Fraction of beta at ``progress`` of a run whose warm-up takes ``warmup`` of it."""
        return 1.0 if progress >= warmup else self.ramp(progress / warmup)

    def warmup_fraction(self, n_steps: int, steps_per_epoch: int) -> float:
        """Warm-up as a fraction of a run of ``n_steps``; above 1 when the run is too short for it."""
        if self.warmup_epochs is not None:
            return self.warmup_epochs * steps_per_epoch / n_steps
        if self.warmup_steps is not None:
            return self.warmup_steps / n_steps
        return self.warmup


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    r"""Linear warm-up, :math:`\mathrm{ramp}(u) = u`.

    Parameters are those of :class:`Schedule`.

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

    Parameters are those of :class:`Schedule`.

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

    The shape is that of :cite:t:`Bowman2016`. Parameters are those of :class:`Schedule` and

    Parameters
    ----------
    steepness
        :math:`s`, in (0, 100]; larger values concentrate the rise in the middle of the warm-up.

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
        check_number(self.steepness, "steepness", 0, 100, open_="low")

    def ramp(self, share: float) -> float:
        low, high, value = (1.0 / (1.0 + math.exp(-self.steepness * x)) for x in (-0.5, 0.5, share - 0.5))
        return (value - low) / (high - low)


@dataclass(frozen=True)
class CyclicalSchedule(Schedule):
    r"""Cyclical annealing: beta rises linearly and falls back to 0, ``n_cycles`` times.

    Every cycle of length :math:`L` rises over its first :math:`\rho L` and stays at 1 for the rest. The warm-up ends when the
    *last* cycle has risen, after :math:`((M - 1) + \rho) L`. The defaults, with a warm-up of 0.875, are those of
    :cite:t:`Fu2019`: four cycles of a quarter of the run. Parameters are those of :class:`Schedule` and

    Parameters
    ----------
    n_cycles
        Number of cycles :math:`M`, at least 1.
    ratio
        Share :math:`\rho` of a cycle over which beta rises, in (0, 1].

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
        check_whole_number(self.n_cycles, "n_cycles", 1)
        check_number(self.ratio, "ratio", 0, 1, open_="low")

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


_ALL = (LinearSchedule, CosineSchedule, SigmoidSchedule, CyclicalSchedule, ConstantSchedule)
SCHEDULES: dict[str, type[Schedule]] = {schedule.name: schedule for schedule in _ALL}
