"""Guided dimensions: one row per data set, task, arm, seed and measure in ``benchmarks/results/guided.csv``.

``python benchmarks/guided.py DATA --tasks clean,counterfactual`` reads ``kang_subset.h5ad``, ``onek1k_subset.h5ad`` and
``mixology_rnamix.h5ad`` of the folder DATA; the simulator needs none. Tasks:

- ``clean``: k-NN accuracy (15 neighbors) or r2 of a covariate left in the free dimensions of a model guided by it, next to the
  default model and to one whose decoder is conditioned on it; accuracy of conserved covariates; held-out negative log-likelihood;
- ``counterfactual``: condition of one held-out cell type at a time, guided, conditioned and baselines; log fold changes on
  simulated cells;
- ``missing``: 30% of the labels are missing: accuracy of the inferred ones next to logistic regression on 50 PCs, and what the
  held-out likelihood loses;
- ``anchor``: MIG of the condition of the simulator with guided batch, and agreement of seeds on the same cells;
- ``confounding``: what training says to confounded simulated covariates;
- ``speed``: CPU seconds of a training step with and without a guided covariate, in turn (no rows of seeds: a median).

``python benchmarks/guided.py --table`` makes the table of the docs from the rows.

CPU seconds are those of ``train()`` alone, on one thread. Finished rows are not computed again.
"""

import argparse
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import recipe
from guided_counterfactual import Row, counterfactual, fit

import scbetavae
from scbetavae import metrics
from scbetavae.model import BetaVAE

RESULTS = Path(__file__).parent / "results" / "guided.csv"
TABLE = Path(__file__).parents[1] / "docs" / "user_guide" / "guided.inc"

# data set: guided covariates by task, and conserved ones
CLEAN = {
    "kang condition": ("kang", ["condition"], ["cell_type", "donor"]),
    "kang donor": ("kang", ["donor"], ["cell_type", "condition"]),
    "kang both": ("kang", ["condition", "donor"], ["cell_type"]),
    "rnamix protocol": ("rnamix2000", ["protocol"], ["H2228_prop", "H1975_prop", "HCC827_prop"]),
    "rnamix amount": ("rnamix2000", ["mRNA_amount"], ["protocol", "H2228_prop", "H1975_prop", "HCC827_prop"]),
    "onek1k donor": ("onek1k", ["donor"], ["cell_type"]),
    "simulator gradient": ("simulator", ["gradient"], ["cell_type", "condition", "batch"]),
}
NUMBERS = {"mRNA_amount", "gradient"}  # on which a decoder is conditioned as continuous covariates
MISSING = 0.3  # share of labels


def guided_setup(keys: list[str], adata: anndata.AnnData) -> dict:
    """Arguments of ``setup_anndata`` to guide by these columns."""
    numeric = [key for key in keys if pd.api.types.is_numeric_dtype(adata.obs[key].dtype)]
    return {"guided_keys": keys, "continuous_guided_keys": numeric or None}


def conditioned(keys: list[str]) -> tuple[dict, dict]:
    """Arguments of ``setup_anndata`` and of the model for a decoder that is conditioned on these columns."""
    numeric = [key for key in keys if key in NUMBERS]
    first, *others = [key for key in keys if key not in NUMBERS] or [None]
    setup = {
        "batch_key": first,
        "categorical_covariate_keys": others or None,
        "continuous_covariate_keys": numeric or None,
    }
    return {name: value for name, value in setup.items() if value}, {"condition_on_batch": first is not None}


def accuracy(means: np.ndarray, column: pd.Series) -> float:
    """Chance-corrected accuracy of the 15 nearest neighbors, or r2 of a number."""
    return float(metrics.knn_accuracy(means, column))


def measure(
    model: BetaVAE, adata: anndata.AnnData, keys: list[str], conserved: list[str], held_out: np.ndarray
) -> dict:
    """What the free dimensions know, and the held-out negative log-likelihood in nats per cell."""
    free = model.get_latent_representation()[:, : model.module.n_latent]
    found = {f"left_{key}": accuracy(free, adata.obs[key]) for key in keys}
    found |= {f"kept_{key}": accuracy(free, adata.obs[key]) for key in conserved}
    reconstruction = model.get_reconstruction_error(indices=held_out)
    found["nll"] = float(reconstruction["reconstruction_loss"] if isinstance(reconstruction, dict) else reconstruction)
    return found


