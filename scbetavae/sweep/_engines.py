"""Where runs are done: in processes of this machine through joblib, of which one is this process, or on a Ray cluster."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from inspect import signature
from typing import Any, cast

from scbetavae._core.checks import check_arguments, check_whole_number
from scbetavae.sweep._data import SweepData
from scbetavae.sweep._plan import Run
from scbetavae.sweep._results import RunResult
from scbetavae.sweep._run import execute, registered

_DEATHS = 2  # of its process, until a run counts as failed
_DEATH = "the process died, for example because memory ran out. Fewer n_jobs need less memory."


class Local:
    """Processes of this machine. They share the counts, and a run whose process dies is done again."""

    def __init__(self, n_jobs: int, num_threads: int) -> None:
        self._n_jobs, self._num_threads = n_jobs, num_threads

    def slots(self) -> int:
        """Runs that fit at the same time."""
        return self._n_jobs

    def results(
        self, data: SweepData, runs: Sequence[Run], settings: Mapping[str, Any], *, save_models: bool
    ) -> Iterator[tuple[Run, RunResult]]:
        """Yield every run with its result as it ends, and hold no result longer than that."""
        left, deaths = list(runs), dict.fromkeys(runs, 0)
        while left:
            started: list[Run] = []
            try:
                for run, result in self._parallel(data, left, started, settings, save_models):
                    left.remove(run)
                    started.remove(run)
                    yield run, result
                    del result
            except BrokenProcessPool as error:
                death = RuntimeError(_DEATH)
                death.__cause__ = error
                for run in started:
                    deaths[run] += 1
                    if deaths[run] == _DEATHS:
                        left.remove(run)
                        yield run, RunResult.of_error(death)

    def _parallel(
        self, data: SweepData, runs: list[Run], started: list[Run], settings: Mapping[str, Any], save_models: bool
    ) -> Iterator[tuple[Run, RunResult]]:
        """Results of joblib in the order in which runs end; ``started`` has the runs that were given to a process."""
        from joblib import Parallel, delayed, parallel_config
        from joblib.externals.loky import get_reusable_executor

        common = registered(), data, settings, save_models

        def tasks() -> Iterator[Any]:
            for run in list(runs):
                started.append(run)
                yield delayed(execute)(run, *common)

        backend = {"backend": "loky", "inner_max_num_threads": self._num_threads} if self._n_jobs > 1 else {}
        with parallel_config(**backend):
            # No more tasks than processes, so that finished results do not pile up.
            pool = Parallel(
                self._n_jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=cast("Any", 1)
            )
            try:
                yield from cast("Iterator[tuple[Run, RunResult]]", pool(tasks()))
            finally:
                if self._n_jobs > 1:  # idle processes would hold memory for minutes
                    get_reusable_executor().shutdown(wait=True)


class OnRay:
    """A Ray task per run. The data lie in Ray's object store once, and the processes of a node share them.

    ``address`` is the cluster; ``None`` takes an existing connection, otherwise the variable ``RAY_ADDRESS``, otherwise starts
    Ray on this machine for the sweep. ``num_cpus`` and ``num_gpus``, also fractions, are what a run takes of a node, and
    ``max_retries`` how often a run is repeated whose process or node died.
    """

    def __init__(
        self, *, address: str | None = None, num_cpus: float = 1, num_gpus: float = 0, max_retries: int = 3
    ) -> None:
        if find_spec("ray") is None:
            msg = 'A sweep on Ray needs the package ray: install it with `pip install "scbetavae[ray]"`.'
            raise ModuleNotFoundError(msg)
        self._address = address
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._max_retries = max_retries

    def slots(self) -> int:
        """Runs that fit at the same time, as far as is known."""
        import ray

        if not ray.is_initialized():
            return 1
        total, kinds = ray.cluster_resources(), (("num_cpus", "CPU"), ("num_gpus", "GPU"))
        needs = {kind: self._resources[name] for name, kind in kinds if self._resources[name]}
        return int(min((total.get(kind, 0.0) // need for kind, need in needs.items()), default=1))

    def results(
        self, data: SweepData, runs: Sequence[Run], settings: Mapping[str, Any], *, save_models: bool
    ) -> Iterator[tuple[Run, RunResult]]:
        """Yield every run with its result as it ends. Ray repeats a run whose process dies."""
        import ray
        from ray.exceptions import RayError

        started_here = not ray.is_initialized()
        if started_here:
            ray.init(address=self._address, log_to_driver=False)
        pending: dict[Any, Run] = {}
        try:
            options: Any = {"max_retries": self._max_retries, **self._resources}
            task: Any = ray.remote(**options)(execute)
            shared = [ray.put(part) for part in (registered(), data, dict(settings), save_models)]
            # All at once, so that an autoscaling cluster sees the demand; results wait in the object store.
            for run in runs:
                named = task.options(name=f"scbetavae {run.name}")
                pending[named.remote(run, *shared)] = run
            while pending:
                (reference,), _ = ray.wait(list(pending), num_returns=1)
                run = pending.pop(reference)
                try:
                    _, result = ray.get(reference)
                except RayError as error:
                    result = RunResult.of_error(error)
                del reference  # the object store may forget it
                yield run, result
                del result
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
            if started_here:
                ray.shutdown()


def make_engine(n_jobs: int, num_threads: int, ray: Mapping[str, Any] | None) -> Local | OnRay:
    """The engine with these arguments, as in :func:`scbetavae.sweep.beta_sweep`."""
    check_whole_number(num_threads, "num_threads", 1)
    n_jobs = check_whole_number(n_jobs, "n_jobs", 1)
    if ray is None:
        return Local(n_jobs, num_threads)
    check_arguments(ray, signature(OnRay).parameters, "ray")
    if n_jobs != 1:
        msg = f"n_jobs={n_jobs} is for processes of this machine. On Ray, num_cpus determines how many runs fit a node."
        raise ValueError(msg)
    return OnRay(**{"num_cpus": num_threads, **ray})
