"""What each score is: its range, what it judges, and who proposed it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricRecord:
    """A score as it appears in the ``metric`` column of `score_frame`.

    Attributes
    ----------
    name
        Name of the score.
    title
        What a plot calls it.
    lowest, highest
        Range; ``highest`` is infinite for total correlation.
    level
        ``"covariate"`` (the covariate as a whole) or ``"class"`` (each class against the rest).
    per_covariate
        Whether there is a value for each covariate, beside the one over all.
    needs
        ``"labels"``; ``"intervention"`` for surrogates of interventional scores; ``"seeds"`` for several trained models;
        ``"codes"`` for scores without labels.
    in_frame
        Whether `score_frame` computes it.
    reference
        Citation key.
    """

    name: str
    title: str
    lowest: float
    highest: float
    level: str
    per_covariate: bool
    needs: str
    in_frame: bool
    reference: str


_INFINITE = float("inf")

RECORDS: dict[str, MetricRecord] = {
    record.name: record
    for record in (
        MetricRecord("mig", "MIG", 0, 1, "covariate", True, "labels", True, "Chen2018"),
        MetricRecord("sap", "SAP", 0, 1, "covariate", True, "labels", True, "Kumar2018"),
        MetricRecord("modularity", "Modularity", 0, 1, "covariate", False, "labels", True, "RidgewayMozer2018"),
        MetricRecord("dcimig", "DCIMIG", 0, 1, "covariate", False, "labels", True, "Sepliarskaia2019"),
        MetricRecord("mig_sup", "MIG-sup", 0, 1, "covariate", False, "labels", True, "Li2020"),
        MetricRecord("lms", "LMS", 0, 1, "class", True, "labels", True, "Moinfar2024"),
        MetricRecord("msas", "MSAS", 0, 1, "class", True, "labels", True, "Moinfar2024"),
        MetricRecord("msgs", "MSGS", 0, 1, "class", True, "labels", True, "Moinfar2024"),
        MetricRecord(
            "dci_disentanglement",
            "DCI disentanglement",
            0,
            1,
            "covariate",
            False,
            "labels",
            True,
            "EastwoodWilliams2018",
        ),
        MetricRecord(
            "dci_completeness", "DCI completeness", 0, 1, "covariate", True, "labels", True, "EastwoodWilliams2018"
        ),
        MetricRecord(
            "dci_informativeness",
            "DCI informativeness",
            0,
            1,
            "covariate",
            True,
            "labels",
            True,
            "EastwoodWilliams2018",
        ),
        MetricRecord("explicitness", "Explicitness", 0, 1, "covariate", True, "labels", True, "RidgewayMozer2018"),
        MetricRecord("betavae_score", "BetaVAE score", 0, 1, "covariate", False, "intervention", False, "Higgins2017"),
        MetricRecord(
            "factorvae_score", "FactorVAE score", 0, 1, "covariate", False, "intervention", False, "KimMnih2018"
        ),
        MetricRecord("udr", "UDR", 0, 1, "covariate", False, "seeds", False, "Duan2020"),
        MetricRecord(
            "gaussian_total_correlation",
            "Total correlation",
            0,
            _INFINITE,
            "covariate",
            False,
            "codes",
            False,
            "Locatello2019",
        ),
    )
}

FAMILIES: dict[str, tuple[str, ...]] = {
    "class_alignment": ("lms", "msas", "msgs"),
    "dci": ("dci_disentanglement", "dci_completeness", "dci_informativeness"),
}

DEFAULT_METRICS = ("mig", "sap", "modularity", "dcimig", "mig_sup", "class_alignment", "dci")


def resolve_metrics(metrics: str | Iterable[str]) -> list[str]:
    """Names of single scores, families written out, in order and once each.

    Raises
    ------
    ValueError
        If a name is unknown (the nearest is named), or needs more than codes and labels.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        msg = f"`metrics` is empty. Choose from {', '.join(DEFAULT_METRICS)}."
        raise ValueError(msg)
    resolved: list[str] = []
    for name in names:
        for single in FAMILIES.get(name, (name,)):
            _check_name(single)
            if single not in resolved:
                resolved.append(single)
    return resolved


def _check_name(name: str) -> None:
    known = [*FAMILIES, *(record.name for record in RECORDS.values() if record.in_frame)]
    if name in known:
        return
    if name in RECORDS:
        msg = f"Metric {name!r} needs more than codes and labels of one model. Call `scbetavae.metrics.{name}`."
        raise ValueError(msg)
    nearest = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    msg = f"Metric {name!r} is not known.{hint} Known: {', '.join(known)}."
    raise ValueError(msg)
