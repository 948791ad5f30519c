"""BetaVAE score (surrogate): which covariate was held fixed, predicted from cells that share a value of it."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_whole_number
from scbetavae.metrics._checks import check_inputs
from scbetavae.metrics._information import CodeBins, label_cells
from scbetavae.metrics.disentanglement._records import Score, register_score

_CHUNK = 2_000_000  # numbers gathered at once, to bound memory

register_score(Score("betavae_score", "BetaVAE score", needs="intervention", reference="Higgins2017"))


def betavae_score(
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    batch_size: int = 64,
    n_train: int = 10_000,
    n_test: int = 5_000,
    active: ArrayLike | None = None,
    seed: int = 0,
) -> float:
    """Surrogate of the BetaVAE score: which covariate was held fixed, predicted from differences of cells :cite:p:`Higgins2017`.

    The score was made for simulators, where one factor is fixed and all others are drawn anew. Cells cannot be simulated, so
    pairs of measured cells that share a value of the covariate stand in: covariates that go together stay together. A point is
    the mean of :math:`|z - z'|` over ``batch_size`` pairs, from which a logistic model predicts the covariate.

    Parameters
    ----------
    codes, factors, active
        As in :func:`mig`, and so are errors; dimensions are standardized, numbers binned, classes of one cell left out.
    batch_size, n_train, n_test, seed
        Pairs per point, and numbers of points, at least 2, 10 and 1 (defaults of disentanglement_lib); seed of the resampling.

    Returns
    -------
    Accuracy on test points in [0, 1], 1/K by chance. NaN with fewer than two usable covariates or no active dimension.

    Examples
    --------
    >>> factors = pd.DataFrame({"a": np.arange(400) % 4, "b": np.arange(400) // 100})
    >>> betavae_score(factors.to_numpy(), factors, n_train=100, n_test=50)
    1.0
    """
    from sklearn.linear_model import LogisticRegression

    drawn = draw_features(codes, factors, active, "difference", (batch_size, n_train, n_test), seed)
    if drawn is None or len(np.unique(drawn[0][1])) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separable points never converge, and need not
        model = LogisticRegression(max_iter=200).fit(*drawn[0])
    return float(model.score(*drawn[1]))


class _Members(NamedTuple):
    """Cells by the class of a covariate: all in a row, where each class starts, and its size."""

    cells: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def draw(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One cell for every entry of ``classes``."""
        return self.cells[self.starts[classes] + (rng.random(classes.shape) * self.sizes[classes]).astype(np.int64)]


def draw_features(
    codes: ArrayLike, factors: pd.DataFrame, active: ArrayLike | None, kind: str, sizes: tuple[int, int, int], seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None:
    """Features (mean ``difference`` of pairs, or ``variance``) and covariates of training and test points, or ``None``."""
    for argument, size, least in zip(("batch_size", "n_train", "n_test"), sizes, (2, 10, 1), strict=True):
        check_whole_number(size, argument, least)
    inputs = check_inputs(codes, factors, active)
    values = inputs.codes[:, inputs.active]
    binned = CodeBins(inputs.values)
    members = []
    for covariate in inputs.covariates:
        cells = label_cells(binned, covariate)
        counts = np.bincount(cells.labels, minlength=max(len(cells.classes), 1))
        large = np.flatnonzero(counts >= 2)
        if len(large) > 1:
            order = np.flatnonzero(cells.keep)[np.argsort(cells.labels, kind="stable")]
            members.append(_Members(order, (np.cumsum(counts) - counts)[large], counts[large]))
    if len(members) < 2 or not values.shape[1]:
        return None
    scale = values.std(axis=0)
    standardized = (values - values.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    rng = np.random.default_rng(seed)
    train, test = (_features(standardized, members, n, sizes[0], kind, rng) for n in sizes[1:])
    return train, test


def _features(
    codes: np.ndarray, members: list[_Members], n_points: int, batch_size: int, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n_points, n_dims) of cells that share a covariate, and which covariate that was."""
    which = rng.integers(0, len(members), n_points)
    features = np.empty((n_points, codes.shape[1]))
    step = max(_CHUNK // (batch_size * codes.shape[1]), 1)
    for factor, of_factor in enumerate(members):
        points, sizes = np.flatnonzero(which == factor), of_factor.sizes
        for part in np.split(points, range(step, len(points), step)):
            if kind == "difference":
                # Pairs: the first cell as cells come, the second from its class.
                classes = rng.choice(len(sizes), size=(len(part), batch_size), p=sizes / sizes.sum())
                first, second = of_factor.draw(classes, rng), of_factor.draw(classes, rng)
                features[part] = np.abs(codes[first] - codes[second]).mean(axis=1)
            else:
                classes = rng.integers(0, len(sizes), size=(len(part), 1))
                cells = of_factor.draw(np.repeat(classes, batch_size, axis=1), rng)
                features[part] = codes[cells].var(axis=1, ddof=1)
    return features, which
