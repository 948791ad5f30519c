"""The registry of scores: what each is called, its range, and who proposed it. Each record is next to its function."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from scbetavae._core.checks import as_list
from scbetavae._core.text import did_you_mean, listed

DEFAULT_METRICS = ("mig", "sap", "modularity", "dcimig", "mig_sup", "class_alignment", "dci")
LEVELS = ("covariate", "class")


@dataclass(frozen=True)
class Score:
    """A score as it appears in the ``metric`` column of `score_frame`."""

    name: str
    title: str
    """Title in plots."""
    lowest: float = 0.0
    highest: float = 1.0
    """End of the range; may be infinite."""
    level: str = "covariate"
    """``"covariate"`` (the covariate as a whole) or ``"class"`` (each class against the rest)."""
    per_covariate: bool = False
    """Whether each covariate has a value, in addition to the one over all."""
    higher_is_better: bool = True
    needs: str = "labels"
    """``"labels"``; ``"intervention"``, ``"seeds"`` or ``"codes"`` for scores that `score_frame` does not compute."""
    family: str = ""
    """Another name under which ``metrics=`` finds it together with others, such as ``"dci"``."""
    reference: str = ""
    """Citation key."""
    function: Callable[..., Any] | None = None
    """For a score of your own: ``function(codes, factor)`` if ``per_covariate``, with the active dimensions (n_cells, n_dims) and
    a Series of labels, none missing; otherwise ``function(codes, factors)`` with a DataFrame. It returns a number, NaN where it
    is not defined. `score_frame` calls it on permuted labels, oracle dimensions and resampled cells, too."""

    @property
    def in_frame(self) -> bool:
        """Whether `score_frame` computes it."""
        return self.needs == "labels"


SCORES: dict[str, Score] = {}
"""Scores by name."""


def register_score(score: Score) -> Score:
    """Make a score available by name in `score_frame`, ``tl.score_disentanglement``, the sweep, plots and the command line.

    ``score`` needs its ``function`` unless it is one of the package's. A TypeError says that it is not a `Score`, a
    ValueError that its name is taken or not an identifier, its level unknown, or its range empty. A score defined again in a
    notebook replaces the earlier one. Returns the record.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae import metrics
    >>> def largest_correlation(codes, factor):
    ...     return max(abs(np.corrcoef(codes.T, pd.factorize(factor)[0])[-1, :-1]))
    >>> score = metrics.Score("largest_correlation", "Correlation", per_covariate=True, function=largest_correlation)
    >>> _ = metrics.register_score(score)
    >>> codes = np.random.default_rng(0).normal(size=(100, 2))
    >>> frame = metrics.score_frame(codes, pd.DataFrame({"sex": codes[:, 0] > 0}), metrics="largest_correlation")
    >>> frame.set_index("covariate")["value"].round(1).to_dict()
    {'sex': 0.8, 'all': 0.8}
    >>> del metrics.SCORES["largest_correlation"]
    """
    if not isinstance(score, Score):
        msg = f"{score!r} is not a score. Pass scbetavae.metrics.Score(name, title, function=...)."
        raise TypeError(msg)
    if not isinstance(score.name, str) or not score.name.isidentifier() or score.level not in LEVELS:
        msg = f"name={score.name!r}, level={score.level!r}: pass an identifier such as 'my_score' and one of {listed(LEVELS)}."
        raise ValueError(msg)
    if not score.lowest < score.highest:
        msg = f"The range of {score.name!r} is {score.lowest} to {score.highest}. Pass lowest below highest."
        raise ValueError(msg)
    taken = SCORES.get(score.name)
    if taken is not None and taken != score and "__main__" not in {getattr(taken.function, "__module__", "")}:
        msg = f"name={score.name!r} is taken by the score {taken.title!r}. Choose another name."
        raise ValueError(msg)
    SCORES[score.name] = score
    return score


def score_names(metrics: str | Iterable[str] | None = None) -> list[str]:
    """Names of single scores: families such as ``"dci"`` are written out, and each name appears once.

    ``metrics`` holds names of scores and families; ``None`` for the default ones. An unknown name (the nearest is named), and a
    score that needs more than an embedding and labels of one model, raise a ValueError.

    Examples
    --------
    >>> score_names(["mig", "dci"])
    ['mig', 'dci_disentanglement', 'dci_completeness', 'dci_informativeness']
    """
    names = list(DEFAULT_METRICS) if metrics is None else as_list(metrics)
    families: dict[str, list[str]] = {}
    for score in SCORES.values():
        if score.family:
            families.setdefault(score.family, []).append(score.name)
    known = [*families, *(score.name for score in SCORES.values() if score.in_frame)]
    if not names:
        msg = f"metrics is empty. Choose from {listed(DEFAULT_METRICS)}."
        raise ValueError(msg)
    for name in names:
        if name in SCORES and not SCORES[name].in_frame:
            msg = f"Metric {name!r} needs more than codes and labels of one model. Call `scbetavae.metrics.{name}`."
            raise ValueError(msg)
        if name not in known:
            msg = f"Metric {name!r} is not known.{did_you_mean(name, known, 0.4)} Choose from {listed(known, 40)}."
            raise ValueError(msg)
    return list(dict.fromkeys(single for name in names for single in families.get(name, [name])))
