"""Posterior collapse as a sentence: how many dimensions are empty, why that may be, and what to try."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scvi import settings

from scbetavae.train._plans import ACTIVE_KL

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
    n_epochs: int
    n_warmup: int
    """Epochs before that beta was reached for good."""
    n_near: int
    """Epochs at the end that trained near that beta."""
    n_minibatches: int
    """Minibatches of these epochs."""
    capacity: float
    """Capacity of that objective in nats, 0 for the others."""


def read_run(model: BetaVAE) -> Run | None:
    """Facts about the training of a model from its history; ``None`` if it has none, as a model of query cells."""
    history = model.history if isinstance(model.history, dict) else {}
    if "beta" not in history or len(history["beta"]) == 0:
        return None
    betas = history["beta"].to_numpy(dtype=float).ravel()
    n_near = _n_last_within(betas, _NEAR)
    capacity = getattr(model.module.regulariser, "capacity", 0.0)
    return Run(
        objective=model.module.objective,
        beta=float(betas[-1]),
        n_epochs=len(betas),
        n_warmup=len(betas) - _n_last_within(betas, _EQUAL),
        n_near=n_near,
        n_minibatches=n_near * _minibatches_per_epoch(model),
        capacity=float(capacity * betas[-1]),
    )


def _n_last_within(betas: np.ndarray, tolerance: float) -> int:
    """Epochs at the end whose beta is that of the last, to a relative tolerance."""
    far = np.flatnonzero(np.abs(betas - betas[-1]) > tolerance * betas[-1])
    return int(len(betas) - (far[-1] + 1 if len(far) else 0))


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
            f"{what} after {_count(run.n_epochs, 'epoch')}, {run.n_near} of them near the final {_strength(run)}. "
            "That is too early to judge: train longer."
        )
    if n_empty <= _SEVERE_SHARE * n_dims:
        they = "it saves less than it costs" if n_empty == 1 else "they save less than they cost"
        return (
            f"{what}. At {_strength(run)} {they}, which is usual; scores leave {'it' if n_empty == 1 else 'them'} out."
        )
    cause, way_out = _cause(run)
    warmup, better_warmup = _warmup(run)
    n_others = n_dims - n_empty
    fewer = f", or n_latent={n_others} if so many suffice" if n_others else ""
    return f"{what}: {cause}, or {warmup}. Try {way_out}, or {better_warmup}{fewer}."


def _what(n_empty: int, n_dims: int, kl: float) -> str:
    if n_empty == n_dims:
        none = "The only dimension carries" if n_dims == 1 else f"All {n_dims} dimensions carry"
        return f"{none} under {ACTIVE_KL:g} nats, so that the codes say nothing about the cells"
    verb, n_others = "carries" if n_empty == 1 else "carry", n_dims - n_empty
    others = f"the other {n_others} together {kl:.3g}" if n_others > 1 else f"the other one {kl:.3g}"
    return f"{n_empty} of {n_dims} dimensions {verb} under {ACTIVE_KL:g} nats ({others})"


def _long_enough(run: Run) -> bool:
    return run.n_minibatches >= ENOUGH_MINIBATCHES


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


def _warmup(run: Run) -> tuple[str, str]:
    """What the warm-up has to do with it, and what to try."""
    if run.n_warmup == 0:
        return "it pressed from the first epoch, for want of a warm-up", 'a warm-up, beta_schedule="linear"'
    share = min(0.9, max(0.6, round(1.5 * run.n_warmup / run.n_epochs, 1)))
    return (
        f"the warm-up ({run.n_warmup} of {_count(run.n_epochs, 'epoch')}) was too short",
        f"a longer warm-up, beta_schedule=scbetavae.train.LinearSchedule(warmup={share:g})",
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
