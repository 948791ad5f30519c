"""Posterior collapse: how many dimensions are inactive, why that may be, and what to try."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scvi import settings

from scbetavae._core.constants import ACTIVE_KL
from scbetavae._core.text import counted
from scbetavae.train import epochs_done

if TYPE_CHECKING:
    from ._betavae import BetaVAE

ENOUGH_MINIBATCHES = 200
"""Minibatches near the final beta after which an inactive dimension counts as unused."""

NONE, UNKNOWN, TOO_EARLY, USUAL, COLLAPSED = "none", "training unknown", "too early", "usual", "collapsed"
"""Statuses of collapse."""

_NEAR, _EQUAL = 0.1, 1e-6  # relative to the final beta
_SEVERE_SHARE = 0.5


class PosteriorCollapseWarning(UserWarning):
    """More than half of the latent dimensions carry no information about the cells.

    Raised once after :meth:`BetaVAE.train`, when the run trained near its final beta for long enough to say so.
    """


class Run(NamedTuple):
    """How a model was trained: beta and capacity (nats) at its end; minibatches in all, of warm-up, and near that beta."""

    objective: str
    beta: float
    n_steps: int
    n_warmup: int
    n_near: int
    capacity: float


def read_run(model: BetaVAE) -> Run | None:
    """Facts about the training of a model from its history; ``None`` if it has none, as a model of query cells."""
    history = model.history if isinstance(model.history, dict) else {}
    if "beta" not in history or len(history["beta"]) == 0:
        return None
    per_epoch = model.minibatches_per_epoch_
    if per_epoch is None:  # of a model saved without it: as many as there are by default
        cells = getattr(model, "train_indices_", None)
        per_epoch = max(1, math.ceil((0 if cells is None else len(cells)) / settings.batch_size))
    betas = history["beta"].to_numpy(dtype=float).ravel()
    # A row holds the beta of its last minibatch. Rows are not epochs: short runs are written several times an epoch.
    steps = np.rint(epochs_done(history["beta"]) * per_epoch).astype(int)
    last, n_steps = float(betas[-1]), int(steps[-1])
    n_warmup, n_before = (_last_outside(betas, steps, tolerance) for tolerance in (_EQUAL, _NEAR))
    capacity = float(getattr(model.module.regularizer, "capacity", 0.0) * last)
    return Run(model.module.objective, last, n_steps, n_warmup, n_steps - n_before, capacity)


def _last_outside(betas: np.ndarray, steps: np.ndarray, tolerance: float) -> int:
    """Minibatches done when beta last differed from the final one by more than a relative tolerance."""
    far = np.flatnonzero(np.abs(betas - betas[-1]) > tolerance * betas[-1])
    return int(steps[far[-1]]) if len(far) else 0


def n_used(model: BetaVAE) -> int:
    """Dimensions that were to be used: those with a component of the anchor, or all."""
    anchor = model.module.anchor
    return model.module.n_latent if anchor is None or not anchor.n_components else anchor.n_components


def warn_of_collapse(model: BetaVAE) -> None:
    """Warn once after training that most dimensions are inactive, as training counted them."""
    model.minibatches_per_epoch_ = getattr(model.trainer.lightning_module, "minibatches_per_epoch", None)
    if not {"active_dimensions", "kl_train"} <= set(model.history):  # a logger of the user's may keep something else
        return
    n_active, kl = (float(model.history[name].iloc[-1, 0]) for name in ("active_dimensions", "kl_train"))
    n_dims, run = n_used(model), read_run(model)
    n_empty = max(n_dims - int(n_active), 0) if np.isfinite(n_active) else 0
    if np.isfinite(kl) and is_severe(n_empty, n_dims, run):
        warnings.warn(describe_collapse(n_empty, n_dims, kl, run), PosteriorCollapseWarning, stacklevel=3)


def collapse_status(n_empty: int, n_dims: int, run: Run | None) -> str:
    """Whether dimensions are inactive, and whether that can be judged and is unusual."""
    if n_empty == 0:
        return NONE
    if run is None:
        return UNKNOWN
    if run.n_near < ENOUGH_MINIBATCHES:
        return TOO_EARLY
    return COLLAPSED if n_empty > _SEVERE_SHARE * n_dims else USUAL


def is_severe(n_empty: int, n_dims: int, run: Run | None) -> bool:
    """Whether a user must be warned: more than half of the dimensions are inactive, and training was long enough."""
    return collapse_status(n_empty, n_dims, run) == COLLAPSED


def describe_collapse(n_empty: int, n_dims: int, kl: float, run: Run | None) -> str:
    """One or two sentences about inactive dimensions, empty if there are none; ``kl`` is summed over dimensions, in nats."""
    status = collapse_status(n_empty, n_dims, run)
    if status == NONE:
        return ""
    what = _what(n_empty, n_dims, kl)
    if run is None:
        return f"{what} on these cells. The summary of the training cells says whether that is due to the model or to the cells."
    if status == TOO_EARLY:
        return (
            f"{what} after {counted(run.n_steps, 'step')}, {run.n_near} of them near the final {_strength(run)}. "
            "That is too early to judge: train longer."
        )
    if status == USUAL:
        they = "it saves less than it costs" if n_empty == 1 else "they save less than they cost"
        return (
            f"{what}. At {_strength(run)} {they}, which is usual; scores leave {'it' if n_empty == 1 else 'them'} out."
        )
    cause, remedy = _cause(run)
    n_others = n_dims - n_empty
    remedies = [remedy, *([f"n_latent={n_others} if so many suffice"] if n_others else [])]
    if run.n_warmup == 0:  # longer than the default, a warm-up has not been seen to help
        cause += ", and beta was constant from the first step (no warm-up)"
        remedies.append('a warm-up, beta_schedule="linear"')
    return f"{what}: {cause}. Try {', or '.join(remedies)}."


def _what(n_empty: int, n_dims: int, kl: float) -> str:
    """How many dimensions are inactive, and the KL divergence of the others."""
    n_others = n_dims - n_empty
    if n_others == 0:
        all_carry = "The only dimension carries" if n_dims == 1 else f"All {n_dims} dimensions carry"
        return f"{all_carry} under {ACTIVE_KL:g} nats, so the latent representation says nothing about the cells"
    others = f"the other {n_others} together" if n_others > 1 else "the other one"
    return f"{n_empty} of {n_dims} dimensions carr{'ies' if n_empty == 1 else 'y'} under {ACTIVE_KL:g} nats ({others} {kl:.3g})"


def _strength(run: Run) -> str:
    """How strongly the objective regularizes."""
    if run.objective == "capacity":
        return f"capacity of {run.capacity:.3g} nats"
    if run.objective.startswith("dip_vae"):
        return "weights of this objective"
    return f"beta {run.beta:.4g}"


def _cause(run: Run) -> tuple[str, str]:
    """Why dimensions may be inactive, and what to try."""
    if run.objective == "capacity":
        return f"a {_strength(run)} fills no more", "a larger objective_kwargs={'capacity': ...}"
    if run.objective.startswith("dip_vae"):
        return "these counts hold no more that the decoder can use", "other lambda_od and lambda_d in objective_kwargs"
    if run.beta > 1:
        return f"beta {run.beta:.4g} is too strong for this panel", "a smaller beta"
    return f"even at beta {run.beta:.4g} these counts hold no more that the decoder can use", "more genes or cells"
