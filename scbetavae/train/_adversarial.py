"""The Lightning plan of objectives with a discriminator."""

from __future__ import annotations

from typing import Any

import torch
from scvi.module.base import BaseModuleClass

from ._plans import BetaVAETrainingPlan


class AdversarialTrainingPlan(BetaVAETrainingPlan):
    r"""Trains encoder and decoder, and the discriminator of an objective such as FactorVAE, with two optimizers.

    Every minibatch first trains encoder and decoder against the current discriminator, then the discriminator on the same
    samples, detached. Neither step leaves a gradient in the other's weights. The history also gets
    ``discriminator_loss_train`` (nats; 0.693 is guessing) and ``discriminator_accuracy_train`` (0.5 is guessing).

    Parameters
    ----------
    module
        A :class:`~scbetavae.module.BetaVAEModule` whose objective has a discriminator.
    discriminator_lr, discriminator_betas
        Learning rate of the discriminator's Adam, and decay rates of its moments, by default as in :cite:t:`KimMnih2018`.
    gradient_clip_val, gradient_clip_algorithm
        Bound on the gradients of encoder and decoder (``None`` for none), and ``"norm"`` or ``"value"``. Lightning leaves
        clipping to plans with two optimizers.
    **kwargs
        Arguments of :class:`BetaVAETrainingPlan`.
    """

    def __init__(
        self,
        module: BaseModuleClass,
        *,
        discriminator_lr: float = 1e-3,
        discriminator_betas: tuple[float, float] = (0.5, 0.9),
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, **kwargs)
        self.automatic_optimization = False
        self.discriminator_lr = discriminator_lr
        self.discriminator_betas = discriminator_betas
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm
        # Permutations have a generator of their own: a discriminator whose weight is 0 must not change the run.
        self._permutations = torch.Generator().manual_seed(torch.initial_seed() % 2**63)

    def take_gradient_clipping(self, trainer_kwargs: dict[str, Any]) -> None:
        """Move the trainer's arguments for clipping, which Lightning refuses with two optimizers, to this plan."""
        for name in ("gradient_clip_val", "gradient_clip_algorithm"):
            value = trainer_kwargs.pop(name, None)
            if getattr(self, name) is None:
                setattr(self, name, value)

    def configure_optimizers(self) -> Any:
        """Two optimizers, and the learning-rate schedule of the first if one was asked for."""
        discriminator = list(self.module.regularizer.discriminator.parameters())
        theirs = {id(parameter) for parameter in discriminator}
        ours = [p for p in self.module.parameters() if p.requires_grad and id(p) not in theirs]
        first = {"optimizer": self.get_optimizer_creator()(ours)}
        if self.reduce_lr_on_plateau:
            options = {"patience": self.lr_patience, "factor": self.lr_factor, "threshold": self.lr_threshold}
            first["lr_scheduler"] = torch.optim.lr_scheduler.ReduceLROnPlateau(
                first["optimizer"], min_lr=self.lr_min, threshold_mode="abs", **options
            )
        second = torch.optim.Adam(discriminator, lr=self.discriminator_lr, betas=self.discriminator_betas)
        return first, {"optimizer": second}

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Step encoder and decoder, then the discriminator; return the loss of the former without gradient."""
        optimizers: Any = self.optimizers()
        optimizer, discriminator_optimizer = optimizers
        self._begin_minibatch(batch_idx)
        inference_outputs, _, loss = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self._check_finite(loss.loss)
        optimizer.zero_grad()
        self.manual_backward(loss.loss)
        if self.gradient_clip_val is not None:
            self.clip_gradients(optimizer, self.gradient_clip_val, self.gradient_clip_algorithm or "norm")
        optimizer.step()

        regularizer = self.module.regularizer
        discriminator_loss, accuracy = regularizer.discriminator_step(inference_outputs["z"], self._permutations)
        self._check_finite(discriminator_loss, "discriminator's loss")
        discriminator_optimizer.zero_grad()
        self.manual_backward(discriminator_loss)
        discriminator_optimizer.step()

        n_cells = loss.n_obs_minibatch
        sums = self._sums_over_cells(loss)
        sums["extra:discriminator_loss"] = discriminator_loss.detach() * n_cells
        sums["extra:discriminator_accuracy"] = accuracy * n_cells
        self._collect_for_autotune(loss, "training")
        self._end_minibatch(n_cells, sums)
        return loss.loss.detach()

    def on_train_epoch_end(self) -> None:
        """Write the epoch's means, and step the learning-rate schedule, which Lightning leaves to plans with two optimizers."""
        super().on_train_epoch_end()
        scheduler: Any = self.lr_schedulers()
        metric = self.trainer.callback_metrics.get(self.lr_scheduler_metric)
        if scheduler is not None and metric is not None and not self.in_warmup:
            scheduler.step(metric)
