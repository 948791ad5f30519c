"""Beta of one run: what ``train(beta_schedule=...)`` takes, laid out over epochs and minibatches."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real

from ._schedules import SCHEDULES, ConstantSchedule, Schedule, is_number

BetaFunction = Callable[[int], float]


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
    steps
        Minibatches of the run, if its last epoch is cut short; ``None`` for whole epochs.

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
    steps: int | None = None

    @property
    def n_steps(self) -> int:
        """Minibatches of the run."""
        return self.max_epochs * self.steps_per_epoch if self.steps is None else self.steps

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
            # A run of a single minibatch has no room for a warm-up.
            progress = step / self.n_steps if self.n_steps > 1 else 1.0
            return self.schedule.at_progress(progress, self._warmup_fraction)
        epoch = step // self.steps_per_epoch
        beta = self.schedule(epoch)
        if not is_number(beta) or beta < 0:
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
        return self.at(self.n_steps - 1)

    @property
    def reaches_target(self) -> bool:
        """Whether the last minibatch trains at the target. A function of the user's is taken at its word."""
        return not isinstance(self.schedule, Schedule) or self.final == self.target

    @property
    def warmup_end_epoch(self) -> int:
        """First epoch, counted from 0, all of which trains at the beta the run ends with."""
        if isinstance(self.schedule, Schedule):
            # Rounding must not add an epoch to a warm-up of whole epochs, nor hide a warm-up of a single step.
            epochs = self._warmup_fraction * self.n_steps / self.steps_per_epoch
            end = min(max(math.ceil(epochs - 1e-9), 0), self.max_epochs)
            return end + 1 if end < self.max_epochs and self.fraction(end * self.steps_per_epoch) < 1 else end
        epochs = range(self.max_epochs - 1, 0, -1)
        final = self.final
        return next((e for e in epochs if self.at((e - 1) * self.steps_per_epoch) != final), 0)

    @property
    def _warmup_fraction(self) -> float:
        return self.schedule.warmup_fraction(self.n_steps, self.steps_per_epoch)

    def describe_shortfall(self) -> str:
        """Sentence that says how far the run gets, for a schedule that cannot reach its target."""
        if self.schedule.warmup_epochs is not None:
            lengths = f"warmup_epochs={self.schedule.warmup_epochs} leaves no plateau in a run of max_epochs={self.max_epochs}"
        else:
            lengths = (
                f"warmup_steps={self.schedule.warmup_steps} leaves no plateau in a run of "
                f"{self.n_steps} minibatches (max_epochs={self.max_epochs})"
            )
        return (
            f"The beta schedule cannot reach its target: {lengths}, so beta ends at {self.final:.4g} "
            f"instead of {self.target:.4g}. Train longer, or give the warm-up as a fraction of the run, "
            f"{type(self.schedule).__name__}(warmup=0.1)."
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
