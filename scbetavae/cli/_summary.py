"""What the terminal shows at the end: a line each on training, stability, what dimensions encode, and batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from scbetavae._core import keys, results
from scbetavae._core.constants import STABLE
from scbetavae._core.text import counted

if TYPE_CHECKING:
    from anndata import AnnData

    from scbetavae.model import BetaVAE

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
    low = known.loc[stability < STABLE, "dimension"].tolist()
    text = f"{len(known) - len(low)} of {counted(len(known), 'dimension')} at least {STABLE:g} in resampled cells"
    return f"{text} ({stability.min():.2f} to {stability.max():.2f}){'; below: ' if low else ''}{_numbers(low)}"


def describe_dimensions(cards: pd.DataFrame) -> str:
    """Names of the dimensions, most important first."""
    ranked = cards.sort_values("order", kind="stable")
    parts = [f"{row['dimension']} {row['name']}" for row in ranked.head(_MOST_DIMENSIONS).to_dict("records")]
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


def _stored(adata: AnnData, key: str) -> pd.DataFrame | None:
    """A result about the latent representation."""
    table = adata.uns[keys.UNS].get(key)
    return table if isinstance(table, pd.DataFrame) and results.describes(adata, key, keys.LATENT) else None


def _numbers(dimensions: list[int]) -> str:
    return ", ".join(map(str, dimensions))
