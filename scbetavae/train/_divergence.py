"""Stop a training whose loss is no longer finite, and restore the last weights with a finite loss."""

from __future__ import annotations

import math
from typing import Any

import torch

DEFAULT_LR = 1e-3
KEEP_EVERY = 50  # minibatches between two copies of the weights, and between two reads of losses on an accelerator


class TrainingDivergedError(RuntimeError):
    """The loss or a weight became NaN or infinite during training.

    :meth:`scbetavae.model.BetaVAE.train` leaves the model with finite weights. A model that was trained before is as it was;
    a new one keeps its last weights with a finite loss and does not count as trained.
    """


class DivergenceGuard:
    """Watches the losses of a plan, and keeps a copy of its last weights whose loss was finite."""

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self._unseen: list[tuple[str, torch.Tensor]] = []
        self._epoch, self._minibatch = -1, 0
        self._since_copy = 0
        self._keep()

    def check(self, loss: torch.Tensor, what: str = "loss") -> None:
        """Look at the loss of a minibatch before the weights take a step; on an accelerator, at several losses at a time."""
        is_first = what == "loss"  # of a minibatch: the weights of the step before gave a finite loss
        if self._epoch != self._plan.current_epoch:
            self._epoch, self._minibatch = self._plan.current_epoch, 0
        self._minibatch += is_first
        self._since_copy += is_first
        name = f"the {what} of minibatch {self._minibatch}"
        self._unseen.append((name, loss.detach()))
        if self._may_look(loss):
            self._look()
        if is_first and self._since_copy >= KEEP_EVERY:
            self._look()
            self._keep()

    def check_mean(self, mean_loss: torch.Tensor, what: str) -> None:
        """Look at the losses that are still unread, and at a mean over minibatches."""
        self._look()
        self._unseen.append((f"the {what}", mean_loss))
        self._look()

    def end_training(self) -> None:
        """Look at the weights after the last step, which no loss has tested."""
        if not all(torch.isfinite(value.sum()) for value in self._plan.module.state_dict().values()):
            self._fail("the weights after its last minibatch are not finite")

    def _may_look(self, loss: torch.Tensor) -> bool:
        """Whether reading a number does not stall the device."""
        return loss.device.type == "cpu"

    def _look(self) -> None:
        """Look at the losses that are unread, in the order of the run."""
        losses, self._unseen = self._unseen, []
        values = torch.stack([loss for _, loss in losses]).tolist() if losses else []
        for (name, _), value in zip(losses, values, strict=True):
            if not math.isfinite(value):
                self._fail(f"{name} is {value:g}")

    def _keep(self) -> None:
        """Copy the weights."""
        state = self._plan.module.state_dict()
        self._weights = {name: value.detach().clone() for name, value in state.items()}
        self._since_copy = 0

    def _fail(self, finding: str) -> None:
        """Restore the last good weights and raise."""
        plan = self._plan
        plan.module.load_state_dict(self._weights)
        rates = [group["lr"] for optimizer in plan.trainer.optimizers for group in optimizer.param_groups]
        used = " and ".join(f"{float(rate):g}" for rate in rates)
        msg = (
            f"Training diverged in epoch {plan.current_epoch + 1}: {finding}. Likely causes: a learning rate that is too high "
            f'(it was {used}; try plan_kwargs={{"lr": {min(DEFAULT_LR, float(rates[0]) / 10):g}}}); cells or genes with '
            "extreme counts (filter them, or pass gradient_clip_val=10); a very large beta; or counts or covariates that "
            "changed after setup_anndata and now contain NaN."
        )
        raise TrainingDivergedError(msg)
