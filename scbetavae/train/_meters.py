"""Means over the cells of an epoch, accumulated on the device."""

from __future__ import annotations

import torch


class EpochMeans:
    """Sums of named quantities over the cells of an epoch, on the device, so that no training step waits for a copy.

    Examples
    --------
    >>> import torch
    >>> from scbetavae.train._meters import EpochMeans
    >>> means = EpochMeans()
    >>> means.add(2, {"kl": torch.tensor(6.0)})
    >>> means.add(1, {"kl": torch.tensor(0.0)})
    >>> {name: value.item() for name, value in means.compute().items()}
    {'kl': 2.0}
    """

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

    def compute(self, strategy: object | None = None) -> dict[str, torch.Tensor]:
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
