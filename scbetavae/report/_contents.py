"""What the page says, as plain values; the template decides how it looks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbetavae._core import keys, results
from scbetavae._core.constants import STABLE
from scbetavae._core.genes import gene_symbols_of
from scbetavae._core.text import counted

if TYPE_CHECKING:
    from anndata import AnnData

_GENES = 8
"""Genes of each direction that a slider moves."""
_CITATIONS = {
    "scvi": ("Lopez et al. 2018", "Nature Methods 15, 1053", "10.1038/s41592-018-0229-2"),
    "beta_vae": ("Higgins et al. 2017", "International Conference on Learning Representations", ""),
    "beta_tcvae": ("Chen et al. 2018", "Advances in Neural Information Processing Systems 31", ""),
    "factor_vae": ("Kim and Mnih 2018", "International Conference on Machine Learning", ""),
    "dip_vae_i": ("Kumar et al. 2018", "International Conference on Learning Representations", ""),
    "dip_vae_ii": ("Kumar et al. 2018", "International Conference on Learning Representations", ""),
    "capacity": ("Burgess et al. 2018", "arXiv 1804.03599", ""),
    "ica": ("Hyvärinen 1999", "IEEE Transactions on Neural Networks 10, 626", "10.1109/72.761722"),
    "gene_sets": ("Badia-i-Mompel et al. 2022", "Bioinformatics Advances 2, vbac016", "10.1093/bioadv/vbac016"),
}
_OBJECTIVES = {
    "beta_vae": "a beta-VAE",
    "beta_tcvae": "a beta-TCVAE",
    "factor_vae": "a FactorVAE",
    "dip_vae_i": "a DIP-VAE-I",
    "dip_vae_ii": "a DIP-VAE-II",
    "capacity": "a beta-VAE with a capacity",
}


def table_of(adata: AnnData, key: str) -> pd.DataFrame | None:
    """A table of results, if it is there and about the current embedding."""
    table = adata.uns[keys.UNS].get(key)
    if not isinstance(table, pd.DataFrame) or table.empty:
        return None
    described = results.parameters(adata, key).get("obsm_key", keys.LATENT)
    return table if results.describes(adata, key, described) else None


def _params(adata: AnnData) -> dict[str, Any]:
    found = adata.uns[keys.UNS].get(keys.PARAMS)
    return dict(found) if found is not None else {}


def glance(adata: AnnData) -> list[tuple[str, str]]:
    """Data and model in a few pairs."""
    known = _params(adata)
    pairs = [("cells", f"{adata.n_obs:,}"), ("genes", f"{adata.n_vars:,}")]
    for title, key in (("batch", "setup_batch_key"), ("labels", "setup_labels_key")):
        if known.get(key) in adata.obs:
            pairs.append((title, f"{known[key]} ({counted(adata.obs[known[key]].nunique(), 'level')})"))
    if known:
        pairs += [("objective", f"{known.get('objective', '')}, beta {float(known.get('beta', np.nan)):g}")]
        pairs += [("latent dimensions", str(known.get("n_latent", ""))), ("anchor", str(known.get("anchor", "none")))]
        pairs += [("training", f"{known.get('steps', '')} steps in {float(known.get('seconds', np.nan)):.0f} s")]
        pairs += [("seed", "none" if known.get("seed", -1) == -1 else str(known["seed"]))]
    return pairs


def tiles(adata: AnnData) -> list[dict[str, str]]:
    """The figures at the top: value, what it is, and a note."""
    found = []
    summary, measured = table_of(adata, keys.LATENT_SUMMARY), results.parameters(adata, keys.LATENT_SUMMARY)
    if summary is not None and "nll" in measured:
        what = "held-out cells" if measured.get("measured_on") == "validation" else "cells"
        found.append(_tile(f"{measured['nll']:.1f}", f"negative log-likelihood of {what}", "nats per cell"))
    if summary is not None:
        n_active, n_dims = int(summary["active"].sum()), len(summary)
        found.append(_tile(f"{n_active} of {n_dims}", "dimensions are active", ""))
        stability = summary.loc[summary["active"] & summary["stability"].notna(), "stability"]
        if len(stability):
            note = f"{int((stability >= STABLE).sum())} of {len(stability)} dimensions at least {STABLE:g}"
            found.append(_tile(f"{stability.median():.2f}", "median stability in resampled cells", note))
    report, known = table_of(adata, keys.BATCH_REMOVAL), results.parameters(adata, keys.BATCH_REMOVAL)
    if report is not None:
        knn = report[report["classifier"] == "knn"]
        for row in knn[(knn["role"] == "batch") & knn["after"].notna()].itertuples():
            note = f"k-NN accuracy; status: {known.get('status', '')}"
            found.append(
                _tile(f"{row.before:.2f} → {row.after:.2f}", f"{row.covariate} before and after removal", note)
            )
        kept = knn[(knn["role"] != "batch") & knn["kept"].notna()]
        found += [_tile(_percent(row.kept), f"of {row.covariate} kept", "k-NN accuracy") for row in kept.itertuples()]
    return found


def _tile(value: str, title: str, note: str) -> dict[str, str]:
    return {"value": value, "title": title, "note": note}


def warnings_of(adata: AnnData) -> list[str]:
    """Sentences that the reader should not miss."""
    found = [str(results.parameters(adata, keys.LATENT_SUMMARY).get("collapse", ""))]
    known = results.parameters(adata, keys.BATCH_REMOVAL)
    if known.get("status", "clean") != "clean":
        found.append(f"Batch removal: {known.get('summary') or known['status']}")
    table = table_of(adata, keys.DIMENSIONS)
    for row in [] if table is None else table.to_dict("records"):
        if row["warning"]:
            found.append(f"Dimension {row['dimension']}, {row['name']}: {row['warning']}.")
        if row["stability"] < STABLE:
            text = f"Dimension {row['dimension']}, {row['name']}: stability {row['stability']:.2f}; other cells may give another."
            found.append(text)
    return [sentence for sentence in found if sentence]


def cards(adata: AnnData) -> list[dict[str, Any]]:
    """The cards, the most valuable first, each with the responses of its genes for the slider."""
    table = table_of(adata, keys.DIMENSIONS)
    if table is None:
        return []
    if table["order"].notna().all():
        table = table.sort_values("order", kind="stable")
    known = results.parameters(adata, keys.DIMENSIONS)
    symbols = gene_symbols_of(adata, known.get("gene_symbols") if known.get("gene_symbols") in adata.var else None)
    traversal = table_of(adata, keys.TRAVERSAL) if known.get("obsm_key", keys.LATENT) == keys.LATENT else None
    return [_card(row, traversal, symbols) for row in table.to_dict("records")]


def _card(row: dict[Any, Any], traversal: pd.DataFrame | None, symbols: pd.Series) -> dict[str, Any]:
    """One card as texts."""
    numbers = [
        ("deviance explained", _percent(row["deviance_explained"])),
        ("stability", _rounded(row["stability"])),
        ("KL (nats)", _rounded(row["kl"])),
        ("lost without it (nats per cell)", _rounded(row["reconstruction_lost"])),
    ]
    if row["encodes"]:
        numbers.append(("information about it", _rounded(row["information"])))
    sets = [
        {
            "direction": direction,
            "name": row[f"gene_set_{direction}"],
            "score": _rounded(row[f"gene_set_{direction}_score"]),
            "q": _p_value(row[f"gene_set_{direction}_q"]),
            "significant": bool(row[f"gene_set_{direction}_q"] < 0.05),
        }
        for direction in ("up", "down")
        if row[f"gene_set_{direction}"]
    ]
    part = None if traversal is None else traversal[traversal["dimension"] == row["dimension"]]
    kept = ("dimension", "name", "role", "encodes", "genes_up", "genes_down", "warning")
    return {name: row[name] for name in kept} | {
        "numbers": [pair for pair in numbers if pair[1]],
        "sets": sets,
        "unstable": bool(row["stability"] < STABLE),
        "responses": None if part is None or part.empty else _responses(part, symbols),
    }


def _responses(part: pd.DataFrame, symbols: pd.Series) -> dict[str, Any] | None:
    """Log2 fold changes of the top genes at every step, for the slider."""
    steps = part.drop_duplicates("step")
    changes = part.pivot(index="gene", columns="step", values="log_fold_change").astype(float)
    expressed = part.groupby("gene", observed=True)["expression"].max() >= 0.1
    changes = changes[expressed.reindex(changes.index)]
    within = steps.loc[steps["in_range"], "step"]
    within = steps["step"] if len(within) < 2 else within
    if changes.empty:
        return None
    change = (changes[within.iloc[-1]] - changes[within.iloc[0]]).sort_values(ascending=False, kind="stable")
    chosen = [*change[change > 0].index[:_GENES], *change[change < 0].index[-_GENES:]]
    return {
        "values": [round(float(value), 3) for value in steps["value"]],
        "in_range": [bool(value) for value in steps["in_range"]],
        "genes": [str(symbols.get(str(gene), gene)) for gene in chosen],
        "changes": [[round(float(value), 3) for value in changes.loc[gene]] for gene in chosen],
    }


def why_no_cards(adata: AnnData) -> str:
    """Why the page shows no card; empty if it does."""
    table = adata.uns[keys.UNS].get(keys.DIMENSIONS)
    if not isinstance(table, pd.DataFrame):
        return "The dimensions were not described. Run model.describe_dimensions() and write the report again."
    if table.empty:
        reason = str(results.parameters(adata, keys.LATENT_SUMMARY).get("collapse", ""))
        return f"No dimension is active, so there is nothing to describe. {reason}".strip()
    if table_of(adata, keys.DIMENSIONS) is None:
        return "The embedding changed after it was described. Run model.describe_dimensions() again."
    return ""


def scores(adata: AnnData) -> list[dict[str, Any]]:
    """Scores with their null, ceiling and interval."""
    table = table_of(adata, keys.DISENTANGLEMENT)
    if table is None:
        return []
    return [
        {
            "metric": row["metric"],
            "covariate": row["covariate"],
            "level": row["level"],
            **{name: _rounded(row[name]) for name in ("value", "null", "ceiling", "normalized", "p_value")},
            "interval": " to ".join(filter(None, (_rounded(row["ci_low"]), _rounded(row["ci_high"])))),
        }
        for row in table.to_dict("records")
    ]


def removal(adata: AnnData) -> dict[str, Any]:
    """Summary and rows of the batch-removal report; empty without one."""
    table, known = table_of(adata, keys.BATCH_REMOVAL), results.parameters(adata, keys.BATCH_REMOVAL)
    if table is None:
        return {}
    rows = [
        {name: row[name] for name in ("covariate", "role", "classifier")}
        | {name: _rounded(row[name]) for name in ("before", "after", "expected")}
        | {"kept": _percent(row["kept"])}
        for row in table.to_dict("records")
    ]
    return {"status": str(known.get("status", "")), "summary": str(known.get("summary", "")), "rows": rows}


def methods(adata: AnnData) -> str:
    """A paragraph for the methods section."""
    known = _params(adata)
    if not known:
        return ""
    objective = str(known.get("objective", ""))
    kind = _OBJECTIVES.get(objective, f"a variational autoencoder with the objective {objective}")
    text = (
        f"Raw counts of {adata.n_obs:,} cells and {adata.n_vars:,} genes were modeled with {kind} (beta {known['beta']:g}; "
        f"{_cite(objective)}) with {_likelihood(known)} likelihood (scVI; {_cite('scvi')}) and {known['n_latent']} latent "
        f"dimensions, using scbetavae {known.get('version_scbetavae', '')}. It was trained for {known.get('steps', '?')} "
        f"minibatches ({str(known.get('lr_schedule', 'constant')).replace('_', ' ')} learning rate, {known['lr']:g} at most)."
    )
    if known.get("anchored"):
        text += (
            f" Posterior means were started at {known.get('anchor_components', '')} independent components of the "
            f"log-normalized counts (FastICA; {_cite('ica')}), and released during training."
        )
    if keys.GENE_SETS in adata.uns[keys.UNS]:
        text += (
            " Gene sets were tested along each dimension with a univariate linear model on the normal scores of fold changes "
            f"(decoupler; {_cite('gene_sets')}), and p-values adjusted by Benjamini and Hochberg."
        )
    removed = results.parameters(adata, keys.BATCH_REMOVAL).get("dimensions")
    if removed:
        which = f"Dimensions {removed}, which encode" if "," in str(removed) else f"Dimension {removed}, which encodes"
        text += f" {which} batch, {'were' if ',' in str(removed) else 'was'} set to a constant."
    return text


def _likelihood(known: dict[str, Any]) -> str:
    names = {"nb": "a negative binomial", "zinb": "a zero-inflated negative binomial", "poisson": "a Poisson"}
    return names.get(str(known.get("gene_likelihood")), "a normal")


def _cite(name: str) -> str:
    return _CITATIONS[name][0] if name in _CITATIONS else "this work"


def references(adata: AnnData) -> list[dict[str, str]]:
    """Papers that the methods paragraph cites."""
    known = _params(adata)
    cited = ["scvi", str(known.get("objective", ""))] if known else []
    cited += ["ica"] if known.get("anchored") else []
    cited += ["gene_sets"] if keys.GENE_SETS in adata.uns[keys.UNS] else []
    fields = ("authors", "journal", "doi")
    return [dict(zip(fields, _CITATIONS[name], strict=True)) for name in cited if name in _CITATIONS]


def call(adata: AnnData) -> str:
    """Python code that trains the model again."""
    known = _params(adata)
    if not known:
        return ""
    setup = [
        f"{name.removeprefix('setup_')}={json.loads(value) if name.endswith('_keys') else value!r}"
        for name, value in known.items()
        if name.startswith("setup_")
    ]
    names = ("beta", "dispersion", "dropout_rate", "gene_likelihood", "n_hidden", "n_latent", "n_layers", "objective")
    model = [f"{name}={known[name]!r}" for name in names if name in known]
    model.append(f"anchor={None if known.get('anchor', 'None') in ('None', 'none') else known['anchor']!r}")
    model.append(f"condition_on_batch={bool(known.get('condition_on_batch', False))}")
    for kwargs in ("objective_kwargs", "anchor_kwargs", "guided_kwargs"):
        given = {n.removeprefix(f"{kwargs}_"): value for n, value in known.items() if n.startswith(f"{kwargs}_")}
        model += [f"{kwargs}={given!r}"] if given else []
    lines = ["import scvi", "from scbetavae.model import BetaVAE", ""]
    lines += [] if known.get("seed", -1) == -1 else [f"scvi.settings.seed = {known['seed']}"]
    lines += [
        f"BetaVAE.setup_anndata({', '.join(['adata', *setup])})",
        f"model = BetaVAE({', '.join(['adata', *model])})",
    ]
    return "\n".join([*lines, f"model.train(max_steps={known.get('steps')})"])


def versions(adata: AnnData) -> str:
    """Versions of the software that trained the model."""
    found = [
        f"{name.removeprefix('version_')} {value}"
        for name, value in _params(adata).items()
        if name.startswith("version_")
    ]
    return ", ".join(found)


def _rounded(value: Any) -> str:
    """A number with two digits that count; empty for what is not known."""
    number = float(value)
    if np.isnan(number):
        return ""
    return f"{number:.2f}" if abs(number) < 100 else f"{number:,.0f}"


def _percent(value: Any) -> str:
    return "" if np.isnan(float(value)) else f"{float(value):.0%}"


def _p_value(value: Any) -> str:
    number = float(value)
    return "" if np.isnan(number) else "< 0.001" if number < 0.001 else f"{number:.3f}"
