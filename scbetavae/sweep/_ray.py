"""Runs as tasks of a Ray cluster."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from scbetavae.sweep._data import SweepData
from scbetavae.sweep._plan import Run
from scbetavae.sweep._results import RunResult
from scbetavae.sweep._run import execute_elsewhere, registered

RAY_ARGUMENTS = ("address", "num_cpus", "num_gpus", "max_retries")


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
            task: Any = ray.remote(**options)(execute_elsewhere)
            shared = [ray.put(part) for part in (registered(), data, dict(settings), save_models)]
            # All at once, so that an autoscaling cluster sees the demand; results wait in the object store.
            for run in runs:
                named = task.options(name=f"scbetavae {run.name}")
                pending[named.remote(run, *shared)] = run
            while pending:
                (reference,), _ = ray.wait(list(pending), num_returns=1)
                run = pending.pop(reference)
                try:
                    result = ray.get(reference)
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
