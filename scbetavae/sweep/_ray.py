"""Runs as tasks of a Ray cluster."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from scbetavae.sweep._engines import Engine
from scbetavae.sweep._results import RunResult
from scbetavae.sweep._run import execute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scbetavae.sweep._data import SweepData
    from scbetavae.sweep._plan import Run

RAY_ARGUMENTS = ("address", "num_cpus", "num_gpus", "max_retries")


class OnRay(Engine):
    """Every run a Ray task; the data lie in Ray's object store once, and processes of a node share them.

    Parameters
    ----------
    address
        Cluster to connect to. ``None`` takes an existing connection, otherwise the variable ``RAY_ADDRESS``, otherwise starts
        Ray on this machine for as long as the sweep takes.
    num_cpus, num_gpus
        What a run takes of a node; fractions are allowed.
    max_retries
        How often a run is done again whose process or node died.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed.
    """

    def __init__(
        self, *, address: str | None = None, num_cpus: float = 1, num_gpus: float = 0, max_retries: int = 3
    ) -> None:
        if find_spec("ray") is None:
            msg = "engine='ray' needs the package ray: install it with `pip install \"scbetavae[ray]\"`."
            raise ModuleNotFoundError(msg)
        self._address = address
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._max_retries = max_retries

    def slots(self) -> int:
        """As many as the cluster has room for at this moment."""
        import ray

        if not ray.is_initialized():
            return 1
        total = ray.cluster_resources()
        fits = [
            total.get(key, 0.0) // self._resources[name]
            for name, key in (("num_cpus", "CPU"), ("num_gpus", "GPU"))
            if self._resources[name]
        ]
        return int(min(fits, default=1))

    def results(
        self, data: SweepData, runs: Sequence[Run], settings: Mapping[str, Any], *, save_models: bool
    ) -> Iterator[tuple[Run, RunResult]]:
        """Yield every run with its result. Ray does a run again when its process dies."""
        import ray
        from ray.exceptions import RayError

        started_here = not ray.is_initialized()
        if started_here:
            ray.init(address=self._address, log_to_driver=False)
        pending: dict[Any, Run] = {}
        try:
            task = ray.remote(max_retries=self._max_retries, **self._resources)(execute)
            shared, common = ray.put(data), ray.put(dict(settings))
            # All at once, so that a cluster that grows by itself sees what there is to do; results wait in the object store.
            for run in runs:
                options = task.options(name=f"scbetavae {run.name}")
                pending[options.remote(shared, run, common, save_model=save_models)] = run
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
