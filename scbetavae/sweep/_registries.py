"""What a sweep reads from the registries of objectives and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scbetavae import metrics, module

BASELINES = ("pca", "ica")


def objectives() -> dict[str, Any]:
    """Registered objectives by name."""
    return module.OBJECTIVES


def scores() -> dict[str, Any]:
    """Registered scores by name."""
    return metrics.SCORES


def check_metrics(names: str | Iterable[str] | None) -> None:
    """Refuse names that are no scores."""
    names = [names] if isinstance(names, str) else list(names or ())
    named = [name for name in names if name != "gaussian_total_correlation"]
    if named:
        metrics.score_names(named)


def lower_is_better(score: str) -> bool:
    """Direction of a score."""
    return score in metrics.SCORES and not metrics.SCORES[score].higher_is_better


def snapshot() -> tuple[dict[str, Any], dict[str, Any]]:
    """What is registered here, for a process that did not run the user's code."""
    return dict(objectives()), dict(scores())


def restore(registered: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
    """Register in this process what is registered where the sweep was called."""
    for registry, entries in zip((objectives(), scores()), registered, strict=True):
        for name, entry in entries.items():
            registry.setdefault(name, entry)
