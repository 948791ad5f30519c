"""Rows of a sweep that belong to one quantity, and their means over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

# Metric, how a picture calls it, and its unit; braces stand for the column that it was taken against.
PANELS = {
    "nll": ("Held-out NLL", "nats per cell"),
    "kl": ("KL from the prior", "nats per cell"),
    "active_dimensions": ("Active dimensions", "latent dimensions"),
    "gaussian_total_correlation": ("Total correlation", "nats"),
    "mig": ("MIG", ""),
    "sap": ("SAP", ""),
    "dci_completeness": ("DCI completeness", ""),
    "lms": ("LMS (classes)", ""),
    "agreement": ("Agreement of seeds", "mean |Spearman|"),
    "kmeans_ari": ("k-means finds {}", "ARI"),
    "knn_accuracy": ("Neighbors tell {}", "accuracy"),
    "ilisi": ("Mixing of {}", "iLISI"),
}
MORE_PANELS = {
    "negative_elbo": ("Held-out negative ELBO", "nats per cell"),
    "dci_disentanglement": ("DCI disentanglement", ""),
    "dci_informativeness": ("DCI informativeness", ""),
    "modularity": ("Modularity", ""),
    "udr": ("UDR (seeds agree)", ""),
    "dcimig": ("DCIMIG", ""),
    "mig_sup": ("MIG-sup", ""),
    "msas": ("MSAS (classes)", ""),
    "msgs": ("MSGS (classes)", ""),
    "collapsed": ("Collapsed", "share of seeds"),
    "seconds": ("Training time", "seconds"),
    "scoring_seconds": ("Scoring time", "seconds"),
    "peak_memory": ("Peak memory", "MiB"),
    "peak_gpu_memory": ("Peak GPU memory", "MiB"),
    "epochs": ("Training", "epochs"),
}
MAKE = "scbetavae.sweep.beta_sweep(adata, covariates=..., out_dir=...)"
COLUMNS = ("kind", "method", "beta", "seed", "metric", "covariate", "level", "value", "normalized", "status")
# Okabe and Ito's colors without their yellow, too pale for thin lines; baselines are shades of gray.
MODEL_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
BASELINE_COLORS = ("#303030", "#8A8A8A")
BASELINE_STYLES = ("--", ":")
_CONFIDENCE = 0.95
_SETTING = ["kind", "method", "beta"]


def finished_runs(sweep: pd.DataFrame) -> pd.DataFrame:
    """Rows of the runs that did not fail.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If no run is finished.
    """
    missing = [name for name in COLUMNS if name not in sweep]
    if missing:
        msg = f"The data frame has no column {missing[0]!r}. Make it with `{MAKE}`."
        raise KeyError(msg)
    done = sweep[sweep["status"] == "done"]
    if done.empty:
        msg = "The sweep has no finished run, so there is nothing to draw. The column error says why runs failed."
        raise ValueError(msg)
    return done


def rows_of(done: pd.DataFrame, metric: str, covariate: str | None = None, level: str | None = None) -> pd.DataFrame:
    """One row a run for a quantity, its number in ``shown``: adjusted where there are adjusted scores.

    Parameters
    ----------
    done
        Rows of finished runs.
    metric
        Name of the quantity.
    covariate
        What it was scored against; unless given, all together, or the only one there is.
    level
        Its level, where it has several.

    Raises
    ------
    ValueError
        If the sweep has no such quantity, or it is not said which of several is meant.
    """
    rows = done[done["metric"] == metric]
    if rows.empty:
        known = ", ".join(dict.fromkeys(done["metric"]))
        msg = f"The sweep has no {metric!r}. It has {known}."
        raise ValueError(msg)
    for name, given, usual in (("covariate", covariate, "all"), ("level", level, "means")):
        there = list(dict.fromkeys(rows[name]))
        default = usual if usual in there else there[0] if len(there) == 1 else None
        wanted = default if given is None else given
        if wanted not in there:
            got = "it is not said which" if wanted is None else f"{wanted!r} is not among them"
            msg = f"{metric!r} is there for {name} {', '.join(map(repr, there))}, and {got}. Take one of them."
            raise ValueError(msg)
        rows = rows[rows[name] == wanted]
    column = "normalized" if rows["normalized"].notna().any() else "value"
    rows = rows.assign(shown=rows[column], is_weighted=column == "normalized")
    return rows[rows["shown"].notna()].reset_index(drop=True)


def title_and_unit(rows: pd.DataFrame) -> tuple[str, str]:
    """What a picture calls the quantity of these rows, and its unit."""
    metric, against = rows["metric"].iloc[0], rows["covariate"].iloc[0]
    title, unit = (PANELS | MORE_PANELS).get(metric, (metric.replace("_", " ").capitalize(), ""))
    if "{}" in title:
        title = title.format(against)
    elif against not in ("", "all"):
        title = f"{title}, {against}"
    return title, unit or ("adjusted score" if rows["is_weighted"].iloc[0] else "score")


def with_means(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows with the mean of a column over the seeds of their setting, and its 95% t interval (NaN for one seed)."""
    from scipy.stats import t

    groups = rows.groupby(_SETTING, dropna=False)[column]
    mean, count = groups.transform("mean"), groups.transform("count")
    quantile = np.where(count > 1, t.ppf(0.5 + _CONFIDENCE / 2, np.maximum(count - 1, 1)), np.nan)
    half = quantile * groups.transform("std").fillna(0.0) / np.sqrt(count)
    return rows.assign(mean=mean, ci_low=mean - half, ci_high=mean + half)


def colors_of(done: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Color and line style of every method.

    Raises
    ------
    ValueError
        If there are more methods than can be told apart.
    """
    models = list(dict.fromkeys(done.loc[done["kind"] == "model", "method"]))
    baselines = list(dict.fromkeys(done.loc[done["kind"] == "baseline", "method"]))
    if len(models) > len(MODEL_COLORS) or len(baselines) > len(BASELINE_COLORS):
        msg = f"There are {len(models)} objectives and {len(baselines)} baselines, too many to tell apart. Draw a part."
        raise ValueError(msg)
    styles = {name: (color, "-") for name, color in zip(models, MODEL_COLORS, strict=False)}
    return styles | dict(zip(baselines, zip(BASELINE_COLORS, BASELINE_STYLES, strict=True), strict=False))


def title_of_method(method: str) -> str:
    """What a legend calls a method."""
    titles = {
        "beta_vae": "beta-VAE",
        "beta_tcvae": "beta-TCVAE",
        "factor_vae": "FactorVAE",
        "capacity": "capacity",
        "dip_vae_i": "DIP-VAE-I",
        "dip_vae_ii": "DIP-VAE-II",
        "pca": "PCA",
        "ica": "ICA",
    }
    return titles.get(method, method)
