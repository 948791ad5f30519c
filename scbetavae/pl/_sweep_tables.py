"""Titles, units and colors of what a sweep measures."""

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
_BASELINES = {"pca": ("PCA", (palette.DARK, "--")), "ica": ("ICA", (palette.MIDDLE, ":"))}


def default_panels(done: pd.DataFrame) -> list[str]:
    """Quantities that are drawn by default, registered scores of the user's included."""
    own = [name for name in metrics.SCORES if name not in (*QUANTITIES, *_FIRST, *_LAST, *_ON_REQUEST)]
    present = set(done["metric"])
    return [name for name in (*_FIRST, *own, *_LAST) if name in present]


def title_and_unit(rows: pd.DataFrame) -> tuple[str, str]:
    """Title and unit of the quantity of these rows."""
    metric, against, column = rows[["metric", "covariate", "column"]].iloc[0]
    own_title = getattr(metrics.SCORES.get(metric), "title", metric.replace("_", " ").capitalize())
    title, unit = QUANTITIES.get(metric, (own_title, ""))
    if "{}" in title:
        title = title.format(against)
    elif against not in ("", "all"):
        title = f"{title}, {against}"
    return title, unit or ("normalized score" if column == "normalized" else "score")


def styles_of(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Color and line style of every method; baselines are gray."""
    models, baselines = (
        list(dict.fromkeys(rows.loc[rows["kind"] == kind, "method"])) for kind in ("model", "baseline")
    )
    styles = {name: (color, "-") for name, color in zip(models, palette.colors(len(models)), strict=True)}
    return styles | {name: _BASELINES.get(name, ("", (palette.MIDDLE, ":")))[1] for name in baselines}


def title_of_method(method: str) -> str:
    """Title of an objective or a baseline."""
    from scbetavae import module  # torch loads with it

    return _BASELINES[method][0] if method in _BASELINES else getattr(module.OBJECTIVES.get(method), "title", method)
