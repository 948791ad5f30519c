"""Arguments in configuration objects of scvi-tools."""

from __future__ import annotations

from typing import Any

from scvi.train import TrainerConfig, TrainingPlanConfig, merge_kwargs


def explicit(config: Any, name: str) -> dict[str, Any]:
    """Arguments that a configuration sets: all of a mapping, but not the defaults of scvi-tools that its objects are filled with.

    Such a default would replace ours, and be taken for a wish of the user. ``name`` is that of the argument, for a TypeError.
    """
    given = merge_kwargs(config, None, name=name)
    if not isinstance(config, TrainerConfig | TrainingPlanConfig):
        return dict(given)
    defaults = type(config)().to_kwargs()
    return {key: value for key, value in given.items() if key not in defaults or value != defaults[key]}
