"""Adam for small networks on a CPU, where torch's bookkeeping takes as long as the step (``benchmarks/train_speed.py``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]
_TORCH: Any = torch  # its fused kernels are private to type checkers


class _LeanStep(torch.optim.Optimizer):
    """Passes the same lists to torch's fused kernel step after step, on a CPU.

    torch gathers and groups them anew each time, asks whether a graphics card records a graph (which loads the driver), and
    copies the gradient of a weight that is stored column by column. Values and state are those of torch, which takes the first
    step, and all steps on other devices or with options such as ``amsgrad``.
    """

    _kernel: Callable[..., None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lists: dict[int, tuple[list[Tensor], _Lists]] = {}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step, and return the loss of ``closure`` if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with_gradient: list[list[Any]] = [
            [p for p in group["params"] if p.grad is not None] for group in self.param_groups
        ]
        for p in (p for parameters in with_gradient for p in parameters if p.grad.stride() != p.stride()):
            if p.grad.layout == torch.strided:  # torch's fused kernel would pair the values in the order of storage
                p.grad = torch.empty_like(p).copy_(p.grad)
        lists = [self._lists_of(*pair) for pair in zip(self.param_groups, with_gradient, strict=True)]
        known = [found for found in lists if found is not None]
        if len(known) < len(lists):
            if self._lists:
                self._count_apart()
            super().step()
            return loss
        with torch.no_grad():
            for group, parameters, found in zip(self.param_groups, with_gradient, known, strict=True):
                self._take(group, parameters, found)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of an earlier run."""
        super().load_state_dict(state_dict)
        self._count_apart()

    def state_dict(self) -> dict[str, Any]:
        """The state, with a count of steps for each parameter, as torch keeps it."""
        self._count_apart()
        return super().state_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lists = {}

    def _lists_of(self, group: dict[str, Any], parameters: list[Any]) -> _Lists | None:
        """Lists for the parameters of a group; None where torch must take the step."""
        known = self._lists.get(id(group))
        if known is not None and len(known[0]) == len(parameters) and all(map(_still_fits, known[0], parameters)):
            return known[1]
        plain = group["fused"] and not any(
            group[option] for option in ("amsgrad", "maximize", "capturable", "differentiable")
        )
        if not plain or not parameters or not all(_is_plain(p) and self.state.get(p) for p in parameters):
            return None
        states = [self.state[p] for p in parameters]
        # Parameters that always had a gradient together have taken the same number of steps: one count serves them all.
        counts = {float(state["step"]) for state in states}
        if len(counts) > 1:
            return None
        count = states[0]["step"].clone()
        for state in states:
            state["step"] = count
        means, squares = ([_rows(state[name]) for state in states] for name in ("exp_avg", "exp_avg_sq"))
        found = ([_rows(p) for p in parameters], means, squares, [state["step"] for state in states])
        self._lists[id(group)] = parameters, found
        return found

    def _count_apart(self) -> None:
        """Give each parameter its own count of steps again, as torch expects."""
        self._lists.clear()
        for state in self.state.values():
            state["step"] = state["step"].clone()

    def _take(self, group: dict[str, Any], parameters: list[Any], lists: _Lists) -> None:
        """Step the parameters of one group."""
        rows, means, squares, steps = lists
        steps[0].add_(1)
        options = {name: group[name] for name in ("lr", "weight_decay", "eps")}
        options |= dict(zip(("beta1", "beta2"), group["betas"], strict=True))
        options |= {"amsgrad": False, "maximize": False, "grad_scale": None, "found_inf": None}
        type(self)._kernel(rows, [_rows(p.grad) for p in parameters], means, squares, [], steps, **options)


class LeanAdam(_LeanStep, torch.optim.Adam):
    """As :class:`torch.optim.Adam`, with less bookkeeping on a CPU."""

    _kernel = staticmethod(_TORCH._fused_adam_)


class LeanAdamW(_LeanStep, torch.optim.AdamW):
    """As :class:`torch.optim.AdamW`, with less bookkeeping on a CPU."""

    _kernel = staticmethod(_TORCH._fused_adamw_)


LEAN_OPTIMIZERS = {"Adam": LeanAdam, "AdamW": LeanAdamW}
# Lightning's LearningRateMonitor names its column after the class: "lr-Adam", as with scvi-tools.
LeanAdam.__name__, LeanAdamW.__name__ = LEAN_OPTIMIZERS


def make_lean_optimizer(
    name: str, parameters: Iterable[Tensor], *, fused: bool, **options: float
) -> torch.optim.Optimizer:
    """An optimizer by name; with a fused kernel if asked for and torch has one for the device, which it says on construction."""
    parameters = list(parameters)
    if fused:
        try:
            return LEAN_OPTIMIZERS[name](parameters, fused=True, **options)
        except (RuntimeError, TypeError):
            pass
    return LEAN_OPTIMIZERS[name](parameters, **options)


def _still_fits(listed: Tensor, parameter: Any) -> bool:
    """Whether a parameter in a list is still the same, and its gradient stored alike."""
    return listed is parameter and parameter.grad.stride() == parameter.stride()


def _is_plain(parameter: Any) -> bool:
    """Whether a parameter and its gradient are dense matrices on the CPU, stored alike by rows or by columns."""
    gradient = parameter.grad
    return (
        parameter.device.type == "cpu"
        and gradient.layout == torch.strided
        and gradient.stride() == parameter.stride()
        and (parameter.is_contiguous() or (parameter.ndim == 2 and parameter.t().is_contiguous()))
    )


def _rows(tensor: Tensor) -> Tensor:
    """The values in the order in which they are stored, for a matrix that is stored by rows or by columns."""
    tensor = tensor.detach()
    return tensor if tensor.is_contiguous() else tensor.t()
