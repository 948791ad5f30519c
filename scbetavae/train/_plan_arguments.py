"""Arguments of the training plan that scvi-tools would only miss in the first minibatch."""

from __future__ import annotations

import difflib
from inspect import signature
from typing import Any

from scvi.train import TrainingPlan

_REPLACED_BY_SCHEDULE = ("n_epochs_kl_warmup", "n_steps_kl_warmup", "max_kl_weight", "min_kl_weight")


def check_plan_kwargs(kwargs: dict[str, Any]) -> None:
    """Refuse arguments that a plan does not take; scvi-tools would pass them to the loss and fail in the first minibatch.

    Parameters
    ----------
    kwargs
        Arguments meant for :class:`BetaVAETrainingPlan`.

    Raises
    ------
    TypeError
        For the first argument that is not allowed, with what to do instead.
    """
    allowed = {name for name, p in signature(TrainingPlan).parameters.items() if p.kind is p.KEYWORD_ONLY}
    allowed = (allowed | {"fused_optimizer"}) - set(_REPLACED_BY_SCHEDULE)
    for name in kwargs:
        if name in allowed:
            continue
        if name in _REPLACED_BY_SCHEDULE:
            msg = (
                f"{name!r} is not an argument of this plan: beta and its warm-up are set by the model's beta and by "
                "train(beta_schedule=...), for example scbetavae.train.LinearSchedule(warmup_epochs=50)."
            )
            raise TypeError(msg)
        nearest = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        msg = f"{name!r} is not an argument of the training plan.{hint} It takes {sorted(allowed)}."
        raise TypeError(msg)
