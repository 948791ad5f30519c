"""The Lightning plan: one training step, and the layout of a run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from functools import partial
from inspect import signature
from typing import Any

import torch
from scvi import settings
from scvi.train import TrainingPlan

from scbetavae._core.checks import check_arguments

from ._adam import LEAN_OPTIMIZERS, make_lean_optimizer
from ._anchor_fit import fit_anchor
from ._annealing import AnnealedBeta, BetaFunction
from ._divergence import DivergenceGuard
from ._guided_fit import fit_guided
from ._initialization import initialize_decoder, training_cells
from ._learning_rate import LearningRateFunction, constant, move_rates, rate_at
from ._loading import InMemoryDataSplitter
from ._plan_history import EpochMeans, HistoryPlan
from ._schedules import LinearSchedule, Schedule
from ._several_at_once import MINIBATCHES_AT_ONCE, nobody_watches_minibatches

REPORTS = 25  # rows of the history of a run whose learning rate changes

_REPLACED_BY_SCHEDULE = ("n_epochs_kl_warmup", "n_steps_kl_warmup", "max_kl_weight", "min_kl_weight")


class BetaVAETrainingPlan(HistoryPlan):
    r"""Trains a beta-VAE with an annealed regularizer.

    The loss is :math:`\mathrm{NLL} + r(t) R` with :math:`r(t) = \beta(t) / \beta`: the schedule anneals the whole
    regularizer of any objective. The history gets, once per epoch and as means over cells, the names of scvi-tools
    (``train_loss``, ``elbo_train``, ``reconstruction_loss_train``, ``kl_local_train``, ``kl_global_train``) and

    - ``beta`` and ``lr``: beta and learning rate of the last minibatch;
    - ``objective_train``: the loss at full beta, :math:`\mathrm{NLL} + R`, in nats;
    - ``nll_train`` and ``kl_train``: negative log-likelihood and KL to the prior, in nats;
    - ``active_dimensions``: latent dimensions whose KL exceeds 0.01 nats;
    - the ``history`` of the objective;

    and the same with ``_validation`` wherever validation runs. If the learning rate changes, it has at least 25 rows at even
    distances (one per minibatch, if there are fewer), and its index is the number of epochs done, with fractions.

    Parameters
    ----------
    module
        A :class:`~scbetavae.module.BetaVAEModule`.
    schedule, beta
        A schedule, or a function from the epoch, counted from 0, to beta; and the beta that it aims for, at least 0.
    lr_schedule
        Function from progress in [0, 1] to the share of the learning rate ``lr``.
    n_steps
        Minibatches after which the run ends, even within an epoch; ``None`` for whole epochs.
    initialize, anchored
        Whether the decoder starts at the mean expression and dispersion of the training cells, and whether the module's anchor
        is fitted and in force.
    fused_optimizer
        Whether Adam runs as one kernel, where torch can, on either generation of scvi-tools.
    **kwargs
        Arguments of :class:`scvi.train.TrainingPlan`, except those that the schedule replaces. ``reduce_lr_on_plateau`` watches
        the validation loss at full beta, once beta has reached its target. ``on_step=True`` adds the values of minibatches to the
        history, every ``log_every_n_steps`` of the trainer, under names that end in ``_step``.

    A callback or scheduler that changes the learning rate of the optimizer scales the rest of the schedule.

    Raises
    ------
    TypeError
        For an argument that the plan does not take.
    """

    def __init__(
        self,
        module: Any,
        *,
        schedule: Schedule | BetaFunction | None = None,
        beta: float | None = None,
        lr_schedule: LearningRateFunction = constant,
        n_steps: int | None = None,
        initialize: bool = False,
        anchored: bool = False,
        fused_optimizer: bool = True,
        **kwargs: Any,
    ) -> None:
        _check_plan_arguments(kwargs)
        if getattr(module, "reference_is_frozen", False):
            kwargs.setdefault("weight_decay", 0.0)  # it would change weights without a gradient, too
        super().__init__(module, **{"lr_scheduler_metric": "objective_validation", **kwargs})
        # scvi-tools 1.4 does not know fused optimizers, so the plan brings its own on both generations.
        self.fused_optimizer = fused_optimizer
        self.schedule = LinearSchedule() if schedule is None else schedule
        self.target_beta = float(module.beta if beta is None else beta)
        self.loss_kwargs["beta"] = self.target_beta
        self.lr_schedule = lr_schedule
        self.n_steps: Any = n_steps  # a number once the run is laid out
        self.initialize, self.anchored = initialize, anchored
        self.n_steps_done = 0
        self.reported: dict[str, torch.Tensor] = {}
        self._report_every: int | None = None
        self.writes_position = False  # whether the history has the number of epochs done, not that of the epoch
        self.annealed_beta: AnnealedBeta | None = None
        self.divergence_guard: DivergenceGuard | None = None
        self._fraction, self._compiled = 1.0, bool(kwargs.get("compile"))
        self.minibatches_at_once: int | None = None
        self._train_means, self._validation_means = EpochMeans(), EpochMeans()
        self._epoch_is_logged = False

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
        # Not in a user's plan, which may count steps; nor with a learning-rate schedule, which Lightning does not step under
        # manual optimization.
        if stage != "fit" or type(self) is not BetaVAETrainingPlan or self.reduce_lr_on_plateau:
            return
        data = self.trainer.datamodule
        reads_directly = isinstance(data, InMemoryDataSplitter) and data.reads_directly
        if reads_directly and not self.on_step and nobody_watches_minibatches(self.trainer, self):
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
        """Lay out the run, now that its length is known, start from the data, and watch the losses."""
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
        # The objective at full beta is no stopping criterion during the warm-up. scvi-tools counts checks, not epochs.
        stopping = trainer.early_stopping_callback
        if hasattr(stopping, "warmup_epochs"):
            checks = self.annealed_beta.warmup_end_epoch // max(trainer.check_val_every_n_epoch or 1, 1)
            stopping.warmup_epochs = max(stopping.warmup_epochs, checks)
        if trainer.ckpt_path is None:  # a run that is resumed has started from the data before
            self._start_from_data()
        if self.module.guided is not None:
            self.module.guided.empty_bank()
        self.divergence_guard = DivergenceGuard(self)

    def _start_from_data(self) -> None:
        """Initialize the decoder, and fit what is guided and the anchor, on training cells alone."""
        guided = self.module.guided
        if self.initialize or self.anchored or guided is not None:
            cells = training_cells(self.trainer.datamodule, self.trainer.train_dataloader)
        if guided is not None:
            fit_guided(self.module, cells)
        if self.initialize:
            initialize_decoder(self.module, cells)
        if self.anchored:
            fit_anchor(self.module, cells)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor | None:
        """Loss of one minibatch at the current beta, nats per cell; or train on several minibatches and return nothing."""
        if self.minibatches_at_once is None:
            return self._minibatch_loss(batch, batch_idx)
        optimizer: Any = self.optimizers()
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
        """Loss of a minibatch, with everything that belongs to it before and after."""
        self._begin_minibatch(batch_idx)
        _, _, loss = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self._check_finite(loss.loss)
        self._collect_for_autotune(loss, "training")
        self._end_minibatch(loss.n_obs_minibatch, self._sums_over_cells(loss))
        return loss.loss

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """Record the loss of one minibatch of held-out cells."""
        _, _, loss = self.forward(batch, loss_kwargs=self.loss_kwargs)
        sums = self._sums_over_cells(loss)
        self._log_step("validation", loss.n_obs_minibatch, sums)
        self._validation_means.add(loss.n_obs_minibatch, sums)
        self._collect_for_autotune(loss, "validation")
        if batch_idx + 1 == sum(self.trainer.num_val_batches):
            self._log_validation()

    def on_train_end(self) -> None:
        """Refuse weights that the last step broke."""
        super().on_train_end()
        if self.module.guided is not None:
            self.module.guided.empty_bank()
        if self.divergence_guard is not None:
            self.divergence_guard.end_training()

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step the learning-rate schedule, except during the warm-up of beta."""
        if not self.in_warmup:
            super().lr_scheduler_step(scheduler, metric)

    def get_optimizer_creator(self) -> Any:
        """Return the function from parameters to optimizer."""
        if self.optimizer_name not in LEAN_OPTIMIZERS:
            return super().get_optimizer_creator()
        options = {"lr": self.lr, "eps": self.eps, "weight_decay": self.weight_decay}
        return partial(make_lean_optimizer, self.optimizer_name, fused=self.fused_optimizer, **options)

    def _check_finite(self, loss: torch.Tensor, what: str = "loss") -> None:
        """Stop a run whose loss is not finite."""
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
            if self.lr_schedule is not constant:  # a discriminator keeps its own rate
                move_rates(self.trainer.optimizers[0], rate_at(self.lr_schedule, progress, self.lr))
            self.n_steps_done = step + 1
        self.loss_kwargs["kl_weight"] = self._fraction
        if self.anchored:
            self.loss_kwargs["anchor_share"] = self.module.anchor.share(progress)

    def _end_minibatch(self, n_cells: int, sums: dict[str, torch.Tensor]) -> None:
        """Add a minibatch to the means, write them to the history when due, and end a run within an epoch."""
        self._log_step("train", n_cells, sums)
        self._train_means.add(n_cells, sums)
        if self.annealed_beta is None:
            return
        ends = self.n_steps_done >= self.n_steps
        if self._report_every and (ends or self.n_steps_done % self._report_every == 0):
            self._report("train")
        if ends:
            self.trainer.should_stop = True
        # Callbacks look at the end of the epoch before the plan's own hook; a batch of Lightning's may be several minibatches.
        ends_epoch = self.n_steps_done % self.annealed_beta.steps_per_epoch == 0
        if ends or (ends_epoch and self.trainer.is_last_batch):
            self._log_epoch()
            self._epoch_is_logged = True

    def _collect_for_autotune(self, loss: Any, stage: str) -> None:
        """Keep latent representations where scvi-tools tunes on scIB metrics."""
        if "z" in loss.extra_metrics:
            self.prepare_scib_autotune(loss.extra_metrics, stage)


def _check_plan_arguments(given: Iterable[str]) -> None:
    """Refuse arguments that scvi-tools would pass on to the loss, which would fail in the first minibatch."""
    for name in given:
        if name in _REPLACED_BY_SCHEDULE:
            msg = (
                f"{name!r} is not an argument of this plan: the model's beta and train(beta_schedule=...) set beta and its "
                "warm-up, for example scbetavae.train.LinearSchedule(warmup_epochs=50)."
            )
            raise TypeError(msg)
    plans = (BetaVAETrainingPlan, TrainingPlan)
    allowed = [name for plan in plans for name, p in signature(plan).parameters.items() if p.kind is p.KEYWORD_ONLY]
    check_arguments(given, [name for name in allowed if name not in _REPLACED_BY_SCHEDULE], "The training plan")