def clean(
    folder: Path | None, seeds: range, wanted: Callable[..., bool], sets: list[str] | None, **guided
) -> Iterator[Row]:
    """What is left of a covariate in the free dimensions."""
    for name, (source, keys, conserved) in CLEAN.items():
        if (sets and name not in sets) or (folder is None and source != "simulator"):
            continue
        adata = recipe.read(source, folder)
        train, held_out, test = recipe.split(adata)
        same = {"datasplitter_kwargs": {"external_indexing": [train, held_out, test]}}
        setup, arguments = conditioned(keys)
        arms = {
            "guided": (guided_setup(keys, adata), {"guided_kwargs": guided} if guided else {}),
            "conditioned": (setup, arguments),
            "default": ({}, {}),
        }
        for seed in seeds:
            for arm, (setup, arguments) in arms.items():
                if wanted(f"clean: {name}", arm, seed):
                    model, seconds = fit(adata, setup, arguments, seed, **same)
                    values = measure(model, adata, keys, conserved, held_out)
                    yield f"clean: {name}", arm, seed, values | {"cpu_seconds": seconds}


def missing(folder: Path | None, seeds: range, wanted: Callable[..., bool]) -> Iterator[Row]:
    """Accuracy of inferred labels, and the held-out likelihood with and without the labels of held-out cells."""
    for name, source, key in (
        ("kang", "kang", "condition"),
        ("rnamix", "rnamix2000", "protocol"),
        ("pbmc", "pbmc", "batch"),
    ):
        if folder is None and source != "pbmc":
            continue
        adata = recipe.read(source, folder)
        train, held_out, test = recipe.split(adata)
        same = {"datasplitter_kwargs": {"external_indexing": [train, held_out, test]}}
        truth = adata.obs[key].astype(str)
        for seed in seeds:
            if not wanted(f"missing: {name}", "guided", seed):
                continue
            known = adata.copy()
            hidden = np.random.default_rng(seed).random(adata.n_obs) < MISSING
            known.obs[key] = truth.where(~hidden).astype(object)
            model, _ = fit(known, {"guided_keys": [key]}, {}, seed, **same)
            unknown = hidden & np.isin(np.arange(adata.n_obs), held_out)
            labeled = ~hidden & np.isin(np.arange(adata.n_obs), train)
            probabilities = model.predict_guided(known, indices=np.flatnonzero(hidden))
            complete, blank = adata.copy(), adata.copy()
            blank.obs[key] = pd.Series(np.nan, index=adata.obs_names, dtype=object)
            nll = {}
            for label, cells in (("nll_with_labels", complete), ("nll_without_labels", blank)):
                cells.obs[key] = cells.obs[key].astype(object)
                found = model.get_reconstruction_error(cells, indices=held_out)
                nll[label] = float(found["reconstruction_loss"] if isinstance(found, dict) else found)
            values = {
                "accuracy": float((probabilities.idxmax(axis=1) == truth[hidden]).mean()),
                "logistic_regression": _logistic_accuracy(adata, truth, labeled, hidden),
                "n_hidden": int(hidden.sum()),
                "n_hidden_held_out": int(unknown.sum()),
            }
            yield f"missing: {name}", "guided", seed, values | nll


def _logistic_accuracy(adata: anndata.AnnData, truth: pd.Series, fitted: np.ndarray, tested: np.ndarray) -> float:
    """Accuracy of logistic regression on 50 principal components of log-normalized counts."""
    import scanpy as sc
    from sklearn.linear_model import LogisticRegression

    logs = adata.copy()
    sc.pp.normalize_total(logs, target_sum=1e4)
    sc.pp.log1p(logs)
    sc.pp.pca(logs, n_comps=50)
    scores = logs.obsm["X_pca"]
    return float(
        LogisticRegression(max_iter=1000).fit(scores[fitted], truth[fitted]).score(scores[tested], truth[tested])
    )


def anchor(folder: Path | None, seeds: range, wanted: Callable[..., bool]) -> Iterator[Row]:
    """Whether free dimensions stay in place when the batch is guided."""
    adata = recipe.read("simulator", folder)
    train, held_out, test = recipe.split(adata)
    same = {"datasplitter_kwargs": {"external_indexing": [train, held_out, test]}}
    embeddings = []
    for seed in seeds:
        if wanted("anchor: simulator", "guided", seed) or wanted("anchor: agreement", "guided", seeds[0]):
            model, _ = fit(adata, {"guided_keys": ["batch"]}, {}, seed, **same)
            free = model.get_latent_representation()[:, : model.module.n_latent]
            embeddings.append(free)
            values = {"mig_condition": float(metrics.mig(free, adata.obs[["condition"]])["condition"])}
            values |= {"left_batch": accuracy(free, adata.obs["batch"])}
            yield "anchor: simulator", "guided", seed, values
    if len(embeddings) > 1:
        yield "anchor: agreement", "guided", seeds[0], recipe.agreement(embeddings)


