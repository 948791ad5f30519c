"""Train a model, and record how."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from importlib.metadata import version
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scvi
import torch
from scvi.model import SCVI

from scbetavae import __version__
from scbetavae._core import keys, results
from scbetavae._core.logs import LIGHTNING, quiet
from scbetavae.train import Schedule, TrainingDivergedError, epochs_done, explicit, schedule_arguments

from ._data_module import build_module
from ._fingerprint import check_unchanged
from ._guided import check_confounding
from ._latent_summary_collapse import warn_of_collapse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ._betavae import BetaVAE

_SMALL_LAYER = 200_000
"""Weights of a layer up to which a minibatch is too small to share between threads."""


def train(  # noqa: PLR0913 - independent choices, each with a default
    self: BetaVAE,
    max_epochs: int | None = None,
    beta_schedule: str | float | Schedule | Callable[[int], float] = "linear",
    *,
    max_steps: int | None = None,
    lr_schedule: str | Callable[[float], float] | None = None,
    initialize: bool = True,
    plan_kwargs: Mapping[str, Any] | None = None,
    trainer_config: Any = None,
    data_on_device: bool | Literal["auto"] = "auto",
    key_added: str = keys.UNS,
    **kwargs: Any,
) -> BetaVAE:
    r"""Train the model.

    The default run starts from the data, moves the learning rate over one cycle and takes :math:`15 \sqrt n` minibatches for
    :math:`n` training cells, at least 300 and at most 3000: seconds on a laptop.

    Parameters
    ----------
    max_epochs
        Passes over the training cells, at least 1, in place of the default length. With early stopping or
        ``reduce_lr_on_plateau``, ``None`` is the heuristic of scvi-tools, 400 for up to 20 000 cells and fewer beyond.
    beta_schedule
        How beta moves: ``"linear"``, ``"cosine"``, ``"sigmoid"``, ``"cyclical"`` or ``"constant"``; an object such as
        ``scbetavae.train.LinearSchedule(warmup=0.25)``; a number, to train at that beta from first to last; or a function from
        the epoch, counted from 0, to beta. The warm-up is 10% of the run unless said otherwise, so that the run ends at the
        model's beta.
    max_steps
        Minibatches to train on, at least 1, in place of the default length or of ``max_epochs``.
    lr_schedule
        How the learning rate moves: ``"one_cycle"``, up to ``plan_kwargs["lr"]`` (0.01) over the first tenth of the run and down
        a cosine; ``"constant"``, at ``plan_kwargs["lr"]`` (0.001); or a function from progress in [0, 1] to the share of
        ``plan_kwargs["lr"]`` (0.001). ``None`` takes one cycle, or a constant rate with ``early_stopping`` or
        ``reduce_lr_on_plateau``, which need a run whose end is not known.
    initialize
        Whether the decoder starts at the mean expression and the dispersion of the training cells. A model that was trained or
        loaded before goes on from where it is.
    plan_kwargs
        Arguments of :class:`~scbetavae.train.BetaVAETrainingPlan`, for example ``{"lr": 1e-3}``.
    trainer_config
        Arguments of :class:`scvi.train.Trainer`, a mapping or a :class:`scvi.train.TrainerConfig`; ``**kwargs`` take precedence.
    data_on_device
        Whether cells in memory are copied to the accelerator once, so that it never waits for the CPU: ``"auto"`` does so where
        they take up to half of its free memory.
    key_added
        Entry of ``.uns`` that receives ``"params"``, a flat dict, and ``"history"``, a DataFrame with one row per epoch or more.
        Name another than the default for a second model on the same AnnData, and the results of the first stay.
    **kwargs
        Arguments of :meth:`scvi.model.SCVI.train`: ``early_stopping``, ``batch_size``, ``train_size``, ``accelerator``,
        ``devices``, ``datamodule``, ``check_val_every_n_epoch``, ``enable_progress_bar`` and so on. Early stopping watches
        ``objective_validation``, the validation loss at full beta, and is disabled during warm-up.

    Returns
    -------
    The model itself.

    Training removes from ``.uns["betavae"]`` the results that describe ``.obsm["X_betavae"]``, which are those of the previous
    model, unless this is the first training of a model with a ``key_added`` of its own. The entry of ``.obsm`` stays, and
    functions that read it by ``obsm_key`` raise an error until it is replaced.

    Raises
    ------
    ValueError
        For an unknown schedule, a beta below 0, a learning rate that is not positive, a run of no epochs, both ``max_epochs`` and
        ``max_steps``, or data that changed since they were set up.
    KeyboardInterrupt
        If training is interrupted. The model keeps its weights and can be used.
    TypeError
        For an argument that the plan does not take.
    scbetavae.model.TrainingDivergedError
        If the loss becomes NaN or infinite. A model that was trained before is then as it was; a new one keeps its last weights
        with a finite loss and does not count as trained.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> scbetavae.model.BetaVAE.setup_anndata(adata)
    >>> model = scbetavae.model.BetaVAE(adata, beta=2.0).train(max_epochs=5, enable_progress_bar=False)
    >>> float(model.history["beta"].iloc[-1, 0])
    2.0
    """
    config = explicit(trainer_config, "trainer")
    max_epochs = config.pop("max_epochs", None) if max_epochs is None else max_epochs
    kwargs = config | kwargs
    _check_length(max_epochs, max_steps)
    build_module(self, kwargs.get("datamodule"))
    plan_kwargs = explicit(kwargs.pop("plan_config", None), "plan") | dict(plan_kwargs or {})
    open_ended = bool(kwargs.get("early_stopping") or plan_kwargs.get("reduce_lr_on_plateau"))
    plan_kwargs |= schedule_arguments(
        beta_schedule, lr_schedule, beta=self.module.beta, lr=plan_kwargs.get("lr"), open_ended=open_ended
    )
    if not any(parameter.requires_grad for parameter in self.module.parameters()):
        msg = (
            "Nothing is left to train: every parameter is frozen. A model that is not conditioned on batch, or knows one "
            "batch alone, maps query cells as it is; to adapt it, call load_query_data(..., unfrozen=True)."
        )
        raise ValueError(msg)
    _check_validation(kwargs)
    if self.adata is not None:
        check_unchanged(self.adata_manager, whole=True)
    fresh = not self.is_trained_ and not self.starts_from_weights_
    confounding = check_confounding(self) if fresh else None
    plan_kwargs |= {
        "n_steps": max_steps,
        "initialize": initialize and fresh,
        "anchored": fresh and self.module.anchor is not None,
    }
    if kwargs.get("datamodule") is None:
        splitter = dict(kwargs.pop("datasplitter_kwargs", None) or {})
        kwargs["datasplitter_kwargs"] = {"data_on_device": data_on_device, **splitter}
    if max_epochs is None and (max_steps is not None or not open_ended):
        max_epochs = -1  # the length in minibatches decides
    kwargs["max_epochs"] = None if max_epochs is None else int(max_epochs)
    started = time.perf_counter()
    _fit(self, key_added, {"plan_kwargs": plan_kwargs, **kwargs})
    seconds = time.perf_counter() - started
    if self.adata is not None and self.trainer.is_global_zero:  # of several processes, the first
        run: dict[str, Any] = {keys.PARAMS: _describe_run(self, seconds)}
        if self.history:  # there is none with a logger of the user's own
            run[keys.HISTORY] = _history_frame(self)
        if confounding is not None:
            run[keys.CONFOUNDING] = confounding
        self.adata.uns[key_added] = {**self.adata.uns.get(key_added, {}), **run}
    if self.history:
        warn_of_collapse(self)
    return self


def _fit(self: BetaVAE, key_added: str, arguments: Mapping[str, Any]) -> None:
    """Train, and drop the results of the previous latent representation if that has changed."""
    self.module.train()  # scvi-tools leaves a trained module in eval mode, and Lightning would train it so: docs/upstream.md
    was_trained, weights = self.is_trained_, _weights(self)
    try:
        with _divergence_undone(self, weights), quiet(*LIGHTNING), _few_threads(self):
            SCVI.train(self, **arguments)
    finally:  # an interrupted training has changed the latent representation, too
        replaces = was_trained or (self.is_trained_ and key_added == keys.UNS)
        if replaces and not _equal(weights, _weights(self)):
            self.dimension_names_ = None
            if self.adata is not None:
                results.retire(self.adata)


@contextmanager
def _few_threads(self: BetaVAE) -> Iterator[None]:
    """One thread for small networks: more gain nothing there, and on a busy machine each step would wait for all of them."""
    before = torch.get_num_threads()
    largest = max(weight.numel() for weight in self.module.parameters())
    torch.set_num_threads(1 if largest <= _SMALL_LAYER else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _weights(self: BetaVAE) -> dict[str, torch.Tensor]:
    """A copy of all parameters and buffers."""
    return {name: value.detach().cpu().clone() for name, value in self.module.state_dict().items()}


@contextmanager
def _divergence_undone(self: BetaVAE, weights: dict[str, torch.Tensor]) -> Iterator[None]:
    """Restore a model that was trained before, if training it further diverges."""
    was_trained, history = self.is_trained_, self.history_
    if was_trained:
        history = dict(history or {})
    try:
        yield
    except TrainingDivergedError as error:
        left = "The model returns to the last copy of its weights with a finite loss and does not count as trained."
        if was_trained:
            self.module.load_state_dict(weights)
            left = "The model is as it was before this training."
        self.is_trained_, self.history_ = was_trained, history
        self.module.eval()
        msg = f"{error} {left}"
        raise TrainingDivergedError(msg) from error


def _describe_run(self: BetaVAE, seconds: float) -> dict[str, Any]:
    """Flat dict of plain values: constructor arguments, the plan's description, length, seed and versions."""
    arguments = self._arguments["non_kwargs"] | self._arguments["kwargs"].get("kwargs", {})
    for kwargs in ("objective_kwargs", "anchor_kwargs", "guided_kwargs"):
        arguments |= {f"{kwargs}_{name}": value for name, value in (arguments.pop(kwargs, None) or {}).items()}
    arguments |= self.trainer.lightning_module.describe()
    if self.history:
        arguments["epochs"] = float(epochs_done(self.history["beta"])[-1])
    arguments["seconds"] = round(seconds, 2)
    arguments["seed"] = -1 if scvi.settings.seed is None else scvi.settings.seed
    setup = self.registry_.get("setup_args", {})
    arguments |= {f"setup_{n}": json.dumps(value) if isinstance(value, list) else value for n, value in setup.items()}
    arguments["version_scbetavae"] = __version__
    arguments |= {f"version_{name}": version(name) for name in ("scvi-tools", "torch", "anndata")}
    return {name: value for name, value in arguments.items() if isinstance(value, str | bool | int | float)}


