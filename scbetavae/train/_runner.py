"""One run of training: its length, its history, and its end."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scvi import settings
from scvi.train import TrainRunner

from ._adversarial import AdversarialTrainingPlan
from ._progress import StepProgressBar

_FEWEST_STEPS, _MOST_STEPS = 300, 3000


def default_steps(n_cells: int) -> int:
    r"""Minibatches of a run by default, :math:`15 \sqrt n` for n training cells, at least 300 and at most 3000."""
    return min(max(round(15 * math.sqrt(n_cells)), _FEWEST_STEPS), _MOST_STEPS)


class BetaVAETrainRunner(TrainRunner):
    """Runs a plan for a number of minibatches or of epochs.

    Parameters
    ----------
    model, training_plan, data_splitter
        As for :class:`scvi.train.TrainRunner`.
    max_epochs
        Largest number of epochs; -1 for the plan's number of minibatches, or the default one.
    **kwargs
        As for :class:`scvi.train.TrainRunner`.
    """

    def __init__(self, model: Any, training_plan: Any, data_splitter: Any, max_epochs: int, **kwargs: Any) -> None:
        if max_epochs == -1:
            if training_plan.n_steps is None:
                training_plan.n_steps = default_steps(_n_training_cells(data_splitter))
            # The plan ends the run; an epoch has at least one minibatch.
            max_epochs = training_plan.n_steps
        _set_trainer_defaults(kwargs)
        if isinstance(training_plan, AdversarialTrainingPlan):
            training_plan.take_gradient_clipping(kwargs)
        super().__init__(
            model=model, training_plan=training_plan, data_splitter=data_splitter, max_epochs=max_epochs, **kwargs
        )

    def _update_history(self) -> None:
        """Append the history of this run; scvi-tools counts rows, of which a run may have several per epoch."""
        model: Any = self.model
        logged = getattr(self.trainer.logger, "history", None)
        earlier = dict(model.history_) if model.is_trained_ and isinstance(model.history_, dict) else {}
        new = {name: frame.copy() for name, frame in logged.items()} if isinstance(logged, dict) else {}
        super()._update_history()
        # Whole numbers too, such as those of validation, are then epochs done.
        if getattr(self.training_plan, "writes_position", False):
            new = {name: _with_float_index(frame) for name, frame in new.items()}
            model.history_ |= {name: frame for name, frame in new.items() if name not in earlier}
        both = [name for name in earlier if name in new and earlier[name].index.name == "epoch"]
        if not any(_in_epochs_done(frames[name]) for name in both for frames in (earlier, new)):
            return
        offset = max(epochs_done(earlier[name])[-1] for name in both)
        for name in both:
            frame = pd.concat([earlier[name], new[name]])
            done = np.concatenate([epochs_done(earlier[name]), offset + epochs_done(new[name])])
            model.history_[name] = frame.set_axis(pd.Index(done, name="epoch"))

    def _run_training_core(self) -> None:
        """Train; a model interrupted from the keyboard keeps its weights and can be used."""
        try:
            super()._run_training_core()
        except (SystemExit, KeyboardInterrupt) as stop:  # Lightning turns the second into the first
            interrupted = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)
            plan: Any = self.training_plan
            done = plan.n_steps_done
            if not interrupted or done == 0:
                raise
            self._keep_what_was_trained()
            warnings.warn(
                f"Training was interrupted at step {done} of {plan.n_steps}, at beta {plan.kl_weight * plan.target_beta:.2g}. "
                "The model keeps the weights of that step and can be used; train() continues from there.",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )
            raise KeyboardInterrupt from stop

    def _keep_what_was_trained(self) -> None:
        """What scvi-tools does after a complete run; the history is there already."""
        for part, indices in (("train", "train_idx"), ("test", "test_idx"), ("validation", "val_idx")):
            setattr(self.model, f"{part}_indices", getattr(self.data_splitter, indices, None))
        model: Any = self.model
        model.module.eval()
        model.is_trained_ = True
        model.to_device(self.device)
        model.trainer = self.trainer


def _set_trainer_defaults(kwargs: dict[str, Any]) -> None:
    """Watch the objective at full beta, and show a bar that counts minibatches where scvi-tools' own counts epochs."""
    defaults: dict[str, Any] = dict.fromkeys(
        ("early_stopping_monitor", "checkpointing_monitor"), "objective_validation"
    )
    # The plan logs by epoch only; Lightning would warn that an epoch has fewer steps than its interval.
    defaults["log_every_n_steps"] = 1
    for name, value in defaults.items():
        kwargs.setdefault(name, value)
    if kwargs.get("enable_progress_bar", True) and kwargs.get("simple_progress_bar", True):
        kwargs["simple_progress_bar"] = False
        bar = StepProgressBar(refresh_rate=kwargs.get("progress_bar_refresh_rate", 1))
        kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), bar]


def _in_epochs_done(frame: pd.DataFrame) -> bool:
    """Whether the index is the number of epochs done, not that of an epoch, counted from 0."""
    return isinstance(frame.index[-1], float)


def _with_float_index(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its epochs as floats, if epochs are its index."""
    return frame.set_axis(frame.index.astype(float)) if frame.index.name == "epoch" else frame


def epochs_done(frame: pd.DataFrame) -> np.ndarray:
    """Epochs done at each row of a history, which may be written more often than once an epoch."""
    return frame.index.to_numpy(dtype=float) + (not _in_epochs_done(frame))


def _n_training_cells(data: Any) -> int:
    """Training cells of a data module; a ValueError if it does not say."""
    for name in ("n_train", "n_obs"):
        n_cells = getattr(data, name, None)
        if n_cells:
            return int(n_cells)
    msg = "The datamodule has no n_obs, so the length of the run is unknown: pass max_steps=... or max_epochs=...."
    raise ValueError(msg)
