"""Counterfactuals of guided covariates: the task ``counterfactual`` of ``benchmarks/guided.py``, which runs it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import anndata
import numpy as np
import recipe

from scbetavae import metrics
from scbetavae.model import BetaVAE

Row = tuple[str, str, int, dict]


def fit(adata: anndata.AnnData, setup: dict, arguments: dict, seed: int, **training) -> tuple[BetaVAE, float]:
    """A model trained on nine tenths of the cells, and its CPU seconds."""
    BetaVAE.setup_anndata(adata, **setup)
    return recipe.fit(adata, BetaVAE, seed, arguments, **training)


def counterfactual(folder: Path | None, seeds: range, wanted: Callable[..., bool]) -> Iterator[Row]:
    """Condition of one cell type at a time, whose stimulated cells are left out; effects on simulated cells."""
    if folder is not None:
        yield from _held_out_types(recipe.read("kang", folder), seeds, wanted)
    adata = recipe.read("simulator", folder)
    truth = 2.0 * adata.varm["program_condition"].ravel()  # from -1 to +1, natural logarithm
    for seed in seeds:
        if wanted("counterfactual: simulator", "guided", seed):
            model, _ = fit(adata, {"guided_keys": ["condition"]}, {}, seed)
            predicted = model.counterfactual("condition", "control", "treated", groupby="cell_type")
            genes = predicted.uns["betavae"]["counterfactual_genes"]
            change = genes.groupby("gene", sort=False)["log2_fold_change"].mean().reindex(adata.var_names)
            correlation = np.corrcoef(change, truth)[0, 1]
            yield "counterfactual: simulator", "guided", seed, {"correlation": correlation}
        if wanted("effects: simulator gradient", "guided", seed):
            yield "effects: simulator gradient", "guided", seed, {"slope": _slope_of_gradient(adata, seed)}
        if wanted("effects: kang both", "guided", seed) and folder is not None:
            yield "effects: kang both", "guided", seed, _two_effects(recipe.read("kang", folder), seed)


def _slope_of_gradient(adata: anndata.AnnData, seed: int) -> float:
    """Slope of decoded log fold changes, from one standard deviation below the mean to one above, on the true ones."""
    model, _ = fit(adata, {"guided_keys": ["gradient"]}, {}, seed)
    model.describe_guided(n_genes=adata.n_vars, n_bootstrap=0)
    genes = adata.uns["betavae"]["guided_genes"].set_index("gene")["log2_fold_change"].reindex(adata.var_names)
    truth = 2.0 * adata.varm["program_gradient"].ravel()
    return float(np.polyfit(truth, np.log(2.0) * genes.to_numpy(), 1)[0])


def _held_out_types(adata: anndata.AnnData, seeds: range, wanted: Callable[..., bool]) -> Iterator[Row]:
    """Relative errors of each held-out cell type, of the models and of baselines without a model."""
    arms = {
        "guided": ({"guided_keys": ["condition"]}, {}),
        "conditioned": ({"batch_key": "condition"}, {"condition_on_batch": True}),
    }
    for seed in seeds:
        for cell_type in sorted(adata.obs["cell_type"].unique()):
            task = f"counterfactual: {cell_type}"
            left_out = ((adata.obs["cell_type"] == cell_type) & (adata.obs["condition"] == "stim")).to_numpy()
            for arm, (setup, arguments) in arms.items():
                if not wanted(task, arm, seed):
                    continue
                model, _ = fit(adata[~left_out].copy(), setup, arguments, seed)
                predicted = model.counterfactual(
                    "condition", "ctrl", "stim", groupby="cell_type", exclude=cell_type, adata=adata
                )
                table = predicted.uns["betavae"]["counterfactual"]
                table = table[table["group"] == cell_type]
                values = {f"{row.method} {row.genes}": row.relative_error for row in table.itertuples()}
                yield task, arm, seed, values


def _two_effects(adata: anndata.AnnData, seed: int) -> dict[str, float]:
    """How far each of two guided blocks moves cells along its own and along the other covariate's effect.

    Effects are differences of log profiles within each cell type, means over the levels of the other covariate. The slopes are
    those of the predicted changes of all cell types and genes on both effects, by least squares.
    """
    model, _ = fit(adata, {"guided_keys": ["condition", "donor"]}, {}, seed)
    pairs = {"condition": ("ctrl", "stim"), "donor": tuple(sorted(adata.obs["donor"].astype(str).unique()))}
    labels = adata.obs[[*pairs, "cell_type"]].astype(str)
    groups = labels.groupby(["cell_type", *pairs]).groups
    profiles = {key: metrics.log_profile(adata[index].X) for key, index in groups.items()}
    types = sorted(labels["cell_type"].unique())
    (c0, c1), (d0, d1) = pairs.values()
    effects = {
        "condition": [np.mean([profiles[t, c1, d] - profiles[t, c0, d] for d in (d0, d1)], axis=0) for t in types],
        "donor": [np.mean([profiles[t, c, d1] - profiles[t, c, d0] for c in (c0, c1)], axis=0) for t in types],
    }
    design = np.column_stack([np.concatenate(effect) for effect in effects.values()])
    found = {}
    for name, (source, target) in pairs.items():
        predicted = model.counterfactual(name, source, target, groupby="cell_type")
        genes = predicted.uns["betavae"]["counterfactual_genes"].set_index("group")
        moved = np.concatenate([(genes.loc[t, "predicted"] - genes.loc[t, "source"]).to_numpy() for t in types])
        slopes = np.linalg.lstsq(design, moved, rcond=None)[0]
        found |= {f"{name} moves {key}": slope for key, slope in zip(effects, slopes, strict=True)}
    return found