def _history_frame(self: BetaVAE) -> pd.DataFrame:
    """History with one row per epoch: our columns, those that the objective added, then those of scvi-tools."""
    first = ["beta", "objective_train", "nll_train", "kl_train", "active_dimensions"]
    first += [name.replace("_train", "_validation") for name in first[1:4]]
    frames = {name: frame[name] for name, frame in self.history.items() if frame.index.name == "epoch"}
    duplicates = {"kl_local", "kl_global", "reconstruction_loss", "elbo", "loss", "train_loss", "validation_loss"}
    own = (name for name in frames if not name.endswith("_epoch"))  # as without, from on_step=True
    own = (name for name in own if name.removesuffix("_train").removesuffix("_validation") not in duplicates)
    names = dict.fromkeys([*(name for name in first if name in frames), *own])
    frame = pd.DataFrame({name: frames[name].astype(float) for name in names})
    if isinstance(frame.index[-1], float):  # written more often than once an epoch: epochs done, with fractions
        return frame.set_axis(pd.Index(frame.index.to_numpy(dtype=float), name="epoch")).sort_index()
    frame.index = pd.Index(np.arange(1, len(frame) + 1), name="epoch")
    return frame


def _check_length(max_epochs: int | None, max_steps: int | None) -> None:
    """Refuse a run of no length, or of two."""
    if max_epochs is not None and max_steps is not None:
        msg = f"max_epochs={max_epochs!r} and max_steps={max_steps!r} were both given. Pass one of them."
        raise ValueError(msg)
    for name, length, unit in (("max_epochs", max_epochs, "epochs"), ("max_steps", max_steps, "minibatches")):
        whole = isinstance(length, Real) and not isinstance(length, bool) and length == int(length)
        if length is not None and (not whole or length < 1):
            msg = f"{name}={length!r} is not a number of {unit}. Pass a whole number of at least 1, or None."
            raise ValueError(msg)


def _check_validation(arguments: Mapping[str, Any]) -> None:
    """Refuse what needs held-out cells if there are none."""
    none_left = arguments.get("train_size") == 1 or arguments.get("validation_size") == 0
    needing = [name for name in ("early_stopping", "check_val_every_n_epoch") if arguments.get(name)]
    if none_left and needing:
        msg = (
            f"{needing[0]}={arguments[needing[0]]!r} needs held-out cells, but train_size=1 or validation_size=0 leaves none. "
            f"Pass train_size=0.9, or leave {needing[0]} out."
        )
        raise ValueError(msg)


def _equal(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    """Whether no parameter has changed."""
    return before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())
