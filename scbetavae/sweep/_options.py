"""Options of a sweep, the arguments that it passes on, and its progress."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import lightning.pytorch
from scvi.model import SCVI
from scvi.train import Trainer

from scbetavae import metrics
from scbetavae._core.checks import as_list, check_arguments, check_number
from scbetavae._core.options import SCORING
from scbetavae.model import BetaVAE
from scbetavae.sweep._plan import Run
from scbetavae.sweep._results import RunResult
from scbetavae.tl import score_disentanglement

_logger = logging.getLogger(__name__)

_TRAIN_SIZE = "train_size: all runs share one split"
_SET_BY_SWEEP = {
    "model_kwargs": {"adata": "adata", "registry": "adata", "beta": "betas", "objective": "objective"},
    "train_kwargs": {"key_added": "nothing"}
    | dict.fromkeys(("validation_size", "shuffle_set_split", "datamodule"), _TRAIN_SIZE),
    "score_kwargs": {"covariates": "covariates", "seed": "seeds"},
}
_QUICK_SCORES = {"n_permutations": 20, "n_bootstrap": 0, "donor_key": None}


@dataclass(frozen=True)
class SweepProgress:
    """Progress of a sweep, passed to the function in ``SweepOptions(progress=...)`` at the start and when a run ends.

    Attributes
    ----------
    total, kept
        Runs that were requested, and of them those that an earlier call finished.
    done, failed, running
        Runs that ended in this call, and those running now, as far as the workers have room.
    seconds_left
        Estimated seconds for the others; ``nan`` before the first model is trained.
    latest
        Name of the run that ended last; empty at the start.
    """

    total: int
    kept: int
    done: int
    failed: int
    running: int
    seconds_left: float
    latest: str = ""

    def __str__(self) -> str:
        text = f"{self.kept + self.done} of {self.total} runs done, {self.running} running, {self.failed} failed"
        if self.seconds_left != self.seconds_left or not self.running:
            return text
        minutes, seconds = divmod(round(self.seconds_left), 60)
        return f"{text}, about {f'{minutes} min' if minutes else f'{seconds} s'} left"


@dataclass(frozen=True)
class SweepOptions:
    """Options of :func:`beta_sweep`: arguments of all models, trainings and scores, and how runs are done.

    Parameters
    ----------
    model_kwargs
        Arguments of :class:`~scbetavae.model.BetaVAE`, such as ``{"n_latent": 20}``.
    train_kwargs
        Arguments of :meth:`scbetavae.model.BetaVAE.train`, such as ``{"max_steps": 1000}``. All runs share the
        ``train_size`` (0.9 by default) and hold out the same cells. Early stopping looks at the held-out cells.
    score_kwargs
        Arguments of :func:`scbetavae.tl.score_disentanglement`, such as ``{"donor_key": "donor"}``; by default 20 permutations
        and no bootstrap, as seeds give the interval. ``"labels_key"`` is the cell type of
        :func:`scbetavae.tl.score_integration`, by default that of ``setup_anndata``.
    baselines
        ``"pca"`` and ``"ica"`` of log-normalized counts, with as many components as the models have dimensions, fitted on the
        training cells; ``None`` for none.
    ray
        Arguments that make the runs tasks of a Ray cluster: ``address``, ``num_cpus`` and ``num_gpus`` of a run, and
        ``max_retries`` of a run whose process died; ``{}`` for the defaults. An existing connection is used.
    num_threads
        Threads of a run, at least 1. The last digits of the numbers depend on it.
    save_models
        Whether the trained models are kept.
    progress
        Whether to show a bar; or a function that is called with a :class:`SweepProgress` when a run ends.

    Examples
    --------
    >>> from scbetavae.sweep import SweepOptions
    >>> SweepOptions(model_kwargs={"n_latent": 20}, train_kwargs={"max_steps": 1000}).baselines
    ('pca', 'ica')
    """

    model_kwargs: Mapping[str, Any] | None = None
    train_kwargs: Mapping[str, Any] | None = None
    score_kwargs: Mapping[str, Any] | None = None
    baselines: str | Iterable[str] | None = ("pca", "ica")
    ray: Mapping[str, Any] | None = None
    num_threads: int = 1
    save_models: bool = False
    progress: bool | Callable[[SweepProgress], object] = True


def check_options(options: SweepOptions | None, labels_key: str | None) -> tuple[SweepOptions, dict[str, Any]]:
    """The options, and the arguments of all runs with their defaults; refused where one does not exist."""
    options = SweepOptions() if options is None else options
    if not isinstance(options, SweepOptions):
        msg = f"options is a {type(options).__name__}. Pass scbetavae.sweep.SweepOptions(...)."
        raise TypeError(msg)
    scores = ["labels_key", *signature(score_disentanglement).parameters, *SCORING]
    scores.remove("options")
    training = {"train_size": 0.9} | _arguments("train_kwargs", options.train_kwargs, _train_arguments())
    scoring = _QUICK_SCORES | {"labels_key": labels_key} | _arguments("score_kwargs", options.score_kwargs, scores)
    check_number(training["train_size"], "train_size", 0, 1, open_="both")
    named = [name for name in as_list(scoring.get("metrics")) if name != "gaussian_total_correlation"]
    if named:
        metrics.score_names(named)  # refuses what is not a score
    arguments = {"model_kwargs": _arguments("model_kwargs", options.model_kwargs, None), "train_kwargs": training}
    return options, arguments | {"score_kwargs": scoring, "num_threads": options.num_threads}


def _arguments(name: str, given: Mapping[str, Any] | None, allowed: Iterable[str] | None) -> dict[str, Any]:
    """Arguments to pass on, without those that the sweep sets itself; ``None`` as ``allowed`` leaves the check to the taker."""
    if given is not None and not isinstance(given, Mapping):
        msg = f"{name} is a {type(given).__name__}. Pass a mapping from names of arguments to values."
        raise TypeError(msg)
    given = dict(given or {})
    for argument in given:
        instead = _SET_BY_SWEEP[name].get(argument)
        if instead is not None:
            msg = f"{name} has {argument!r}, which the sweep sets itself. Use {instead}."
            raise ValueError(msg)
    if allowed is not None:
        check_arguments(given, allowed, name)
    return given


def _train_arguments() -> list[str]:
    """Every argument of training, including those of scvi-tools and Lightning."""
    takers = (BetaVAE.train, SCVI.train, Trainer.__init__, lightning.pytorch.Trainer.__init__)
    names = dict.fromkeys(name for taker in takers for name in signature(taker).parameters)
    return [name for name in names if name not in ("self", "kwargs", "trainer_kwargs")]


class ProgressReport:
    """Counts runs, logs each, and calls the user's function; ``slots`` returns how many runs fit at the same time."""

    def __init__(
        self, total: int, missing: list[Run], slots: Callable[[], int], progress: bool | Callable[..., object]
    ) -> None:
        self._counts = {"total": total, "kept": total - len(missing), "done": 0, "failed": 0}
        self._models, self._trained = sum(not run.is_baseline for run in missing), 0
        self._slots, self._report = slots, progress if callable(progress) else None
        self._started = time.monotonic()
        self._emit("")

    def ended(self, run: Run, result: RunResult) -> None:
        """Report that a run ended."""
        self._counts["failed" if result.failed else "done"] += 1
        if result.failed:
            _logger.warning("Run %s failed; the next call repeats it: %s", run.name, result.error)
        self._trained += not run.is_baseline
        self._emit(run.name)

    def _emit(self, latest: str) -> None:
        """Log the state and pass it on."""
        left = 2 * self._counts["total"] - sum(self._counts.values())
        # Baselines take next to nothing and would make the rest look short.
        per_model = (time.monotonic() - self._started) / self._trained if self._trained else float("nan")
        seconds = per_model * (self._models - self._trained) if left else 0.0
        state = SweepProgress(**self._counts, running=min(left, self._slots()), seconds_left=seconds, latest=latest)
        _logger.info("%s%s", f"{latest}: " if latest else "", state)
        if self._report is not None:
            self._report(state)
