"""Training on several minibatches in a step of Lightning's loop, where nothing depends on single ones.

A step of that loop costs one to two milliseconds in hooks and counters, on a CPU a fifth of a step of a small network. Under
Lightning's manual optimization a plan may take several optimizer steps in a ``training_step``, with the same numbers.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary, ProgressBar
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy

MINIBATCHES_AT_ONCE = 8

_CALLBACK_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
_PLAN_HOOKS = (
    *_CALLBACK_HOOKS,
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
)


def nobody_watches_minibatches(trainer: Any, plan: LightningModule) -> bool:
    """Whether a run gives the same results if Lightning sees several minibatches as one.

    Not where a callback or the plan hooks into batches or optimizer steps, where the trainer counts, clips, accumulates, scales
    or profiles them, or where several processes train.
    """
    default = {
        "accumulate_grad_batches": 1,
        "gradient_clip_val": None,
        "max_steps": -1,
        "limit_train_batches": 1.0,
        "val_check_interval": 1.0,
        "overfit_batches": 0.0,
        "fast_dev_run": False,
        "num_devices": 1,
        "precision": "32-true",
    }
    return (
        all(getattr(trainer, name) == value for name, value in default.items())
        and type(trainer.strategy) is SingleDeviceStrategy
        and isinstance(trainer.profiler, PassThroughProfiler)
        and not any(_overrides(plan, LightningModule, hook) for hook in _PLAN_HOOKS)
        and not any(_overrides(callback, Callback, hook) for callback in _watchers(trainer) for hook in _CALLBACK_HOOKS)
    )


def watched(trainer: Trainer) -> bool:
    """Whether there are callbacks other than a progress bar, which may read what is logged."""
    return bool(_watchers(trainer))


def _watchers(trainer: Any) -> list[Callback]:
    """Callbacks other than progress bars."""
    return [callback for callback in trainer.callbacks if not isinstance(callback, ProgressBar | ModelSummary)]


def _overrides(instance: Any, base: type, name: str) -> bool:
    """Whether the class of ``instance`` has a method of its own in place of that of ``base``."""
    return getattr(type(instance), name) is not getattr(base, name)
