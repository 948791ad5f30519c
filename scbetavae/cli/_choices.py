"""Names on the command line, from the registries of objectives and scores."""

import re
import sys
from pathlib import Path
from typing import Any

SCHEDULES = ("linear", "cosine", "sigmoid", "cyclical", "constant")
ANCHORS = ("ica", "programs", "none")
LIKELIHOODS = ("nb", "zinb", "poisson", "normal")
BASELINES = ("pca", "ica", "none")
_SWEEP_SCORES = ("agreement", "udr", "kmeans_ari", "ilisi")  # of a sweep, besides registered scores


def objective_names() -> list[str]:
    """Registered objectives. Until torch is loaded, those of the package, read from its files, so that help answers at once."""
    if "scbetavae.module" in sys.modules:
        return list(_objectives())
    return _declared("module/objectives/_*.py", r'^    name = "(\w+)"')


def uses_beta(objective: str) -> bool:
    """Whether beta enters the objective."""
    return _objectives()[objective].uses_beta


def _objectives() -> dict[str, Any]:
    from scbetavae import module

    return module.OBJECTIVES


def score_names() -> list[str]:
    """Scores that a sweep may be judged by. Until the metrics are loaded, those of the package, read from its files."""
    if "scbetavae.metrics" in sys.modules:
        from scbetavae import metrics

        names = list(metrics.SCORES)
    else:
        names = _declared("metrics/_*.py", r'^register_score\(\s*Score\(\s*"(\w+)"')
    return list(dict.fromkeys([*names, *_SWEEP_SCORES]))


def _declared(pattern: str, name: str) -> list[str]:
    """Names in the files of the package."""
    files = sorted(Path(__file__).parents[1].glob(pattern))
    return [found for file in files for found in re.findall(name, file.read_text(encoding="utf-8"), re.M) if found]