def confounding(folder: Path | None, seeds: range, wanted: Callable[..., bool]) -> Iterator[Row]:  # noqa: ARG001
    """What training says when cell type and batch are confounded: 0 nothing, 1 a warning, 2 a strong one, 3 it refuses."""
    for share in (0.0, 0.3, 0.6, 0.9):
        task = f"confounding: {share:g}"
        for seed in seeds:
            if not wanted(task, "guided", seed):
                continue
            adata = scbetavae.datasets.simulate_counts(
                1000, 100, n_cell_types=2, confounding={("cell_type", "batch"): share}, seed=seed
            )
            BetaVAE.setup_anndata(adata, labels_key="cell_type", guided_keys=["batch"])
            model, says = BetaVAE(adata), 0
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    model.train(max_steps=1, enable_progress_bar=False, accelerator="cpu")
                except ValueError:
                    says = 3
            texts = [str(warning.message) for warning in caught if "confounded" in str(warning.message)]
            if texts:
                says = 2 if "Much of" in texts[0] else 1
            yield task, "guided", seed, {"says": says}


def speed(folder: Path | None, seeds: range, wanted: Callable[..., bool]) -> Iterator[Row]:
    """CPU seconds of a step at 2000 genes, guided over not guided with the same objective, trained in turn."""
    adata = scbetavae.datasets.simulate_counts(4000, 2000, seed=0)
    del folder
    for seed in seeds:
        if not wanted("speed: 2000 genes", "guided", seed):
            continue
        seconds = {}
        plain = {"objective": "beta_vae", "beta": 4.0}
        for arm, setup in (("unguided", {}), ("guided", {"guided_keys": ["batch"]})):
            for n_steps in (20, 220):  # start and end cost the same
                seconds[arm, n_steps] = fit(adata, setup, plain, seed, max_steps=n_steps)[1]
        each = {arm: (seconds[arm, 220] - seconds[arm, 20]) / 200 for arm in ("unguided", "guided")}
        yield "speed: 2000 genes", "guided", seed, {**each, "ratio": each["guided"] / each["unguided"]}


def table_of(frame: pd.DataFrame) -> str:
    """Table of the docs: what is left of each covariate, and the lowest share of a conserved one that is kept."""
    rows = frame[frame["task"].str.startswith("clean: ")].assign(value=frame["value"].astype(float))
    median = rows.groupby(["task", "measure", "arm"])["value"].median().unstack("arm")
    lines = ["| data, covariate | default | conditioned | guided | guided: least kept of a conserved covariate |"]
    lines.append("|---|---|---|---|---|")
    for name, (_, keys, conserved) in CLEAN.items():
        task = f"clean: {name}"
        if task not in median.index:
            continue
        kept = (median.loc[task].loc[[f"kept_{key}" for key in conserved]].eval("guided / default")).min()
        for key in keys:
            left = median.loc[(task, f"left_{key}")]
            values = " | ".join(f"{left[arm]:.2f}" for arm in ("default", "conditioned", "guided"))
            label = name if len(keys) == 1 else f"{name}: {key}"
            lines.append(f"| {label} | {values} | {100 * kept:.0f}% |")
    return "\n".join(lines)


TASKS: dict[str, Callable[..., Iterator[Row]]] = {
    "clean": clean,
    "counterfactual": counterfactual,
    "missing": missing,
    "anchor": anchor,
    "confounding": confounding,
    "speed": speed,
}


def main() -> None:
    """Parse the command line, run the tasks, write the rows, print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="folder with the files; without it, the simulator alone")
    parser.add_argument("--tasks", type=lambda s: s.split(","), default=list(TASKS))
    parser.add_argument("--sets", type=lambda s: s.split(","), default=None, help="of the task clean")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="write the table of the docs and stop")
    options = parser.parse_args()
    if options.table:
        TABLE.write_text(table_of(pd.read_csv(options.out)) + "\n")
        return
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    empty = pd.DataFrame(columns=["task", "arm", "seed", "measure", "value"])
    frame = pd.read_csv(options.out) if options.out.exists() else empty
    done = set(frame[["task", "arm", "seed"]].itertuples(index=False, name=None))

    def wanted(task: str, arm: str, seed: int) -> bool:
        return (task, arm, seed) not in done

    for name in options.tasks:
        run = partial(TASKS[name], sets=options.sets) if name == "clean" else TASKS[name]
        for task, arm, seed, values in run(options.data, range(options.seeds), wanted):
            if not wanted(task, arm, seed):
                continue
            rows = [{"task": task, "arm": arm, "seed": seed, "measure": k, "value": v} for k, v in values.items()]
            frame = pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)
            frame.to_csv(options.out, index=False)
            print(task, arm, seed, {k: round(float(v), 3) for k, v in values.items()}, flush=True)
    summary = frame.groupby(["task", "arm", "measure"], sort=False)["value"].agg(["median", "min", "max", "count"])
    print(summary.round(3).to_string())


if __name__ == "__main__":
    main()
