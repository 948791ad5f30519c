"""Posterior collapse as a sentence: how many dimensions are empty, why that may be, and what to try."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scvi import settings

from scbetavae._core.constants import ACTIVE_KL
from scbetavae.train import epochs_done

if TYPE_CHECKING:
    from ._betavae import BetaVAE

ENOUGH_MINIBATCHES = 200
"""Minibatches near the final beta after which an empty dimension has had its chance to be used."""

_NEAR, _EQUAL = 0.1, 1e-6  # relative to the final beta
_SEVERE_SHARE = 0.5


class PosteriorCollapseWarning(UserWarning):
    """More than half of the latent dimensions carry no information about the cells.

    Raised once after :meth:`BetaVAE.train`, when the run trained near its final beta for long enough to say so.
    """


class Run(NamedTuple):
    """What is known about how a model was trained."""

    objective: str
    beta: float
    """Beta of the last minibatch."""
    n_steps: int
    """Minibatches, of all trainings together."""
    n_warmup: int
    """Minibatches before that beta was reached for good, to a row of the history."""
    n_near: int
    """Minibatches at the end that trained near that beta."""
    capacity: float
    """Capacity of that objective in nats, 0 for the others."""


def read_run(model: BetaVAE) -> Run | None:
    """Facts about the training of a model from its history; ``None`` if it has none, as a model of query cells."""
    history = model.history if isinstance(model.history, dict) else {}
    if "beta" not in history or len(history["beta"]) == 0:
        return None
    betas = history["beta"].to_numpy(dtype=float).ravel()
    # A row holds the beta of its last minibatch. Rows are no epochs: short runs are written several times an epoch.
    steps = np.rint(epochs_done(history["beta"]) * _minibatches_per_epoch(model)).astype(int)
    capacity = getattr(model.module.regularizer, "capacity", 0.0)
    return Run(
        objective=model.module.objective,
        beta=float(betas[-1]),
        n_steps=int(steps[-1]),
        n_warmup=_last_outside(betas, steps, _EQUAL),
        n_near=int(steps[-1]) - _last_outside(betas, steps, _NEAR),
        capacity=float(capacity * betas[-1]),
    )


def _last_outside(betas: np.ndarray, steps: np.ndarray, tolerance: float) -> int:
    """Minibatches done when beta was last another than the final one, to a relative tolerance."""
    far = np.flatnonzero(np.abs(betas - betas[-1]) > tolerance * betas[-1])
    return int(steps[far[-1]]) if len(far) else 0


def _minibatches_per_epoch(model: BetaVAE) -> int:
    """What the last training counted or, for a model saved without it, as many as there are by default."""
    if model.minibatches_per_epoch_ is not None:
        return model.minibatches_per_epoch_
    n_cells = 0 if getattr(model, "train_indices_", None) is None else len(model.train_indices_)
    return max(1, math.ceil(n_cells / settings.batch_size))


def is_severe(n_empty: int, n_dims: int, run: Run | None) -> bool:
    """Whether a user must be told: more than half of the dimensions are empty, and training was long enough."""
    return run is not None and _long_enough(run) and n_empty > _SEVERE_SHARE * n_dims


def describe_collapse(n_empty: int, n_dims: int, kl: float, run: Run | None) -> str:
    """One or two sentences about empty dimensions.

    Parameters
    ----------
    n_empty
        Dimensions whose mean KL from posterior to prior is not above 0.01 nats.
    n_dims
        Latent dimensions.
    kl
        Sum of the KL over dimensions, in nats per cell.
    run
        How the model was trained, if that is known.

    Returns
    -------
    The sentences; empty if no dimension is empty.
    """
    if n_empty == 0:
        return ""
    what = _what(n_empty, n_dims, kl)
    if run is None:
        return f"{what} on these cells. Whether that is the model or the cells, the summary of those it was trained on tells."
    if not _long_enough(run):
        return (
            f"{what} after {_count(run.n_steps, 'step')}, {run.n_near} of them near the final {_strength(run)}. "
            "That is too early to judge: train longer."
        )
    if n_empty <= _SEVERE_SHARE * n_dims:
        they = "it saves less than it costs" if n_empty == 1 else "they save less than they cost"
        return (
            f"{what}. At {_strength(run)} {they}, which is usual; scores leave {'it' if n_empty == 1 else 'them'} out."
        )
    cause, way_out = _cause(run)
    n_others = n_dims - n_empty
    ways = [way_out, *([f"n_latent={n_others} if so many suffice"] if n_others else [])]
    if run.n_warmup == 0:  # longer than the default, a warm-up has not been seen to help
        cause += ", and it pressed from the first step, for want of a warm-up"
        ways.append('a warm-up, beta_schedule="linear"')
    return f"{what}: {cause}. Try {', or '.join(ways)}."


def _what(n_empty: int, n_dims: int, kl: float) -> str:
    if n_empty == n_dims:
        none = "The only dimension carries" if n_dims == 1 else f"All {n_dims} dimensions carry"
        return f"{none} under {ACTIVE_KL:g} nats, so that the codes say nothing about the cells"
    verb, n_others = "carries" if n_empty == 1 else "carry", n_dims - n_empty
    others = f"the other {n_others} together {kl:.3g}" if n_others > 1 else f"the other one {kl:.3g}"
    return f"{n_empty} of {n_dims} dimensions {verb} under {ACTIVE_KL:g} nats ({others})"


def _long_enough(run: Run) -> bool:
    return run.n_near >= ENOUGH_MINIBATCHES


def _strength(run: Run) -> str:
    if run.objective == "capacity":
        return f"capacity of {run.capacity:.3g} nats"
    if run.objective.startswith("dip_vae"):
        return "weights of this objective"
    return f"beta {run.beta:.4g}"


def _cause(run: Run) -> tuple[str, str]:
    """Why dimensions may be empty, and what to try."""
    if run.objective == "capacity":
        return f"a {_strength(run)} fills no more", "a larger objective_kwargs={'capacity': ...}"
    if run.objective.startswith("dip_vae"):
        return "these counts hold no more that the decoder can use", "other lambda_od and lambda_d in objective_kwargs"
    if run.beta > 1:
        return f"beta {run.beta:.4g} is too strong for this panel", "a smaller beta"
    return f"even at beta {run.beta:.4g} these counts hold no more that the decoder can use", "more genes or cells"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
