"""Titles, units and colors of what a sweep measures."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scbetavae import metrics
from scbetavae._core import palette

# What a sweep measures besides scores: title and unit; braces stand for the covariate. Titles of scores are in their records.
QUANTITIES = {
    "nll": ("Held-out NLL", "nats per cell"),
    "kl": ("KL from the prior", "nats per cell"),
    "negative_elbo": ("Held-out negative ELBO", "nats per cell"),
    "active_dimensions": ("Active dimensions", "latent dimensions"),
    "collapsed": ("Collapsed", "share of seeds"),
    "gaussian_total_correlation": ("Total correlation", "nats"),
    "agreement": ("Agreement of seeds", "mean |Spearman|"),
    "udr": ("UDR (seeds agree)", ""),
    "kmeans_ari": ("k-means ARI, {}", "ARI"),
    "knn_accuracy": ("k-NN accuracy, {}", "accuracy"),
    "ilisi": ("Mixing of {}", "iLISI"),
    "seconds": ("Training time", "seconds"),
    "scoring_seconds": ("Scoring time", "seconds"),
    "peak_memory": ("Peak memory", "MiB"),
    "peak_gpu_memory": ("Peak GPU memory", "MiB"),
    "epochs": ("Training", "epochs"),
    "steps": ("Training", "minibatches"),
}
_FIRST = ("nll", "kl", "active_dimensions", "gaussian_total_correlation", "mig", "sap", "dci_completeness", "lms")
_LAST = ("agreement", "kmeans_ari", "knn_accuracy", "ilisi")
_ON_REQUEST = ("dci_disentanglement", "dci_informativeness", "modularity", "dcimig", "mig_sup", "explicitness")
_BASELINES = {"pca": "PCA", "ica": "ICA"}
_GRAYS = dict(zip(_BASELINES, ((palette.DARK, "--"), (palette.MIDDLE, ":")), strict=True))


def scores() -> dict[str, Any]:
    """Registered scores by name."""
    return metrics.SCORES


def objectives() -> dict[str, Any]:
    """Registered objectives by name."""
    from scbetavae import module

    return module.OBJECTIVES


def lower_is_better(score: str) -> bool:
    """Direction of a score."""
    return score in metrics.SCORES and not metrics.SCORES[score].higher_is_better


def default_panels(done: pd.DataFrame) -> list[str]:
    """Quantities that are drawn by default, registered scores of the user's included."""
    own = [name for name in scores() if name not in (*QUANTITIES, *_FIRST, *_LAST, *_ON_REQUEST)]
    present = set(done["metric"])
    return [name for name in (*_FIRST, *own, *_LAST) if name in present]


def title_and_unit(rows: pd.DataFrame) -> tuple[str, str]:
    """Title and unit of the quantity of these rows."""
    metric, against, column = rows[["metric", "covariate", "column"]].iloc[0]
    record = scores().get(metric)
    title, unit = QUANTITIES.get(metric, (getattr(record, "title", metric.replace("_", " ").capitalize()), ""))
    if "{}" in title:
        title = title.format(against)
    elif against not in ("", "all"):
        title = f"{title}, {against}"
    return title, unit or ("normalized score" if column == "normalized" else "score")


def styles_of(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Color and line style of every method; baselines are gray."""
    models = list(dict.fromkeys(rows.loc[rows["kind"] == "model", "method"]))
    baselines = list(dict.fromkeys(rows.loc[rows["kind"] == "baseline", "method"]))
    styles = {name: (color, "-") for name, color in zip(models, palette.colors(len(models)), strict=True)}
    return styles | {name: _GRAYS.get(name, (palette.MIDDLE, ":")) for name in baselines}


def title_of_method(method: str) -> str:
    """Title of an objective or a baseline."""
    return _BASELINES.get(method) or getattr(objectives().get(method), "title", method)
