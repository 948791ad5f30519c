"""Where runs are done: in this process, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import difflib
import multiprocessing
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from scbetavae.sweep._results import RunResult
from scbetavae.sweep._run import execute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scbetavae.sweep._data import SweepData
    from scbetavae.sweep._plan import Run

ENGINES = ("local", "ray")
_DEATHS = 2
"""Processes that may die under a run before it counts as failed."""


class Engine(ABC):
    """Does runs and yields each as it ends, holding no result longer than that."""

    @abstractmethod
    def slots(self) -> int:
        """Runs that fit side by side."""

    @abstractmethod
    def results(
        self, data: SweepData, runs: Sequence[Run], settings: Mapping[str, Any], *, save_models: bool
    ) -> Iterator[tuple[Run, RunResult]]:
        """Yield every run with its result, in the order in which they end."""


class InProcess(Engine):
    """One run after the other, here."""

    def slots(self) -> int:
        """One."""
        return 1

    def results(
        self, data: SweepData, runs: Sequence[Run], settings: Mapping[str, Any], *, save_models: bool
    ) -> Iterator[tuple[Run, RunResult]]:
        """Yield every run with its result, in their order."""
        for run in runs:
            yield run, execute(data, run, settings, save_model=save_models)


class Processes(Engine):
    """Several processes of this machine, each with a copy of the data.

    Parameters
    ----------
    n_jobs
        Processes.
    """

    def __init__(self, n_jobs: int) -> None:
        self._n_jobs = n_jobs

    def slots(self) -> int:
        """As many as there are processes."""
        return self._n_jobs

    def results(
        self, data: SweepData, runs: Sequence[Run], settings: Mapping[str, Any], *, save_models: bool
    ) -> Iterator[tuple[Run, RunResult]]:
        """Yield every run with its result. When a process dies, new ones do again what was under way."""
        waiting, deaths = deque(runs), dict.fromkeys(runs, 0)
        while waiting:
            under_way: dict[Future, Run] = {}
            others = set(multiprocessing.active_children())
            pool = self._pool(data, settings, save_models)
            whole = False
            try:
                while waiting or under_way:
                    # No more than there are processes: finished results do not pile up.
                    while waiting and len(under_way) < self._n_jobs:
                        under_way[pool.submit(_work, waiting[0])] = waiting[0]
                        waiting.popleft()
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield under_way.pop(future), result
                        del future, result
                whole = True
            except BrokenProcessPool as error:
                _kill(others)
                for run in reversed(under_way.values()):
                    deaths[run] += 1
                    if deaths[run] < _DEATHS:
                        waiting.appendleft(run)
                    else:
                        yield run, RunResult.of_error(_death(error))
            finally:
                if not whole:  # interrupted, too: what is under way is not waited for
                    _kill(others)
                pool.shutdown(wait=True, cancel_futures=True)

    def _pool(self, data: SweepData, settings: Mapping[str, Any], save_models: bool) -> ProcessPoolExecutor:
        # Spawned: a forked process inherits the threads of torch and OpenMP half alive.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._n_jobs, context, _begin, (data, settings, save_models))


def _kill(spared: set) -> None:
    """Kill the processes of a pool that is given up.

    concurrent.futures ends them itself when one of them dies, but not one that it was starting at that moment, and would
    then wait for it for ever.
    """
    for process in set(multiprocessing.active_children()) - spared:
        process.kill()


_SHARED: dict[str, Any] = {}


def _begin(data: SweepData, settings: Mapping[str, Any], save_models: bool) -> None:
    """Keep in a new process what all of its runs need."""
    _SHARED.update(data=data, settings=settings, save_model=save_models)


def _work(run: Run) -> RunResult:
    return execute(_SHARED["data"], run, _SHARED["settings"], save_model=_SHARED["save_model"])


def _death(error: Exception) -> RuntimeError:
    msg = (
        "the process died, for example because memory ran out; fewer n_jobs need less. In a script, beta_sweep(n_jobs=...) "
        'has to stand under `if __name__ == "__main__":`.'
    )
    death = RuntimeError(msg)
    death.__cause__ = error
    return death


def make_engine(name: str, n_jobs: int, num_threads: int, engine_kwargs: Mapping[str, Any] | None) -> Engine:
    """The engine of that name.

    Parameters
    ----------
    name, n_jobs, num_threads, engine_kwargs
        As for :func:`scbetavae.sweep.beta_sweep`.

    Raises
    ------
    ValueError
        If there is no such engine, or a number is not allowed.
    TypeError
        For an argument that the engine does not take.
    ModuleNotFoundError
        If Ray is asked for and not installed.
    """
    for argument, value in (("n_jobs", n_jobs), ("num_threads", num_threads)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"{argument}={value!r} is not a number of {'processes' if argument == 'n_jobs' else 'threads'}: at least 1."
            raise ValueError(msg)
    kwargs = dict(engine_kwargs or {})
    if name == "local":
        _refuse_unknown(kwargs, ())
        return InProcess() if n_jobs == 1 else Processes(n_jobs)
    if name == "ray":
        from scbetavae.sweep._ray import RAY_ARGUMENTS, OnRay

        _refuse_unknown(kwargs, RAY_ARGUMENTS)
        if n_jobs != 1:
            msg = f"n_jobs={n_jobs} is for engine='local'. On Ray, num_cpus in engine_kwargs says how many runs fit a node."
            raise ValueError(msg)
        return OnRay(**{"num_cpus": num_threads, **kwargs})
    nearest = difflib.get_close_matches(str(name), ENGINES, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    msg = f"engine={name!r} is not an engine.{hint} Take one of {', '.join(ENGINES)}."
    raise ValueError(msg)


def _refuse_unknown(kwargs: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for name in kwargs:
        if name not in allowed:
            takes = f"It takes {', '.join(allowed)}." if allowed else "engine='local' takes none."
            msg = f"engine_kwargs has {name!r}, which the engine does not take. {takes}"
            raise TypeError(msg)
