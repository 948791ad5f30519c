"""The learning rate during a run: functions of progress, the share of the run's minibatches that are done."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from scbetavae._core.checks import check_choice, check_number

from ._annealing import resolve_schedule

logger = logging.getLogger(__name__)

LearningRateFunction = Callable[[float], float]

_PEAK, _CONSTANT = 1e-2, 1e-3  # of the cycle, and of scvi-tools' constant rate
_RISE, _START, _END = 0.1, 0.04, 0.001


def one_cycle(progress: float) -> float:
    """Share of the peak: up from 4% over the first 10% of the run, then a cosine down to 0.1% :cite:p:`Smith2019`."""
    rises = progress < _RISE
    first, last = (_START, 1.0) if rises else (1.0, _END)
    share = progress / _RISE if rises else (progress - _RISE) / (1.0 - _RISE)
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * share))


def constant(progress: float) -> float:  # noqa: ARG001
    """The same rate from first to last."""
    return 1.0


LR_SCHEDULES: dict[str, LearningRateFunction] = {"one_cycle": one_cycle, "constant": constant}


def schedule_arguments(
    beta_schedule: Any, lr_schedule: Any, *, beta: float, lr: float | None = None, open_ended: bool = False
) -> dict[str, Any]:
    """Arguments of :class:`BetaVAETrainingPlan` for the schedules that ``BetaVAE.train`` was called with, after all checks.

    ``beta`` is that of the model. By default the learning rate is 0.01 at the peak of one cycle and 0.001 with another schedule;
    it is constant if the run is open-ended, so that its end is not known in advance. Unknown names and numbers out of range are
    a ValueError, anything else that is not a schedule a TypeError.
    """
    schedule, target = resolve_schedule(beta_schedule, beta)
    function = _resolve_lr_schedule(lr_schedule, open_ended)
    if lr is None:
        lr = _PEAK if function is one_cycle else _CONSTANT
    lr = check_number(lr, 'the learning rate, plan_kwargs["lr"]', 0, open_="low")
    return {"schedule": schedule, "beta": target, "lr_schedule": function, "lr": lr}


def _resolve_lr_schedule(lr_schedule: Any, open_ended: bool) -> LearningRateFunction:
    """The function that was asked for; a constant rate where the end of the run is not known."""
    if lr_schedule is None:
        return constant if open_ended else one_cycle
    function = lr_schedule
    if isinstance(lr_schedule, str):
        check_choice(lr_schedule, LR_SCHEDULES, "lr_schedule", hint=" Or pass a function of progress in [0, 1].")
        function = LR_SCHEDULES[lr_schedule]
    elif not callable(lr_schedule):
        msg = (
            f"lr_schedule is a {type(lr_schedule).__name__}. Pass one of {sorted(LR_SCHEDULES)}, or a function from progress "
            "in [0, 1] to the share of the learning rate, for example lambda progress: 1 - progress."
        )
        raise TypeError(msg)
    if open_ended and function is not constant:
        logger.info(
            "early_stopping and reduce_lr_on_plateau need a run whose end is not known in advance, so the learning rate is "
            "constant, not %s.",
            lr_schedule,
        )
        return constant
    return function


def rate_at(schedule: LearningRateFunction, progress: float, peak: float) -> float:
    """Learning rate at ``progress`` of the run; a ValueError if the schedule returns none."""
    return check_number(schedule(progress), f"lr_schedule({progress:.3g})", 0) * peak


def move_rates(optimizer: Any, scheduled: float) -> None:
    """Set the learning rate of a minibatch: that of the schedule, times what others made of the one before.

    Both are kept with the parameters of the optimizer, and so in checkpoints.
    """
    for group in optimizer.param_groups:
        before = group.get("scheduled_lr")
        group["lr"] = scheduled * (group["lr"] / before if before else 1.0)
        group["scheduled_lr"] = scheduled
