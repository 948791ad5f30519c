"""Training, and what is written down about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from scbetavae import _keys
from scbetavae.train import (
    BetaVAETrainingPlan,
    FactorVAETrainingPlan,
    InMemoryDataSplitter,
    Schedule,
    resolve_schedule,
    schedule_to_dict,
)

from ._fingerprint import check_unchanged


class TrainingMixin:
    """Trains with a schedule of beta, and stores the run beside the data."""

    _training_plan_cls = BetaVAETrainingPlan
    _data_splitter_cls = InMemoryDataSplitter

    def train(
        self,
        max_epochs: int | None = None,
        beta_schedule: str | float | Schedule | Callable[[int], float] = "linear",
        *,
        plan_kwargs: Mapping[str, Any] | None = None,
        trainer_config: Mapping[str, Any] | None = None,
        data_on_device: bool | Literal["auto"] = "auto",
        key_added: str = _keys.UNS,
        **kwargs: Any,
    ) -> Self:
        """Train the model.

        Parameters
        ----------
        max_epochs
            Passes over the training cells, at least 1. ``None`` takes the heuristic of scvi-tools, 400 for up to 20 000
            cells and fewer beyond.
        beta_schedule
            How beta moves: ``"linear"``, ``"cosine"``, ``"sigmoid"``, ``"cyclical"`` or ``"constant"``; an object such as
            ``scbetavae.train.LinearSchedule(warmup=0.25)``; a number, to train at that beta from first to last; or a
            function from the epoch, counted from 0, to beta. The warm-up is a fraction of the run unless said otherwise,
            so that the run ends at the model's beta.
        plan_kwargs
            Arguments of :class:`~scbetavae.train.BetaVAETrainingPlan`, for example ``{"lr": 1e-3}``.
        trainer_config
            Arguments of :class:`scvi.train.Trainer` as a mapping; ``**kwargs`` take precedence.
        data_on_device
            Whether cells in memory are copied to the accelerator once, so that it never waits for the CPU: ``"auto"`` does
            so where they take up to half of its free memory.
        key_added
            Entry of ``.uns`` that receives ``"params"``, a flat dict, and ``"history"``, a DataFrame with a row an epoch.
        **kwargs
            Arguments of :meth:`scvi.model.SCVI.train`: ``early_stopping``, ``batch_size``, ``train_size``, ``accelerator``,
            ``devices``, ``datamodule``, ``check_val_every_n_epoch``, ``enable_progress_bar`` and so on. Early stopping
            watches ``objective_validation``, the validation loss at full beta, and sleeps during warm-up.

        Returns
        -------
        The model itself.

        Raises
        ------
        ValueError
            For an unknown schedule, a beta below 0, a run of no epochs, or data that changed since they were set up.
        TypeError
            For an argument that the plan does not take.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k()
        >>> scbetavae.model.BetaVAE.setup_anndata(adata)
        >>> model = scbetavae.model.BetaVAE(adata, beta=2.0)
        >>> model = model.train(max_epochs=5, enable_progress_bar=False, accelerator="cpu")
        >>> float(model.history["beta"].iloc[-1, 0])
        2.0
        """
        schedule, target = resolve_schedule(beta_schedule, self.module.beta)
        if max_epochs is not None and (isinstance(max_epochs, bool) or max_epochs != int(max_epochs) or max_epochs < 1):
            msg = f"max_epochs={max_epochs!r} is not a number of epochs. Give a whole number of at least 1, or None."
            raise ValueError(msg)
        if not any(parameter.requires_grad for parameter in self.module.parameters()):
            msg = (
                "Nothing is left to train: every parameter is frozen. A model that is not conditioned on batch maps query "
                "cells as it is; to adapt it, call load_query_data(..., unfrozen=True)."
            )
            raise ValueError(msg)
        if self.adata is not None:
            check_unchanged(self.adata_manager, whole=True)
        plan_kwargs = {**(plan_kwargs or {}), "schedule": schedule, "beta": target}
        defaults = dict.fromkeys(("early_stopping_monitor", "checkpointing_monitor"), "objective_validation")
        # The plan logs by epoch alone; Lightning would warn that an epoch has fewer steps than its interval.
        defaults["log_every_n_steps"] = 1
        for name, value in defaults.items():
            if not (isinstance(trainer_config, Mapping) and name in trainer_config):
                kwargs.setdefault(name, value)
        if issubclass(self._training_plan_cls, FactorVAETrainingPlan):
            for name in ("gradient_clip_val", "gradient_clip_algorithm"):
                plan_kwargs.setdefault(name, kwargs.pop(name, None))
        if kwargs.get("datamodule") is None:
            splitter = dict(kwargs.pop("datasplitter_kwargs", None) or {})
            kwargs["datasplitter_kwargs"] = {"data_on_device": data_on_device, **splitter}
        self.module.train()  # scvi-tools leaves a trained module in eval mode, and Lightning would train it so: docs/upstream.md
        super().train(
            max_epochs=None if max_epochs is None else int(max_epochs),
            plan_kwargs=plan_kwargs,
            trainer_config=trainer_config,
            **kwargs,
        )
        if self.adata is not None and self.history:  # of several processes, only the first has a history
            stored = dict(self.adata.uns.get(key_added, {}))
            stored[_keys.PARAMS] = self._describe_run(schedule, target)
            stored[_keys.HISTORY] = self._history_frame()
            self.adata.uns[key_added] = stored
        if self.history:
            self._warn_of_collapse()
        return self

    def _describe_run(self, schedule: Schedule | Callable[[int], float], target: float) -> dict[str, Any]:
        """Flat dict of plain values: constructor arguments, schedule and length of the run."""
        arguments = self.init_params_["non_kwargs"] | self.init_params_["kwargs"].get("kwargs", {})
        objective_kwargs = arguments.pop("objective_kwargs", None) or {}
        arguments |= {f"objective_kwargs_{name}": value for name, value in objective_kwargs.items()}
        arguments |= schedule_to_dict(schedule) | {"beta": target, "epochs": len(self.history["beta"])}
        return {name: value for name, value in arguments.items() if isinstance(value, str | bool | int | float)}

    def _history_frame(self) -> pd.DataFrame:
        """History with a row an epoch; ours first, then what the objective added, then scvi-tools' names."""
        first = ["beta", "objective_train", "nll_train", "kl_train", "active_dimensions"]
        first += [name.replace("_train", "_validation") for name in first[1:4]]
        frames = {name: frame[name] for name, frame in self.history.items() if frame.index.name == "epoch"}
        duplicates = {"kl_local", "kl_global", "reconstruction_loss", "elbo", "loss"}
        names = [name for name in first if name in frames]
        names += [
            name
            for name in frames
            if name not in first
            and name.removesuffix("_train").removesuffix("_validation") not in duplicates
            and name not in ("train_loss", "validation_loss")
        ]
        frame = pd.DataFrame({name: frames[name].astype(float) for name in names})
        frame.index = pd.Index(np.arange(1, len(frame) + 1), name="epoch")
        return frame
