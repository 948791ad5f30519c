"""Lightning plans: what a training step does and what an epoch writes down."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from scvi import settings
from scvi.module.base import BaseModuleClass, LossOutput
from scvi.train import TrainingPlan

from ._adam import LeanAdam, LeanAdamW
from ._anchor_fit import fit_anchor
from ._annealing import AnnealedBeta, BetaFunction
from ._divergence import DivergenceGuard
from ._initialization import initialize_decoder, training_cells
from ._learning_rate import LearningRateFunction, constant, rate_at
from ._loading import InMemoryDataSplitter, Minibatches
from ._meters import EpochMeans
from ._plan_arguments import check_plan_kwargs
from ._plan_history import HistoryMixin
from ._schedules import LinearSchedule, Schedule
from ._several_at_once import MINIBATCHES_AT_ONCE, nobody_watches_minibatches, watched

REPORTS = 25
"""Times that a run whose learning rate moves is written to the history."""

_OPTIMIZERS = {"Adam": LeanAdam, "AdamW": LeanAdamW}


class BetaVAETrainingPlan(HistoryMixin, TrainingPlan):
    r"""Trains a beta-VAE with an annealed regularizer.

    The loss is :math:`\mathrm{NLL} + r(t) R` with :math:`r(t) = \beta(t) / \beta`: the schedule anneals the whole
    regularizer, whatever the objective. The history gets, once an epoch and as means over cells, the names of scvi-tools
    (``train_loss``, ``elbo_train``, ``reconstruction_loss_train``, ``kl_local_train``, ``kl_global_train``) and

    - ``beta``: beta of the epoch's last minibatch;
    - ``objective_train``: the loss at full beta, :math:`\mathrm{NLL} + R`, in nats;
    - ``nll_train`` and ``kl_train``: negative log-likelihood and KL to the prior, in nats;
    - ``active_dimensions``: latent dimensions whose KL exceeds 0.01 nats;
    - ``lr``: learning rate of the last minibatch;

    and the same with ``_validation`` wherever validation runs. A run whose learning rate moves writes them at even distances
    in place of once an epoch, 25 times or more (each minibatch, if there are fewer). The index is then the number of epochs done,
    as it is where the run ends within an epoch.

    Parameters
    ----------
    module
        A :class:`~scbetavae.module.BetaVAEModule`.
    schedule
        A schedule, or a function from the epoch, counted from 0, to beta.
    beta
        Beta that the schedule aims for, at least 0.
    lr_schedule
        Function from progress in [0, 1] to the share of the learning rate ``lr``.
    n_steps
        Minibatches after which the run ends, even within an epoch; ``None`` for whole epochs.
    initialize
        Whether the decoder starts from the data: :func:`~scbetavae.train.initialize_decoder`.
    anchored
        Whether the module's anchor is fitted, and in force.
    fused_optimizer
        Whether Adam runs as one kernel, where torch can, on either generation of scvi-tools.
    lr_scheduler_metric
        What ``reduce_lr_on_plateau`` watches. The default is the validation loss at full beta; the plateau is not
        looked for while beta still rises.
    **kwargs
        Arguments of :class:`scvi.train.TrainingPlan`, except those that the schedule replaces.

    Raises
    ------
    TypeError
        For an argument that no plan takes, with the nearest one that it does.
    """

    def __init__(  # noqa: PLR0913 - what scvi-tools takes, and how the run is laid out
        self,
        module: BaseModuleClass,
        *,
        schedule: Schedule | BetaFunction | None = None,
        beta: float | None = None,
        lr_schedule: LearningRateFunction = constant,
        n_steps: int | None = None,
        initialize: bool = False,
        anchored: bool = False,
        fused_optimizer: bool = True,
        lr_scheduler_metric: str = "objective_validation",
        **kwargs: Any,
    ) -> None:
        check_plan_kwargs(kwargs)
        if getattr(module, "reference_is_frozen", False):
            kwargs.setdefault("weight_decay", 0.0)  # it would move weights that have no gradient, too
        super().__init__(module, lr_scheduler_metric=lr_scheduler_metric, **kwargs)
        # scvi-tools 1.4 does not know fused optimizers, so the plan brings its own on both generations.
        self.fused_optimizer = fused_optimizer
        self.schedule = LinearSchedule() if schedule is None else schedule
        self.target_beta = float(module.beta if beta is None else beta)
        self.loss_kwargs["beta"] = self.target_beta
        self.lr_schedule = lr_schedule
        self.n_steps = n_steps
        self.initialize, self.anchored = initialize, anchored
        self.n_steps_done = 0
        self.reported: dict[str, torch.Tensor] = {}
        self._report_every: int | None = None
        self.writes_position = False  # whether the history has the number of epochs done, not that of the epoch
        self.annealed_beta: AnnealedBeta | None = None
        self.divergence_guard: DivergenceGuard | None = None
        self._fraction = 1.0
        self._compiled = bool(kwargs.get("compile"))
        self.minibatches_at_once: int | None = None
        self._train_means = EpochMeans()
        self._validation_means = EpochMeans()

    @property
    def kl_weight(self) -> float:
        """Fraction :math:`r(t)` of the regularizer that the current minibatch trains with."""
        return getattr(self, "_fraction", 1.0)

    @property
    def takes_sparse_counts(self) -> bool:
        """Whether the counts of a minibatch may be a sparse tensor, which a compiled network cannot read."""
        return bool(getattr(self.module, "takes_sparse_counts", False)) and not self._compiled

    @property
    def in_warmup(self) -> bool:
        """Whether beta still rises in the current epoch."""
        return self.annealed_beta is not None and self.current_epoch < self.annealed_beta.warmup_end_epoch

    def setup(self, stage: str) -> None:
        """Decide, before the loaders are made, how many minibatches a step of Lightning's loop trains on."""
        # Not in a plan of a user's, who may count steps; nor where Lightning would have to step a learning-rate schedule,
        # which it does not under manual optimization.
        if stage != "fit" or type(self) is not BetaVAETrainingPlan or self.reduce_lr_on_plateau:
            return
        data = self.trainer.datamodule
        reads_directly = isinstance(data, InMemoryDataSplitter) and data.reads_directly
        if reads_directly and nobody_watches_minibatches(self.trainer, self):
            self.automatic_optimization = False
            self.minibatches_at_once = MINIBATCHES_AT_ONCE

    @property
    def minibatches_per_epoch(self) -> int:
        """Minibatches in an epoch; 1 where the length of an epoch is not known."""
        steps = self.trainer.num_training_batches
        if self.minibatches_at_once is not None:
            return len(self.trainer.train_dataloader.sampler.sampler)
        return int(steps) if math.isfinite(steps) else 1

    def on_train_start(self) -> None:
        """Lay out the run, now that its length is known, start from the data, and watch the losses from here on."""
        trainer = self.trainer
        steps = max(self.minibatches_per_epoch, 1)
        lengths = [self.n_steps, trainer.max_steps if trainer.max_steps > 0 else None]
        lengths.append(trainer.max_epochs * steps if trainer.max_epochs and trainer.max_epochs > 0 else None)
        self.n_steps = max(min((n for n in lengths if n is not None), default=steps), 1)
        epochs = math.ceil(self.n_steps / steps)
        self.annealed_beta = AnnealedBeta(self.schedule, self.target_beta, epochs, steps, self.n_steps)
        if not self.annealed_beta.reaches_target:
            warnings.warn(self.annealed_beta.describe_shortfall(), UserWarning, stacklevel=settings.warnings_stacklevel)
        if self.lr_schedule is not constant:
            self._report_every = max(1, self.n_steps // REPORTS)
        self.writes_position = self._report_every is not None or self.n_steps % steps > 0
        # The objective at full beta has no meaning as a stopping criterion before beta is there. scvi-tools counts checks.
        stopping = trainer.early_stopping_callback
        if hasattr(stopping, "warmup_epochs"):
            checks = self.annealed_beta.warmup_end_epoch // max(trainer.check_val_every_n_epoch or 1, 1)
            stopping.warmup_epochs = max(stopping.warmup_epochs, checks)
        if trainer.ckpt_path is None:  # a run that is resumed has started from the data before
            self._start_from_data()
        self.divergence_guard = DivergenceGuard(self)

    def _start_from_data(self) -> None:
        """Initialize the decoder and fit the anchor, on training cells alone."""
        if not self.initialize and not self.anchored:
            return
        cells = training_cells(self.trainer.datamodule, self.trainer.train_dataloader)
        if self.initialize:
            initialize_decoder(self.module, cells)
        if self.anchored:
            fit_anchor(self.module, cells)

    def training_step(self, batch: dict[str, torch.Tensor] | Minibatches, batch_idx: int) -> torch.Tensor | None:
        """Loss of one minibatch at the current beta; or train on each of several.

        Parameters
        ----------
        batch
            Tensors of the minibatch, or several minibatches.
        batch_idx
            Index of the minibatch, or of the several, in its epoch.

        Returns
        -------
        The loss, a scalar in nats per cell; nothing if the minibatches were trained on.
        """
        if self.minibatches_at_once is None:
            return self._minibatch_loss(batch, batch_idx)
        optimizer = self.optimizers()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for i, minibatch in enumerate(batch.minibatches, start=batch_idx * self.minibatches_at_once):
            loss = self._minibatch_loss(minibatch, i)
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            optimizer.step()
            if self.trainer.should_stop:
                break
        return None

    def _minibatch_loss(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self._begin_minibatch(batch_idx)
        _, _, loss = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self._check_finite(loss.loss)
        self._collect_for_autotune(loss, "training")
        self._end_minibatch(loss.n_obs_minibatch, self._sums_over_cells(loss))
        return loss.loss

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """Record the loss of one minibatch of held-out cells.

        Parameters
        ----------
        batch
            Tensors of the minibatch.
        batch_idx
            Index of the minibatch.
        """
        _, _, loss = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self._validation_means.add(loss.n_obs_minibatch, self._sums_over_cells(loss))
        self._collect_for_autotune(loss, "validation")

    def on_train_epoch_end(self) -> None:
        """Write the epoch's means to the history, unless they are written at other times."""
        if not self.writes_position:
            self._log("train", self._means("train"))
            return
        if self._report_every is None:
            self._report("train")
        if watched(self.trainer):
            self._log("train", self.reported or self._report("train"), logger=False)

    def on_train_end(self) -> None:
        """Refuse weights that the last step broke."""
        if self.divergence_guard is not None:
            self.divergence_guard.end_training()

    def on_validation_epoch_end(self) -> None:
        """Write the validation means to the history, before anything that watches them looks."""
        if self.writes_position:
            self._log("validation", self._report("validation"), logger=False)
        else:
            self._log("validation", self._means("validation"))

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step the learning-rate schedule, but look for no plateau while beta still rises.

        Parameters
        ----------
        scheduler
            The learning-rate scheduler.
        metric
            Value of the watched quantity.
        """
        if not self.in_warmup:
            super().lr_scheduler_step(scheduler, metric)

    def get_optimizer_creator(self) -> Any:
        """Return the function from parameters to optimizer."""
        if self.optimizer_name not in _OPTIMIZERS:
            return super().get_optimizer_creator()
        optimizer_cls = _OPTIMIZERS[self.optimizer_name]
        settings_ = {"lr": self.lr, "eps": self.eps, "weight_decay": self.weight_decay}

        def create(params: Any) -> torch.optim.Optimizer:
            params = list(params)
            if self.fused_optimizer:
                try:
                    return optimizer_cls(params, fused=True, **settings_)
                except (RuntimeError, TypeError):
                    pass  # torch says at construction whether a device and its dtypes have a fused kernel
            return optimizer_cls(params, **settings_)

        return create

    def _check_finite(self, loss: torch.Tensor, what: str = "loss") -> None:
        if self.divergence_guard is not None:
            self.divergence_guard.check(loss, what)

    def _begin_minibatch(self, batch_idx: int) -> None:
        """Set beta, the learning rate and the anchor for a minibatch of the current epoch."""
        progress = 1.0
        if self.annealed_beta is not None:
            steps = self.annealed_beta.steps_per_epoch
            step = self.current_epoch * steps + min(batch_idx, steps - 1)
            progress = step / self.n_steps
            if self.target_beta > 0:
                self._fraction = self.annealed_beta.fraction(step)
            if self.lr_schedule is not constant:
                self._set_learning_rate(rate_at(self.lr_schedule, progress, self.lr))
            self.n_steps_done = step + 1
        self.loss_kwargs["kl_weight"] = self._fraction
        if self.anchored:
            self.loss_kwargs["anchor_share"] = self.module.anchor.share(progress)

    def _set_learning_rate(self, rate: float) -> None:
        """Set the rate of encoder and decoder; a discriminator keeps its own."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def _end_minibatch(self, n_cells: int, sums: dict[str, torch.Tensor]) -> None:
        """Add a minibatch to the means, write them down where it is time to, and end a run within an epoch."""
        self._train_means.add(n_cells, sums)
        if self.annealed_beta is None:
            return
        ends = self.n_steps_done >= self.n_steps
        if self._report_every and (ends or self.n_steps_done % self._report_every == 0):
            self._report("train")
        if ends:
            self.trainer.should_stop = True

    def _collect_for_autotune(self, loss: LossOutput, stage: str) -> None:
        if "z" in loss.extra_metrics:  # scvi-tools asks for codes in the payload when it tunes on scIB metrics
            self.prepare_scib_autotune(loss.extra_metrics, stage)
