"""The sweep: a grid of models, trained, scored and kept."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from scvi.utils import track

from scbetavae import metrics
from scbetavae._core.checks import as_list, check_keys
from scbetavae._core.columns import class_columns, scored_columns
from scbetavae.model import BetaVAE
from scbetavae.sweep._data import SweepData, read_data, setup_arguments, split_cells
from scbetavae.sweep._engines import make_engine
from scbetavae.sweep._isolation import isolated
from scbetavae.sweep._options import ProgressReport, SweepOptions, check_options
from scbetavae.sweep._plan import Run, plan_runs
from scbetavae.sweep._results import to_plain
from scbetavae.sweep._store import SweepStore, table_of

_BATCH_SIZE = 128


def beta_sweep(
    adata: AnnData,
    betas: Iterable[float] = (1, 2, 4, 10),
    *,
    covariates: str | Iterable[str],
    out_dir: str | Path,
    objective: str | Iterable[str] = "beta_tcvae",
    seeds: Iterable[int] = (0, 1, 2),
    n_jobs: int = 1,
    options: SweepOptions | None = None,
) -> pd.DataFrame:
    """Train a model for every objective, beta and seed, score all alike, and keep every run :cite:p:`Higgins2017,Duan2020`.

    Each run is written to ``out_dir`` when it ends. The same call again trains only what is missing: after an interruption, and
    with more betas, objectives or seeds. A run that fails becomes a row with its error, and the next call repeats it. Cells,
    held-out cells and threads are the same for all runs, so that a run depends on its setting and seed alone.

    Parameters
    ----------
    adata
        Cells on which ``BetaVAE.setup_anndata`` was called. They are not changed.
    betas, seeds
        Weights of the regularizer, at least 0: ``"beta_tcvae"`` weighs total correlation by ``beta - 1``, so start at 1. Seeds of
        training and scoring. An objective without beta is trained once per seed.
    covariates
        Columns of ``.obs`` that the dimensions are scored against.
    out_dir
        Folder of the sweep: a new one, or one of a sweep with these cells and settings.
    objective
        One or several registered objectives (``scbetavae.module.OBJECTIVES``), also your own.
    n_jobs
        Processes of this machine; with 1 the runs are done in this process. Other processes receive your registered
        objectives and scores with each run; what a class imports must be importable there.
    options
        Arguments of models, training and scores, baselines, Ray, threads, progress: :class:`SweepOptions`.

    Returns
    -------
    Tidy DataFrame of every run in the folder, one row per run and metric (one row for a run that failed):

    ``run``, ``kind``, ``method``, ``beta``, ``seed``
        Name of the run's folder; ``"model"`` or ``"baseline"``; objective or baseline; NaN where there is no beta.
    ``metric``, ``covariate``, ``level``, ``value``
        On held-out cells, in nats per cell: ``nll`` (mean over ten draws from the posterior), ``kl``, ``negative_elbo`` (their
        sum); ``active_dimensions`` (KL above 0.01 nats) and ``collapsed`` (1 with fewer than two of them). On all cells: the
        scores of :func:`scbetavae.tl.score_disentanglement` and :func:`scbetavae.tl.score_integration`, and over the seeds of
        the setting ``agreement`` of the active dimensions and ``udr``. Cost: ``seconds`` of training, ``scoring_seconds``,
        ``steps``, ``epochs``, ``peak_memory`` and, on a GPU, ``peak_gpu_memory`` (MiB, of the process that did the run).
    ``null``, ``p_value``, ``ceiling``, ``normalized``, ``ci_low``, ``ci_high``, ``n_cells``, ``n_classes``, ``flag``
        As in :func:`scbetavae.tl.score_disentanglement`; NaN or empty where there is none.
    ``status``, ``error``
        ``"done"``, or ``"failed"`` with the error.

    The same table is in ``out_dir/sweep.csv`` (:func:`read_sweep`), and every run in ``out_dir/runs``, with its parameters,
    package versions, embedding and history. :func:`recommend_beta` and :func:`scbetavae.pl.beta_sweep` take it.

    Raises
    ------
    KeyError, TypeError, ValueError
        If ``adata`` is a view or was not set up; if a column, an argument or a value does not exist, is not allowed or cannot be
        stored; if the folder holds a sweep of other cells or settings (the message names the difference).
    FileExistsError, ModuleNotFoundError
        If the folder holds something other than a sweep; if Ray is requested and not installed.

    Examples
    --------
    >>> import scbetavae
    >>> from scbetavae.sweep import SweepOptions, beta_sweep
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)[:, ::4].copy()
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
    >>> train = {"max_epochs": 2, "accelerator": "cpu"}
    >>> quick = SweepOptions({"n_latent": 4}, train, score_kwargs={"metrics": "mig"}, progress=False)
    >>> table = beta_sweep(adata, (1, 4), seeds=(0,), covariates=["batch", "phase"], out_dir="sweep", options=quick)
    >>> sorted(table["run"].unique())
    ['beta_tcvae-beta1-seed0', 'beta_tcvae-beta4-seed0', 'ica', 'pca']
    """
    setup = setup_arguments(adata)
    options, arguments = check_options(options, setup["labels_key"])
    runs = plan_runs(objective, betas, seeds, options.baselines)
    engine = make_engine(n_jobs, options.num_threads, options.ray)
    settings = {"setup": setup, "covariates": as_list(covariates), **arguments}
    data = _checked_data(adata, settings)
    settings["setup"] = dict(data.setup)
    plain = to_plain(settings)
    training = settings["train_kwargs"]
    split = split_cells(data.n_cells, training["train_size"], training.get("batch_size") or _BATCH_SIZE)
    _check_models(data, runs, settings)
    store = SweepStore(Path(out_dir))
    store.check(plain, data.fingerprint())
    train, held_out = store.begin(plain, data.fingerprint(), split)
    data = replace(data, train=train, held_out=held_out)

    failed = store.finished()
    missing = [run for run in runs if failed.get(run.name, True)]
    report = ProgressReport(len(runs), missing, engine.slots, options.progress)
    results = engine.results(data, missing, settings, save_models=options.save_models) if missing else ()
    for run, result in track(results, description="Sweep", disable=options.progress is not True, total=len(missing)):
        store.write(run, result)
        report.ended(run, result)
        del result
    table = table_of(store)
    store.write_table(table)
    return table


def _checked_data(adata: AnnData, settings: Mapping[str, Any]) -> SweepData:
    """What the runs read of the cells, after the checks of all columns that are scored."""
    setup, scoring = settings["setup"], settings["score_kwargs"]
    labels_key, donor_key, confounder = (scoring.get(name) for name in ("labels_key", "donor_key", "confounder"))
    check_keys({"labels_key": labels_key}, adata.obs.columns, "adata.obs")
    registered = class_columns({**setup, "labels_key": labels_key})
    classes = {"categorical": scoring.get("categorical"), "registered": registered}
    metrics.covariate_association(scored_columns(adata, settings["covariates"], donor_key, confounder, **classes))
    return read_data(adata, setup, [*settings["covariates"], labels_key, donor_key, confounder])


def _check_models(data: SweepData, runs: list[Run], settings: Mapping[str, Any]) -> None:
    """Build every kind of model once, so that a mistake in its arguments, or in the counts, shows before the first run."""
    with isolated(0, settings["num_threads"]):
        cells = data  # the first sees all counts; for the arguments of the others a few cells suffice
        for method, beta in dict.fromkeys((run.method, run.beta) for run in runs if not run.is_baseline):
            adata = cells.to_adata()
            arguments = {} if beta is None else {"beta": beta}
            model = BetaVAE(adata, objective=method, **arguments, **settings["model_kwargs"])
            model.deregister_manager(adata)
            if "guided_keys" not in data.setup:  # whose levels need their cells
                cells = data.first_cells(4)
