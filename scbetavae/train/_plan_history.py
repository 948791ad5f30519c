"""The training history: means over cells, under the names of scvi-tools and ours."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from scvi.train import TrainingPlan

from scbetavae._core.constants import ACTIVE_KL

from ._annealing import AnnealedBeta, BetaFunction, schedule_to_dict
from ._divergence import DivergenceGuard
from ._schedules import Schedule
from ._several_at_once import watched


class HistoryPlan(TrainingPlan):
    """Writes the means of a :class:`~scbetavae.train.BetaVAETrainingPlan`."""

    module: Any
    trainer: Any
    annealed_beta: AnnealedBeta | None
    _train_means: EpochMeans
    _validation_means: EpochMeans
    divergence_guard: DivergenceGuard | None
    schedule: Schedule | BetaFunction
    target_beta: float
    n_steps: Any
    n_steps_done: int
    n_validation_minibatches = 0
    _fraction: float

    def describe(self) -> dict[str, Any]:
        """The run as a flat dict of plain values: schedules, length, start and anchor."""
        name = getattr(self.lr_schedule, "__name__", type(self.lr_schedule).__name__)
        run = schedule_to_dict(self.schedule) | {"beta": self.target_beta, "steps": self.n_steps_done}
        run |= {"lr": float(self.lr), "lr_schedule": name, "initialized_from_data": self.initialize}
        anchor = self.module.anchor
        if anchor is not None:
            run |= {"anchor": anchor.kind, "anchored": self.anchored, "anchor_components": anchor.n_components}
            if (anchor.stability >= 0).any():  # of each dimension: get_latent_summary
                run["anchor_stability"] = float(anchor.stability[anchor.stability >= 0].mean())
        return run

    def on_train_epoch_end(self) -> None:
        """Write the epoch's means to the history if its last minibatch did not know that it was the last."""
        if not self._epoch_is_logged:
            self._log_epoch()
        self._epoch_is_logged = False

    def _log_epoch(self) -> None:
        """Hand the epoch's means to Lightning, and write them to the history, unless they are written at other times."""
        if not self.writes_position:
            self._log("train", self._means("train"))
            return
        if self._report_every is None:
            self._report("train")
        if watched(self.trainer):
            self._log("train", self.reported or self._report("train"), logger=False)

    def on_validation_epoch_end(self) -> None:
        """Write the validation means to the history, unless the last minibatch of cells did."""
        self._log_validation()

    def _log_validation(self) -> None:
        """Hand the validation means to Lightning and write them to the history, before any callback looks at them."""
        if self.writes_position:
            self._log("validation", self._report("validation"), logger=False)
        else:
            self._log("validation", self._means("validation"))

    def _sums_over_cells(self, loss: Any) -> dict[str, torch.Tensor]:
        """Sums over the cells of a minibatch, by name."""
        n_cells = loss.n_obs_minibatch
        sums = {
            "loss": loss.loss.detach() * n_cells,
            "nll": loss.reconstruction_loss_sum,
            "kl_local": loss.kl_local_sum,
            "kl_per_dimension": loss.kl_per_dimension * n_cells,
        }
        for name, value in loss.extra_metrics.items():
            if isinstance(value, torch.Tensor) and value.ndim == 0:
                sums[f"extra:{name}"] = value.detach() * n_cells
        return sums

    def _log_step(self, mode: str, n_cells: int, sums: dict[str, torch.Tensor]) -> None:
        """Hand the means of a minibatch to loggers and callbacks, if ``on_step`` asks for them."""
        if not self.on_step:
            return
        means = self._named_means({name: value / n_cells for name, value in sums.items()}, mode)
        values = {f"{name}_step": value for name, value in means.items()}
        self.log_dict(values, on_step=True, on_epoch=False, logger=False)
        step = self.n_steps_done
        if mode == "validation":
            self.n_validation_minibatches += 1
            step = self.n_validation_minibatches
        if step % self.trainer.log_every_n_steps == 0:
            for logger in self.trainer.loggers:
                logger.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    def _report(self, mode: str) -> dict[str, torch.Tensor]:
        """Write the means since the last report to the history; Lightning's own log has whole epochs only, and is slow."""
        values = self._means(mode)
        position = self.n_steps_done / (self.annealed_beta.steps_per_epoch if self.annealed_beta else 1)
        row = {name: float(value) for name, value in values.items()}
        for logger in self.trainer.loggers if row else ():
            logger.log_metrics(row | {"epoch": position}, step=self.n_steps_done)
        if mode == "train":
            self.reported = values
        return values

    def _log(self, mode: str, values: dict[str, torch.Tensor], *, logger: bool = True) -> None:
        """Hand means to Lightning, for callbacks and, unless it has them already, the history."""
        values = dict(values)
        total = "train_loss" if mode == "train" else "validation_loss"
        of_epoch: Any = {"on_step": False, "on_epoch": True, "batch_size": 1, "logger": logger}
        if total in values:
            self.log(total, values.pop(total), prog_bar=mode == "train", **of_epoch)
            self.log_dict(values, **of_epoch)

    def _means(self, mode: str) -> dict[str, torch.Tensor]:
        """Means over the cells seen since they were last asked for, by name; empty if there were none."""
        distributed = isinstance(self.trainer.strategy, DDPStrategy)
        means = self._train_means if mode == "train" else self._validation_means
        values = means.compute(self.trainer.strategy if distributed else None)
        if not values:
            return {}
        if self.divergence_guard is not None:
            what = "mean training loss" if mode == "train" else "validation loss"
            self.divergence_guard.check_mean(values["loss"], what)
        means = self._named_means(values, mode)
        if self.on_step and self.on_epoch:  # scvi-tools then has names for both
            means |= {f"{name}_epoch": value for name, value in means.items()}
        return means

    def _named_means(self, values: dict[str, torch.Tensor], mode: str) -> dict[str, torch.Tensor]:
        """Means over cells under the names of scvi-tools and ours."""
        kl_per_dimension = values.pop("kl_per_dimension")
        loss, nll, kl_local = (values.pop(name) for name in ("loss", "nll", "kl_local"))
        active = "active_dimensions" if mode == "train" else f"active_dimensions_{mode}"
        names = {
            "train_loss" if mode == "train" else "validation_loss": loss,
            f"elbo_{mode}": nll + kl_local,
            f"reconstruction_loss_{mode}": nll,
            f"kl_local_{mode}": kl_local,
            f"kl_global_{mode}": torch.zeros_like(nll),
            f"nll_{mode}": nll,
            f"kl_{mode}": kl_per_dimension.sum(),
            active: (kl_per_dimension > ACTIVE_KL).sum().float(),
        }
        if mode == "train":
            names["beta"] = torch.tensor(self._fraction * self.target_beta)
            names["lr"] = torch.tensor(float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        return names | {f"{name.removeprefix('extra:')}_{mode}": value for name, value in values.items()}


class EpochMeans:
    """Sums of named quantities over the cells of an epoch, on the device, so that no training step waits for a copy."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._n_cells = 0

    def add(self, n_cells: int, sums: dict[str, torch.Tensor]) -> None:
        """Add the sums over the cells of one minibatch, tensors of any shape that stays the same."""
        self._n_cells += n_cells
        for name, value in sums.items():
            if name in self._sums:
                self._sums[name] += value.detach()
            else:
                self._sums[name] = value.detach().clone()

    def compute(self, strategy: Any = None) -> dict[str, torch.Tensor]:
        """Means over cells, summed over devices by a Lightning strategy; the next epoch starts. Empty if there were none."""
        sums, n_cells = self._sums, self._n_cells
        self._sums, self._n_cells = {}, 0
        if not n_cells:
            return {}
        if strategy is None:
            return {name: value / n_cells for name, value in sums.items()}
        some = next(iter(sums.values()))
        total = strategy.reduce(torch.tensor(float(n_cells), device=some.device), reduce_op="sum")
        return {name: strategy.reduce(value, reduce_op="sum") / total for name, value in sums.items()}
