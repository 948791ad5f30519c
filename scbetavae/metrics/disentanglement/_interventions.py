"""Pairs and batches of cells that share a value of one covariate: what BetaVAE and FactorVAE scores resample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics._active import resolve_active
from scbetavae.metrics._checks import check_codes, check_factors, check_positive_integer
from scbetavae.metrics._information import CodeBins, Estimator, label_cells

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_CHUNK = 2_000_000
"""Numbers gathered at once, to bound memory."""


class CellSampler:
    """Draws cells by the class of a covariate.

    Parameters
    ----------
    codes, factors, active
        As in `betavae_score`.
    """

    def __init__(self, codes: ArrayLike, factors: pd.DataFrame, active: ArrayLike | None) -> None:
        array = check_codes(codes)
        mask = resolve_active(array, active)
        covariates = check_factors(factors, len(array))
        values = array[:, mask]
        scale = values.std(axis=0) if len(values) else np.ones(values.shape[1])
        self.codes = (values - values.mean(axis=0) if len(values) else values) / np.where(scale > 0, scale, 1.0)
        binned = CodeBins(np.ascontiguousarray(values.T), Estimator())
        self.members: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for covariate in covariates:
            cells = label_cells(binned, covariate)
            counts = np.bincount(cells.labels, minlength=max(len(cells.classes), 1))
            large = np.flatnonzero(counts >= 2)
            if len(large) < 2:
                continue
            index = np.flatnonzero(cells.keep)
            order = index[np.argsort(cells.labels, kind="stable")]
            starts = np.cumsum(counts) - counts
            self.members.append((order, starts[large], counts[large]))

    @property
    def usable(self) -> bool:
        """At least two covariates and one dimension."""
        return len(self.members) >= 2 and self.codes.shape[1] > 0

    def draw(self, factor: int, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One cell for every entry of ``classes``."""
        order, starts, counts = self.members[factor]
        return order[starts[classes] + (rng.random(classes.shape) * counts[classes]).astype(np.int64)]

    def features(
        self, n_points: int, batch_size: int, kind: str, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features (n_points, n_dims) of batches that share a covariate, and which covariate that was.

        ``kind="difference"``: mean absolute difference over pairs. ``kind="variance"``: variance over the batch.
        """
        which = rng.integers(0, len(self.members), n_points)
        features = np.empty((n_points, self.codes.shape[1]))
        step = max(_CHUNK // (batch_size * self.codes.shape[1]), 1)
        for factor, (_, starts, counts) in enumerate(self.members):
            points = np.flatnonzero(which == factor)
            for part in np.split(points, range(step, len(points), step)):
                if kind == "difference":
                    # Pairs: the first cell as cells come, the second from its class.
                    classes = rng.choice(len(starts), size=(len(part), batch_size), p=counts / counts.sum())
                    first, second = self.draw(factor, classes, rng), self.draw(factor, classes, rng)
                    features[part] = np.abs(self.codes[first] - self.codes[second]).mean(axis=1)
                else:
                    classes = rng.integers(0, len(starts), size=(len(part), 1))
                    cells = self.draw(factor, np.repeat(classes, batch_size, axis=1), rng)
                    features[part] = self.codes[cells].var(axis=1, ddof=1)
        return features, which


def check_sizes(batch_size: int, n_train: int, n_test: int) -> None:
    """Batches of two cells at least, and points to train and test on."""
    check_positive_integer(batch_size, "batch_size", minimum=2)
    check_positive_integer(n_train, "n_train", minimum=10)
    check_positive_integer(n_test, "n_test", minimum=1)
