"""The sweep: a grid of models, trained, scored and kept."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch
from scvi.model import SCVI
from scvi.train import Trainer
from scvi.utils import track

from scbetavae._core.columns import class_columns
from scbetavae.model import BetaVAE
from scbetavae.sweep._data import SweepData, read_data, setup_arguments, split_cells
from scbetavae.sweep._engines import Engine, make_engine
from scbetavae.sweep._isolation import isolated
from scbetavae.sweep._plain import to_plain
from scbetavae.sweep._plan import Run, plan_runs
from scbetavae.sweep._progress import ProgressReport, SweepProgress
from scbetavae.sweep._store import SweepStore
from scbetavae.sweep._table import table_of
from scbetavae.tl import score_disentanglement
from scbetavae.tl._inputs import check_key, read_columns
from scbetavae.tl._scoring import resolve_names

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_SET_BY_SWEEP = {
    "model_kwargs": {
        "adata": "adata",
        "registry": "adata",
        "beta": "betas",
        "objective": "objectives",
    },
    "train_kwargs": dict.fromkeys(
        ("train_size", "validation_size", "shuffle_set_split", "datamodule"), "held_out: all runs share one split"
    )
    | {"key_added": "nothing"},
    "score_kwargs": {"covariates": "covariates", "donor_key": "donor_key", "seed": "seeds"}
    | dict.fromkeys(("adata", "obsm_key", "key_added", "active", "kl", "variances"), "nothing"),
}
_QUICK_SCORES = {"n_permutations": 20, "n_bootstrap": 0}
_BATCH_SIZE = 128


def beta_sweep(  # noqa: PLR0913 - independent choices, each with a default
    adata: AnnData,
    betas: Iterable[float] = (1, 2, 4, 10),
    *,
    covariates: str | Iterable[str],
    out_dir: str | Path,
    objectives: str | Iterable[str] = ("beta_tcvae",),
    seeds: Iterable[int] = (0, 1, 2),
    donor_key: str | None = None,
    labels_key: str | None = None,
    held_out: float = 0.1,
    baselines: str | Iterable[str] | None = ("pca", "ica"),
    model_kwargs: Mapping[str, Any] | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    score_kwargs: Mapping[str, Any] | None = None,
    engine: str = "local",
    engine_kwargs: Mapping[str, Any] | None = None,
    n_jobs: int = 1,
    num_threads: int = 1,
    save_models: bool = False,
    progress: bool | Callable[[SweepProgress], object] = True,
) -> pd.DataFrame:
    """Train a model for every objective, beta and seed, score them all alike, and keep every finished run.

    Each run is written to ``out_dir`` as soon as it ends. Called again, the sweep trains only what is missing: after it was
    killed, and with more betas, objectives or seeds. A run that fails becomes a row with its error, and is tried again at the
    next call. Cells, held-out cells and threads are the same for all runs, so that a run depends on its setting and seed
    alone, wherever it is done. The random state of the calling process is left as it was.

    Parameters
    ----------
    adata
        Cells on which ``BetaVAE.setup_anndata`` was called. Nothing in them is changed.
    betas
        Weights of the regularizer, at least 0. ``"beta_tcvae"`` weighs total correlation by ``beta - 1``, so a beta below 1 asks
        for more of it. Objectives without beta are trained once a seed.
    covariates
        Columns of ``.obs`` that dimensions are scored against.
    out_dir
        Folder of the sweep: a new one, or one that a sweep of these cells and settings made.
    objectives
        Objectives of :class:`~scbetavae.model.BetaVAE`.
    seeds
        Seeds of training and scoring.
    donor_key
        Column of ``.obs`` with the donor of every cell, as in :func:`scbetavae.tl.score_disentanglement`.
    labels_key
        Column of ``.obs`` with the type of every cell; that of the set-up unless given.
    held_out
        Fraction of the cells that no run trains on, between 0 and 1.
    baselines
        ``"pca"`` and ``"ica"`` of log-normalized counts, with as many components as the models have dimensions, fitted on
        the training cells; ``None`` for none.
    model_kwargs
        Arguments of :class:`~scbetavae.model.BetaVAE` for all models, such as ``{"n_latent": 20}``.
    train_kwargs
        Arguments of :meth:`scbetavae.model.BetaVAE.train` for all models, such as ``{"max_steps": 1000}``; by default they
        train as long as a single model would. Early stopping looks at the held-out cells, whose likelihood is then no
        longer that of cells never looked at.
    score_kwargs
        Arguments of :func:`scbetavae.tl.score_disentanglement`; by default 20 permutations and no bootstrap, as seeds give
        the interval.
    engine
        ``"local"``, or ``"ray"`` for a Ray cluster.
    engine_kwargs
        For Ray: ``address``, ``num_cpus`` and ``num_gpus`` of a run, and ``max_retries`` of a run whose process died. A
        connection that is there is used.
    n_jobs
        Processes of the local engine; with 1 the runs are done in this one.
    num_threads
        Threads of a run. The last digits of the numbers depend on it.
    save_models
        Whether the trained models are kept as well.
    progress
        Whether to show a bar; or a function that is called with a :class:`SweepProgress` whenever a run ends.

    Returns
    -------
    Tidy DataFrame of every run in the folder, a row per run and metric (a single one for a run that failed):

    ``run``, ``kind``, ``method``, ``beta``, ``seed``
        Name of the run's folder; ``"model"`` or ``"baseline"``; objective or baseline; NaN where there is no beta.
    ``metric``, ``covariate``, ``level``, ``value``
        On held-out cells, in nats per cell: ``nll`` (mean over ten draws from the posterior), ``kl``, ``negative_elbo``
        (their sum); ``active_dimensions`` (KL above 0.01 nats) and ``collapsed`` (1 with fewer than two of them). On all
        cells: the scores of :func:`scbetavae.tl.score_disentanglement` and :func:`scbetavae.tl.score_integration`, and
        over the seeds of the setting ``agreement``, how well the active dimensions of a run agree with those of the others,
        and ``udr`` (:func:`scbetavae.tl.consensus_dimensions`). Cost: ``seconds`` of training,
        ``scoring_seconds``, ``steps``, ``epochs``, ``peak_memory`` and, on a GPU, ``peak_gpu_memory`` (MiB, of the process
        that did the run).
    ``null``, ``p_value``, ``ceiling``, ``normalized``, ``ci_low``, ``ci_high``, ``n_cells``, ``n_classes``, ``flag``
        As in :func:`scbetavae.tl.score_disentanglement`; NaN and empty for what has none.
    ``status``, ``error``
        ``"done"``, or ``"failed"`` with the error.

    The same table is in ``out_dir/sweep.csv``, and every run in a folder of its own in ``out_dir/runs``, with its parameters,
    package versions, codes and history.

    Raises
    ------
    ValueError
        If ``adata`` is a view or was not set up, a value is not allowed, or the folder holds a sweep of other cells or settings
        (the difference is named).
    KeyError
        If a column of ``.obs`` is not there, with the nearest that is.
    TypeError
        For an argument of model, training, scores or engine that does not exist, or that cannot be written down.
    FileExistsError
        If the folder holds something that is no sweep.
    ModuleNotFoundError
        If Ray is asked for and not installed.

    See Also
    --------
    recommend_beta : which setting to take.
    read_sweep : the table of a sweep that was made before.
    scbetavae.pl.beta_sweep, scbetavae.pl.tradeoff : pictures.

    References
    ----------
    :cite:p:`Higgins2017,Duan2020`

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)[:, ::4].copy()
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
    >>> table = scbetavae.sweep.beta_sweep(
    ...     adata,
    ...     betas=(1, 4),
    ...     seeds=(0,),
    ...     covariates=["batch", "phase"],
    ...     out_dir="sweep",
    ...     model_kwargs={"n_latent": 4},
    ...     train_kwargs={"max_epochs": 2, "accelerator": "cpu"},
    ...     score_kwargs={"metrics": "mig"},
    ...     progress=False,
    ... )
    >>> sorted(table["run"].unique())
    ['beta_tcvae-beta1-seed0', 'beta_tcvae-beta4-seed0', 'ica', 'pca']
    """
    runs = plan_runs(objectives, betas, seeds, baselines)
    runner = make_engine(engine, n_jobs, num_threads, engine_kwargs)
    setup = setup_arguments(adata)
    covariates = [covariates] if isinstance(covariates, str) else list(covariates)
    labels_key = setup["labels_key"] if labels_key is None else labels_key
    registered = class_columns({**setup, "labels_key": labels_key})
    categorical = (score_kwargs or {}).get("categorical")
    read_columns(adata, covariates, donor_key, categorical=categorical, registered=registered)
    if labels_key is not None:
        check_key(labels_key, list(adata.obs.columns), "labels_key", "adata.obs")
    if isinstance(held_out, bool) or not isinstance(held_out, int | float) or not 0 < held_out < 1:
        msg = f"held_out={held_out!r} is not a fraction of the cells between 0 and 1, such as 0.1."
        raise ValueError(msg)
    columns = [name for name in (*covariates, donor_key, labels_key) if name is not None]
    data = read_data(adata, setup, columns)
    settings = {
        "setup": dict(data.setup),
        "covariates": covariates,
        "donor_key": donor_key,
        "labels_key": labels_key,
        "held_out": float(held_out),
        "model_kwargs": _arguments("model_kwargs", model_kwargs, None),
        "train_kwargs": _arguments("train_kwargs", train_kwargs, _train_arguments()),
        "score_kwargs": _QUICK_SCORES
        | _arguments("score_kwargs", score_kwargs, set(signature(score_disentanglement).parameters)),
        "num_threads": num_threads,
    }
    resolve_names(settings["score_kwargs"].get("metrics"), with_variances=True)
    plain = {name: to_plain(value, name) for name, value in settings.items()}
    split = split_cells(data.n_cells, held_out, settings["train_kwargs"].get("batch_size") or _BATCH_SIZE)
    _check_models(data, runs, settings)
    store = SweepStore(Path(out_dir))
    described = {"n_cells": data.n_cells, "n_genes": len(data.genes), **data.fingerprint()}
    store.check(plain, described)
    train, tested = store.begin(plain, described, split)
    data = SweepData(data.counts, data.obs, data.genes, data.encoder_input, data.setup, train, tested)
    _do(store, runner, data, runs, settings, save_models=save_models, progress=progress)
    table = table_of(store)
    store.write_table(table)
    return table


def _do(
    store: SweepStore,
    engine: Engine,
    data: SweepData,
    runs: list[Run],
    settings: Mapping[str, Any],
    *,
    save_models: bool,
    progress: bool | Callable[[SweepProgress], object],
) -> None:
    """Do the runs that are missing, and write each as it ends."""
    failed = store.finished()
    missing = [run for run in runs if failed.get(run.name, True)]
    report = ProgressReport(len(runs), len(runs) - len(missing), engine.slots, progress)
    report.start(sum(not run.is_baseline for run in missing))
    if not missing:
        return
    results = engine.results(data, missing, settings, save_models=save_models)
    shown = track(results, description="Sweep", disable=progress is not True, total=len(missing))
    for run, result in shown:
        store.write(run, result)
        report.ended(run, result)


def _arguments(name: str, given: Mapping[str, Any] | None, allowed: set[str] | None) -> dict[str, Any]:
    """Arguments that are handed on, without those that are the sweep's own."""
    if given is not None and not isinstance(given, Mapping):
        msg = f"{name} is a {type(given).__name__}. Give a mapping from names of arguments to values."
        raise TypeError(msg)
    given = dict(given or {})
    for argument in given:
        instead = _SET_BY_SWEEP[name].get(argument)
        if instead is not None:
            msg = f"{name} has {argument!r}, which the sweep sets itself. Use {instead}."
            raise ValueError(msg)
        if allowed is not None and argument not in allowed:
            nearest = difflib.get_close_matches(argument, allowed, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            msg = f"{name} has {argument!r}, which is no argument there.{hint}"
            raise TypeError(msg)
    return given


def _train_arguments() -> set[str]:
    """Every argument that training takes, scvi-tools' and Lightning's included."""
    takers = (BetaVAE.train, SCVI.train, Trainer.__init__, lightning.pytorch.Trainer.__init__)
    names = {name for taker in takers for name in signature(taker).parameters}
    return names - {"self", "kwargs", "trainer_kwargs"}


def _check_models(data: SweepData, runs: list[Run], settings: Mapping[str, Any]) -> None:
    """Build every kind of model once, so that a mistake in its arguments, or in the counts, shows now."""
    with isolated(0, settings["num_threads"]):
        cells = data  # the first looks at all counts; for the arguments of the others few will do
        for method, beta in dict.fromkeys((run.method, run.beta) for run in runs if not run.is_baseline):
            adata = cells.to_adata()
            arguments = {} if beta is None else {"beta": beta}
            model = BetaVAE(adata, objective=method, **arguments, **settings["model_kwargs"])
            model.deregister_manager(adata)
            cells = data.first_cells(4)
