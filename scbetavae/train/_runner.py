"""One run of training: how long it is, and what is kept when it is interrupted."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scvi import settings
from scvi.train import TrainRunner

CELLS_PER_STEP = 128
"""Cells in the minibatches for which the length of a run was chosen."""

_FEWEST_STEPS, _MOST_STEPS = 300, 3000


def default_steps(n_cells: int) -> int:
    r"""Minibatches of a run by default, :math:`15 \sqrt n`, at least 300 and at most 3000.

    Parameters
    ----------
    n_cells
        Training cells.

    Returns
    -------
    The number of minibatches.

    Examples
    --------
    >>> from scbetavae.train import default_steps
    >>> default_steps(630), default_steps(1400), default_steps(1_000_000)
    (376, 561, 3000)
    """
    return min(max(round(15 * math.sqrt(n_cells)), _FEWEST_STEPS), _MOST_STEPS)


class BetaVAETrainRunner(TrainRunner):
    """Runs a plan for a number of minibatches or of epochs.

    Parameters
    ----------
    model, training_plan, data_splitter
        As for :class:`scvi.train.TrainRunner`.
    max_epochs
        Largest number of epochs; -1 where the plan has a number of minibatches, or is to have the default one.
    **kwargs
        As for :class:`scvi.train.TrainRunner`.
    """

    def __init__(self, model: Any, training_plan: Any, data_splitter: Any, max_epochs: int, **kwargs: Any) -> None:
        if max_epochs == -1:
            if training_plan.n_steps is None:
                training_plan.n_steps = default_steps(_n_training_cells(data_splitter))
            # The plan ends the run, which has at least one minibatch an epoch.
            max_epochs = training_plan.n_steps
        super().__init__(
            model=model, training_plan=training_plan, data_splitter=data_splitter, max_epochs=max_epochs, **kwargs
        )

    def _update_history(self) -> None:
        """Append the history of this run; scvi-tools counts rows, which are no epochs where a run is written more often."""
        model, logged = self.model, getattr(self.trainer.logger, "history", None)
        earlier = dict(model.history_) if model.is_trained_ and isinstance(model.history_, dict) else {}
        new = {name: frame.copy() for name, frame in logged.items()} if isinstance(logged, dict) else {}
        super()._update_history()
        both = [name for name in earlier if name in new and earlier[name].index.name == "epoch"]
        if not any(_in_epochs_done(frames[name]) for name in both for frames in (earlier, new)):
            return
        offset = max(_epochs_done(earlier[name])[-1] for name in both)
        for name in both:
            frame = pd.concat([earlier[name], new[name]])
            done = np.concatenate([_epochs_done(earlier[name]), offset + _epochs_done(new[name])])
            model.history_[name] = frame.set_axis(pd.Index(done, name="epoch"))

    def _run_training_core(self) -> None:
        """Train; a model whose training is interrupted from the keyboard keeps its weights and can be used."""
        try:
            super()._run_training_core()
        except (SystemExit, KeyboardInterrupt) as stop:  # Lightning turns the second into the first
            interrupted = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)
            done, plan = self.training_plan.n_steps_done, self.training_plan
            if not interrupted or done == 0:
                raise
            self._keep_what_was_trained()
            warnings.warn(
                f"Training was interrupted at step {done} of {plan.n_steps}, at beta {plan.kl_weight * plan.target_beta:.2g}. "
                "The model keeps the weights of that step and can be used; train() goes on from there.",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )
            raise KeyboardInterrupt from stop

    def _keep_what_was_trained(self) -> None:
        """What scvi-tools does after a run that ended by itself; the history is there already."""
        for part, indices in (("train", "train_idx"), ("test", "test_idx"), ("validation", "val_idx")):
            setattr(self.model, f"{part}_indices", getattr(self.data_splitter, indices, None))
        self.model.module.eval()
        self.model.is_trained_ = True
        self.model.to_device(self.device)
        self.model.trainer = self.trainer


def _in_epochs_done(frame: pd.DataFrame) -> bool:
    """Whether the index is the number of epochs done, not that of an epoch, counted from 0."""
    return isinstance(frame.index[-1], float)


def _epochs_done(frame: pd.DataFrame) -> np.ndarray:
    """Epochs done at each row."""
    return frame.index.to_numpy(dtype=float) + (not _in_epochs_done(frame))


def _n_training_cells(data: Any) -> int:
    """Training cells of a data module.

    Raises
    ------
    ValueError
        If it does not say.
    """
    for name in ("n_train", "n_obs"):
        n_cells = getattr(data, name, None)
        if n_cells:
            return int(n_cells)
    msg = "The datamodule has no n_obs, so the length of the run is not known: train(max_steps=...) or train(max_epochs=...)."
    raise ValueError(msg)
