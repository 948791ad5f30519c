"""What a plan writes to the history: means over cells, under the names of scvi-tools and ours."""

from __future__ import annotations

import torch
from lightning.pytorch.strategies import DDPStrategy
from scvi.module.base import LossOutput

from ._meters import EpochMeans

ACTIVE_KL = 0.01
"""KL in nats above which a latent dimension counts as active."""


class HistoryMixin:
    """Writes the means of a :class:`~scbetavae.train.BetaVAETrainingPlan`."""

    def _sums_over_cells(self, loss: LossOutput) -> dict[str, torch.Tensor]:
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

    def _log_means(self, means: EpochMeans, mode: str, *, within_epoch: bool = False) -> None:
        distributed = isinstance(self.trainer.strategy, DDPStrategy)
        values = means.compute(self.trainer.strategy if distributed else None)
        if not values:
            return
        total = "train_loss" if mode == "train" else "validation_loss"
        values = self._named_means(values, mode)
        if self._writes_position:  # Lightning knows of whole epochs alone
            position = self.n_steps_done / self.annealed_beta.steps_per_epoch
            for logger in self.trainer.loggers:
                logger.log_metrics(
                    {k: float(v) for k, v in values.items()} | {"epoch": position}, step=self.n_steps_done
                )
        if not within_epoch:
            if self.divergence_guard is not None:
                self.divergence_guard.end_epoch(
                    values[total], "mean training loss" if mode == "train" else "validation loss"
                )
            self.log(total, values.pop(total), prog_bar=mode == "train", logger=not self._writes_position)
            self.log_dict(values, logger=not self._writes_position)

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
