"""A progress bar that counts minibatches, so that a run shorter than an epoch shows its progress and the remaining time."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from scvi.train._progress import ProgressBar


class StepProgressBar(ProgressBar):
    """Counts the minibatches of a :class:`~scbetavae.train.BetaVAETrainingPlan`; tqdm adds the remaining time."""

    main_progress_bar: Any

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Open the bar; the plan learns the length of a run in epochs only after callbacks have started."""
        from scvi.utils import track

        super(ProgressBar, self).on_train_start(trainer, pl_module)
        options: dict[str, Any] = {"sequence": None, "total": pl_module.n_steps, "disable": self.is_disabled}
        self.main_progress_bar = track(description="Training", style="tqdm", **options)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: the bar does not count epochs."""
        super(ProgressBar, self).on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Show the minibatches that are done, and the loss."""
        super().on_train_batch_end(trainer, pl_module, *args)
        if self.is_enabled:
            self.main_progress_bar.total = pl_module.n_steps
            if "train_loss" in pl_module.reported:
                self.main_progress_bar.set_postfix(loss=f"{float(pl_module.reported['train_loss']):.1f}", refresh=False)
            self.main_progress_bar.update(pl_module.n_steps_done - self.main_progress_bar.n)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: the bar does not count epochs."""
        super(ProgressBar, self).on_train_epoch_end(trainer, pl_module)
