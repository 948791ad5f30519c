"""What the terminal shows at the end: a line each on training, stability, what dimensions encode, and batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbetavae import pl
from scbetavae._core import keys, results
from scbetavae._core.text import counted

if TYPE_CHECKING:
    from anndata import AnnData

    from scbetavae.model import BetaVAE

_STABLE = 0.7  # the line in the plot of the latent summary
_MOST_DIMENSIONS = 10  # to say what they encode
_CLUSTERS = f"{keys.BATCH_REMOVAL}{keys.CLUSTERS_SUFFIX}"  # conserved where no covariate was given
_CLASSIFIERS = {"knn": "k-NN", "random_forest": "random forest"}


def describe_training(stored: Mapping[str, Any], model: BetaVAE, seconds: float) -> str:
    """Length of the training, held-out likelihood, and active dimensions."""
    history, module = stored[keys.HISTORY], model.module
    parts = [f"{stored[keys.PARAMS]['steps']} steps in {seconds:.0f} s on {model.device}"]
    for quantity, title in (("nll", "negative log-likelihood"), ("kl", "KL")):
        held_out = history.get(f"{quantity}_validation", pd.Series(dtype=float)).dropna()
        value, where = (held_out, "held-out ") if len(held_out) else (history[f"{quantity}_train"], "training ")
        parts.append(f"{where if quantity == 'nll' else ''}{title} {value.iloc[-1]:.2f}")
    active = f"{history['active_dimensions'].iloc[-1]:.0f} of {module.n_latent} dimensions active"
    return f"{', '.join(parts)} nats per cell; {active}"


def describe_stability(summary: pd.DataFrame) -> str:
    """How many dimensions start from components that resampled cells have, too, and which do not."""
    known = summary[summary["stability"].notna() & summary["active"]]
    if known.empty:
        return "not known: no dimension starts from an independent component"
    stability = known["stability"]
    low = known.loc[stability < _STABLE, "dimension"].tolist()
    text = f"{len(known) - len(low)} of {counted(len(known), 'dimension')} at least {_STABLE:g} in resampled cells"
    return f"{text} ({stability.min():.2f} to {stability.max():.2f}){'; below: ' if low else ''}{_numbers(low)}"


def describe_dimensions(adata: AnnData, symbols: pd.Series) -> str:
    """What dimensions encode, most important first."""
    names = _names(adata, symbols)
    order = _stored(adata, keys.LATENT_SUMMARY)
    ranked = list(names) if order is None else [d for d in order.sort_values("order")["dimension"] if d in names]
    parts = [f"{dimension}: {names[dimension]}" for dimension in ranked[:_MOST_DIMENSIONS]]
    return "; ".join(parts) + (" ..." if len(ranked) > _MOST_DIMENSIONS else "")


def describe_removal(adata: AnnData) -> str:
    """Status of the batch removal, accuracies before and after, and what conserved covariates keep."""
    report, known = _stored(adata, keys.BATCH_REMOVAL), results.parameters(adata, keys.BATCH_REMOVAL)
    dimensions = str(known["dimensions"])
    if report is None or not dimensions:
        return known["summary"]
    measured = report[report["classifier"].isin(list(_CLASSIFIERS)) & report["after"].notna()]
    batch, conserved = (measured[measured["role"] == role] for role in ("batch", "conserved"))
    changes = [
        f"{_CLASSIFIERS[str(row.classifier)]} accuracy for {row.covariate} {row.before:.2f} -> {row.after:.2f}"
        for row in batch.itertuples()
    ]
    expected = batch["expected"].dropna().unique()
    if changes and len(expected):
        changes[-1] += f" ({expected[0]:.2f} expected from composition)"
    for name, part in conserved[conserved["kept"].notna()].groupby("covariate", sort=False):
        shares = [f"{row.kept:.0%} ({_CLASSIFIERS[str(row.classifier)]})" for row in part.itertuples()]
        changes.append(f"{'clusters' if name == _CLUSTERS else name} keeps {' and '.join(shares)}")
    several = "s" if ", " in dimensions else ""
    return f"{known['status']}: without dimension{several} {dimensions}, {'; '.join(changes)}"


def _names(adata: AnnData, symbols: pd.Series) -> dict[int, str]:
    """A name for each dimension: that of its card, or the covariate it encodes, or the genes that increase along it.

    To merge: with dimension cards, their column ``name`` alone.
    """
    genes = _stored(adata, keys.DIMENSION_GENES)
    names: dict[int, str] = {}
    if genes is not None:
        top = genes[(genes["direction"] == "up") & (genes["rank"] <= 3)]
        for dimension, part in top.groupby("dimension"):
            names[int(str(dimension))] = "genes " + " ".join(part["gene"].map(symbols).fillna(part["gene"]).astype(str))
    if f"{keys.DISENTANGLEMENT}{keys.DIMENSIONS_SUFFIX}" in adata.uns[keys.UNS]:
        names |= _encoded(pl.dimension_covariate_frame(adata))
    return dict(sorted(names.items()))


def _encoded(frame: pd.DataFrame) -> dict[int, str]:
    """The covariate, or its class, that a dimension encodes most strongly; of two classes, one says it all."""
    two = [name for name, part in frame.groupby("covariate") if part["column"].nunique() == 2]
    encoded = frame.drop_duplicates("dimension")
    encoded = encoded[encoded["active"] & (encoded["encodes"] != "")]
    covariates = encoded["encodes"].str.split(": ", n=1).str[0]
    names = np.where(covariates.isin(two), covariates, encoded["encodes"].str.replace(": ", " ", n=1))
    return dict(zip(encoded["dimension"].astype(int).tolist(), names.tolist(), strict=True))


def _stored(adata: AnnData, key: str) -> pd.DataFrame | None:
    """A result about the latent representation."""
    table = adata.uns[keys.UNS].get(key)
    return table if isinstance(table, pd.DataFrame) and results.describes(adata, key, keys.LATENT) else None


def _numbers(dimensions: list[int]) -> str:
    return ", ".join(map(str, dimensions))
