"""Which dimensions take part."""

import numpy as np
from numpy.typing import ArrayLike

from scbetavae._core.checks import finite_matrix
from scbetavae._core.constants import ACTIVE_KL

MINIMUM_RELATIVE_SPREAD = 0.05

_SPREAD_AT_MINIMUM_KL = np.sqrt(2 * ACTIVE_KL)


def active_dimensions(codes: ArrayLike, *, kl: ArrayLike | None = None) -> np.ndarray:
    """Dimensions that carry information about the cells, a boolean array of shape (n_dims,).

    A variational autoencoder switches dimensions off: their posterior means shrink to about :math:`10^{-3}` but may
    still order the cells, so that a score based on ranks would give a dead dimension full marks.

    A dimension is active if its standard deviation exceeds 5% of the median over the active ones and, with ``kl``, its mean KL
    divergence exceeds 0.01 nats. The first condition is solved by iteration, from the dimensions with enough KL divergence or,
    without ``kl``, with a standard deviation above 0.14 (0.01 nats under a standard normal), or else all that vary.

    Parameters
    ----------
    codes
        Posterior means, or any embedding, of shape (n_cells, n_dims), finite, otherwise a ValueError is raised.
    kl
        Mean KL divergence per dimension, of shape (n_dims,), in nats.

    Examples
    --------
    >>> active_dimensions(np.random.default_rng(0).normal(size=(100, 3)) * [1.0, 0.8, 0.001]).tolist()
    [True, True, False]
    """
    array = finite_matrix(codes, "codes")
    if len(array) == 0:
        return np.zeros(array.shape[1], dtype=bool)
    varies = array.max(axis=0) > array.min(axis=0)
    if kl is not None:
        kl = np.asarray(kl, dtype=np.float64)
        if kl.shape != varies.shape:
            msg = f"`kl` has shape {kl.shape}; it needs one value per dimension, shape {varies.shape}."
            raise ValueError(msg)
        varies &= kl > ACTIVE_KL
    # Scaled first: squares of very large codes would overflow, squares of very small ones underflow.
    largest = np.abs(array).max(axis=0)
    spread = (array / np.where(largest > 0, largest, 1.0)).std(axis=0) * largest
    active = varies & (spread > _SPREAD_AT_MINIMUM_KL)
    active = active if active.any() and kl is None else varies
    while active.any():
        following = varies & (spread > MINIMUM_RELATIVE_SPREAD * np.median(spread[active]))
        if (following == active).all():
            break
        active = following
    return active


def resolve_active(codes: np.ndarray, active: ArrayLike | None) -> np.ndarray:
    """The mask the caller gave, checked, or `active_dimensions`."""
    return active_dimensions(codes) if active is None else check_mask(active, codes.shape[1], "active")


def check_mask(mask: ArrayLike, n: int, argument: str) -> np.ndarray:
    """A boolean array of shape (n,)."""
    array = np.asarray(mask)
    if array.dtype != bool or array.shape != (n,):
        msg = f"`{argument}` has dtype {array.dtype} and shape {array.shape}: pass a boolean mask of shape ({n},)."
        raise ValueError(msg)
    return array
