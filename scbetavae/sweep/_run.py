"""One run: train or fit, and score. The same function in this process, in others and on Ray."""

import gc
import time
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA, FastICA

from scbetavae import metrics, module, tl
from scbetavae._core import keys as _keys
from scbetavae._core.checks import as_list
from scbetavae._core.columns import class_columns
from scbetavae._core.constants import ACTIVE_KL
from scbetavae.model import BetaVAE
from scbetavae.sweep._data import SweepData
from scbetavae.sweep._isolation import PeakMemory, isolated
from scbetavae.sweep._plan import Run
from scbetavae.sweep._results import RunResult, quantity_rows, stack_scores

_WITHOUT_LABELS = "gaussian_total_correlation"
_DRAWS = 10  # from the posterior, over which the held-out likelihood is averaged


def registered() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Objectives and scores, for a process that did not run the user's code."""
    return dict(module.OBJECTIVES), dict(metrics.SCORES)


def execute(
    run: Run, entries: tuple[Mapping[str, Any], ...], data: SweepData, settings: Mapping[str, Any], save_model: bool
) -> tuple[Run, RunResult]:
    """Register what is `registered` where the sweep was called, do one run, and return it with its result.

    An error becomes the result, and a KeyboardInterrupt does not: a run that the user stopped did not fail.
    """
    for registry, there in zip((module.OBJECTIVES, metrics.SCORES), entries, strict=True):
        for name in there.keys() - registry.keys():
            registry[name] = there[name]
    try:
        with isolated(run.seed, settings["num_threads"]) as warnings:
            result = _baseline(data, run, settings) if run.is_baseline else _model(data, run, settings, save_model)
    except SystemExit as stop:
        # Lightning turns an interrupt from the keyboard into an exit.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise
    except Exception as error:  # noqa: BLE001 - any error becomes a row of the table, and the sweep goes on
        return run, RunResult.of_error(error)
    result.warnings.extend(warnings)
    return run, result


def _model(data: SweepData, run: Run, settings: Mapping[str, Any], save_model: bool) -> RunResult:
    """Train a model and score it."""
    adata = data.to_adata()
    beta = {} if run.beta is None else {"beta": run.beta}
    model = BetaVAE(adata, objective=run.method, **beta, **settings["model_kwargs"])
    try:
        on_gpu = torch.cuda.is_available()
        with PeakMemory() as memory:
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            _train(model, data, settings["train_kwargs"])
            trained = time.perf_counter()
            quantities, active = _held_out_quantities(model, data.held_out)
            scores = model.score_disentanglement(settings["covariates"], seed=run.seed, **_score_arguments(settings))
            integration = _integration(adata, settings, run.seed)
            scored = time.perf_counter()
        stored = adata.uns[_keys.UNS]
        costs = {"seconds": trained - started, "scoring_seconds": scored - trained, "peak_memory": memory.mebibytes}
        costs |= {"peak_gpu_memory": torch.cuda.max_memory_allocated() / 2**20} if on_gpu else {}
        costs |= {name: stored[_keys.PARAMS][name] for name in ("steps", "epochs")}
        return RunResult(
            stack_scores([quantity_rows(quantities, len(data.held_out)), scores, *integration, quantity_rows(costs)]),
            latent=np.asarray(adata.obsm[_keys.LATENT][:, : model.module.n_latent], dtype=np.float32),
            active=active,
            history=stored[_keys.HISTORY],
            model=_model_file(model) if save_model else None,
        )
    finally:
        model.deregister_manager(adata)  # scvi-tools would keep these cells as long as the process lives
        del model, adata
        gc.collect()  # models, trainers and managers refer to each other, and would pile up over many runs


def _train(model: BetaVAE, data: SweepData, train_kwargs: Mapping[str, Any]) -> None:
    """Train on the training cells of the sweep."""
    kwargs = {"enable_progress_bar": False, **train_kwargs}
    del kwargs["train_size"]
    splitter = dict(kwargs.pop("datasplitter_kwargs", None) or {})
    splitter["external_indexing"] = [data.train, data.held_out, np.zeros(0, dtype=np.int64)]
    model.train(**kwargs, datasplitter_kwargs=splitter)


