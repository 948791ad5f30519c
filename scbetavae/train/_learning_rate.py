"""How the learning rate moves during a run: functions of progress, the share of the run's minibatches that are done."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable

from ._schedules import is_number

LearningRateFunction = Callable[[float], float]

PEAK = {"one_cycle": 1e-2, "constant": 1e-3}
"""Learning rate of each schedule: the peak of the cycle, and scvi-tools' constant rate."""

_RISE, _START, _END = 0.1, 0.04, 0.001


def one_cycle(progress: float) -> float:
    r"""One cycle: up from 4% of the peak over the first 10% of the run, then a cosine down to 0.1% of it.

    Parameters
    ----------
    progress
        Share of the run that is done, in [0, 1].

    Returns
    -------
    Share of the peak learning rate, in (0, 1].

    References
    ----------
    :cite:p:`Smith2019`
    """
    if progress < _RISE:
        return _between(_START, 1.0, progress / _RISE)
    return _between(1.0, _END, (progress - _RISE) / (1.0 - _RISE))


def constant(progress: float) -> float:  # noqa: ARG001
    """The same rate from first to last."""
    return 1.0


LR_SCHEDULES: dict[str, LearningRateFunction] = {"one_cycle": one_cycle, "constant": constant}


def resolve_lr_schedule(lr_schedule: str | LearningRateFunction) -> LearningRateFunction:
    """Turn what ``train(lr_schedule=...)`` takes into a function of progress.

    Parameters
    ----------
    lr_schedule
        ``"one_cycle"``, ``"constant"``, or a function from progress in [0, 1] to the share of the learning rate.

    Returns
    -------
    The function.

    Raises
    ------
    ValueError
        For an unknown name, with the nearest that is known.
    TypeError
        For anything else.
    """
    if isinstance(lr_schedule, str):
        if lr_schedule in LR_SCHEDULES:
            return LR_SCHEDULES[lr_schedule]
        nearest = difflib.get_close_matches(lr_schedule, LR_SCHEDULES, n=1, cutoff=0.4)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        msg = f"lr_schedule={lr_schedule!r} is not a schedule. {hint}Take one of {sorted(LR_SCHEDULES)}, or a function."
        raise ValueError(msg)
    if callable(lr_schedule):
        return lr_schedule
    msg = (
        f"lr_schedule is a {type(lr_schedule).__name__}. Take one of {sorted(LR_SCHEDULES)}, or a function from progress "
        "in [0, 1] to the share of the learning rate, for example lambda progress: 1 - progress."
    )
    raise TypeError(msg)


def rate_at(schedule: LearningRateFunction, progress: float, peak: float) -> float:
    """Learning rate at ``progress`` of the run.

    Raises
    ------
    ValueError
        If a function of the user's returns a value that is no rate.
    """
    share = schedule(progress)
    if not is_number(share) or share < 0:
        msg = (
            f"lr_schedule({progress:.3g}) returned {share!r}. It must return a finite share of the learning rate of at "
            "least 0 for every progress in [0, 1]."
        )
        raise ValueError(msg)
    return float(share) * peak


def _between(first: float, last: float, share: float) -> float:
    """Half a cosine from ``first`` to ``last``."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * share))
