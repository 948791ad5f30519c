"""Beta of one run: a schedule over epochs and minibatches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

from scbetavae._core.checks import check_choice, check_number

from ._schedules import SCHEDULES, ConstantSchedule, Schedule

BetaFunction = Callable[[int], float]


@dataclass(frozen=True)
class AnnealedBeta:
    """Beta of one run: a schedule, or a function from the epoch (from 0) to beta; the beta it aims for; the length of the run.

    ``steps`` is the number of minibatches if the last epoch is cut short.
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
        """Beta over its target at minibatch ``step``, from 0 over the run; a user's function may exceed 1."""
        if isinstance(self.schedule, Schedule):
            # A run of a single minibatch has no room for a warm-up.
            progress = step / self.n_steps if self.n_steps > 1 else 1.0
            return self.schedule.at_progress(
                progress, self.schedule.warmup_fraction(self.n_steps, self.steps_per_epoch)
            )
        epoch = step // self.steps_per_epoch
        return check_number(self.schedule(epoch), f"beta_schedule({epoch})", 0) / self.target

    def at(self, step: int) -> float:
        """Beta at minibatch ``step``, counted from 0 over the whole run."""
        return self.fraction(step) * self.target

    @property
    def final(self) -> float:
        """Beta of the last minibatch of the run."""
        return self.at(self.n_steps - 1)

    @property
    def reaches_target(self) -> bool:
        """Whether the last minibatch trains at the target. Assumed of a user's function."""
        return not isinstance(self.schedule, Schedule) or self.final == self.target

    @property
    def warmup_end_epoch(self) -> int:
        """First epoch, counted from 0, all of which trains at the beta the run ends with."""
        if isinstance(self.schedule, Schedule):
            # Rounding must not add an epoch to a warm-up of whole epochs, nor hide a warm-up of a single step.
            warmup = self.schedule.warmup_fraction(self.n_steps, self.steps_per_epoch)
            end = min(max(math.ceil(warmup * self.n_steps / self.steps_per_epoch - 1e-9), 0), self.max_epochs)
            return end + 1 if end < self.max_epochs and self.fraction(end * self.steps_per_epoch) < 1 else end
        final = self.final
        epochs = range(self.max_epochs - 1, 0, -1)
        return next((e for e in epochs if self.at((e - 1) * self.steps_per_epoch) != final), 0)

    def describe_shortfall(self) -> str:
        """Warning for a schedule that cannot reach its target."""
        lengths = {name: getattr(self.schedule, name) for name in ("warmup_epochs", "warmup_steps")}
        given = " and ".join(f"{name}={length}" for name, length in lengths.items() if length is not None)
        return (
            f"The beta schedule cannot reach its target: {given} leaves no plateau in a run of {self.n_steps} minibatches "
            f"(max_epochs={self.max_epochs}), so beta ends at {self.final:.4g} instead of {self.target:.4g}. Train longer, or "
            f"give the warm-up as a fraction of the run, {type(self.schedule).__name__}(warmup=0.1)."
        )


def resolve_schedule(beta_schedule: Any, beta: float) -> tuple[Schedule | BetaFunction, float]:
    """The schedule that ``train(beta_schedule=...)`` names, and the beta it aims for: the model's, or the number given."""
    hint = "a number, a schedule such as scbetavae.train.LinearSchedule(warmup=0.25), or a function from epoch to beta."
    if isinstance(beta_schedule, str):
        check_choice(beta_schedule, SCHEDULES, "beta_schedule", hint=f" Or pass {hint}")
        return SCHEDULES[beta_schedule](), beta
    if isinstance(beta_schedule, Schedule):
        return beta_schedule, beta
    if isinstance(beta_schedule, Real) and not isinstance(beta_schedule, bool):
        return ConstantSchedule(), check_number(beta_schedule, "beta_schedule", 0)
    if isinstance(beta_schedule, type) and issubclass(beta_schedule, Schedule):
        msg = f"beta_schedule is the class {beta_schedule.__name__}. Pass an instance: {beta_schedule.__name__}()."
        raise TypeError(msg)
    if not callable(beta_schedule):
        msg = f"beta_schedule is a {type(beta_schedule).__name__}. Pass one of {sorted(SCHEDULES)}, {hint}"
        raise TypeError(msg)
    if beta == 0:
        msg = (
            "beta_schedule is a function, but the model's beta is 0. Set the model's beta to the largest one you want."
        )
        raise ValueError(msg)
    function: Any = beta_schedule
    return function, beta


def schedule_to_dict(schedule: Schedule | BetaFunction) -> dict[str, str | float | int]:
    """Flat dict of plain values that describes a schedule, for storage; fields that are ``None`` are left out."""
    if not isinstance(schedule, Schedule):
        return {"beta_schedule": getattr(schedule, "__name__", type(schedule).__name__)}
    values = {f"beta_schedule_{f.name}": getattr(schedule, f.name) for f in fields(schedule)}
    return {"beta_schedule": schedule.name} | {k: v for k, v in values.items() if v is not None}