def _held_out_quantities(model: BetaVAE, held_out: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Likelihood, KL and what follows from them on the held-out cells, and which dimensions are active there."""
    draws = [float(model.get_reconstruction_error(indices=held_out)["reconstruction_loss"]) for _ in range(_DRAWS)]
    posterior = model.get_latent_representation(indices=held_out.tolist(), return_dist=True)
    free = slice(model.module.n_latent)  # guided dimensions have no divergence
    means, variances = (np.asarray(part, dtype=np.float64)[:, free] for part in posterior)
    kl = (0.5 * (means**2 + variances - 1.0 - np.log(variances))).mean(axis=0)
    nll, active = np.mean(draws), kl > ACTIVE_KL
    quantities = {"nll": nll, "kl": kl.sum(), "negative_elbo": nll + kl.sum(), "active_dimensions": active.sum()}
    return quantities | {"collapsed": active.sum() < min(2, len(kl))}, active


def _baseline(data: SweepData, run: Run, settings: Mapping[str, Any]) -> RunResult:
    """Fit a baseline and score it, on an AnnData that needs no counts."""
    with PeakMemory() as memory:
        started = time.perf_counter()
        n_dims = settings["model_kwargs"].get("n_latent", signature(BetaVAE).parameters["n_latent"].default)
        latent = _embed_linearly(run.method, data, n_dims, run.seed)
        fitted = time.perf_counter()
        adata = AnnData(obs=data.obs.copy())
        adata.obsm[_keys.LATENT] = latent
        kwargs = {"seed": run.seed, **_score_arguments(settings)}
        scores = [tl.score_disentanglement(adata, settings["covariates"], **kwargs)]
        if kwargs.get("metrics") is None:  # models, whose variances are known, get it by default
            kwargs["metrics"] = _WITHOUT_LABELS
            scores.append(tl.score_disentanglement(adata, settings["covariates"], **kwargs))
        integration = _integration(adata, settings, run.seed)
        scored = time.perf_counter()
    costs = {"seconds": fitted - started, "scoring_seconds": scored - fitted, "peak_memory": memory.mebibytes}
    return RunResult(
        stack_scores([*scores, *integration, quantity_rows(costs)]), latent=np.asarray(latent, dtype=np.float32)
    )


def _embed_linearly(method: str, data: SweepData, n_dims: int, seed: int) -> np.ndarray:
    """``"pca"`` or ``"ica"`` of log-normalized counts, (n_cells, n_dims), fitted on the training cells.

    Independent components are a rotation of the whitened principal components.
    """
    import scanpy as sc

    n_most = min(len(data.train), len(data.genes))
    if n_dims >= n_most:
        msg = f"{method} of {n_dims} components needs more than {n_dims} training cells and genes, but there are {n_most}."
        raise ValueError(msg)
    adata = AnnData(sparse.csr_matrix(data.counts, dtype=np.float64, copy=True))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    # arpack takes sparse matrices and centers them on the fly.
    logs: Any = adata.X
    pca = PCA(n_dims, svd_solver="arpack", random_state=seed).fit(logs[data.train])
    components = pca.transform(logs)
    if method == "pca":
        return components
    ica = FastICA(n_dims, whiten="unit-variance", random_state=seed, max_iter=1000)
    return ica.fit(components[data.train]).transform(components)


def _score_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the scores; columns that the models know as classes are classes for the baselines, too."""
    arguments = dict(settings["score_kwargs"])
    classes = class_columns({**settings["setup"], "labels_key": arguments.pop("labels_key")})
    return {**arguments, "categorical": [*classes, *as_list(arguments.get("categorical"))]}


def _integration(adata: AnnData, settings: Mapping[str, Any], seed: int) -> list[pd.DataFrame]:
    """Scores of cell types and batches, if either is known."""
    keys = settings["score_kwargs"]["labels_key"], settings["setup"]["batch_key"]
    return [] if keys == (None, None) else [tl.score_integration(adata, *keys, seed=seed)]


def _model_file(model: BetaVAE) -> bytes:
    """The file that ``BetaVAE.load`` reads, without the cells."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model.save(str(path))
        return (path / "model.pt").read_bytes()
