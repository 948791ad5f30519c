"""Killed, spread over processes or over a Ray cluster: the numbers are those of one quiet process."""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import scbetavae
from scbetavae.sweep import read_sweep

TOY = Path(__file__).with_name("toy_sweep.py")
beta_sweep = runpy.run_path(str(TOY))["sweep"]
PACKAGE = Path(scbetavae.__file__).parents[1]
PATIENCE = 300  # seconds; a busy machine starts processes slowly

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'scbetavae[ray]'")
# Ray warns of its own daemons, which it leaves to the system to collect.
rays_warnings = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::FutureWarning:ray"
)


def processes():
    """Parent, title and id of every process of this machine."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                yield parent, (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(), int(folder.name)
            except (OSError, ValueError):  # it ended meanwhile
                continue


def descends(pid, ancestor):
    while pid > 1 and pid != ancestor:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == ancestor


def start(folder):
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, str(TOY), str(folder)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_in_the_middle_of_a_run_it_goes_on_to_the_same_table(whole, tmp_path, assert_same):
    folder, runs = tmp_path / "killed", tmp_path / "killed" / "runs"
    process = start(folder)
    deadline = time.monotonic() + PATIENCE
    # Two baselines and one model are finished: the next model is under way.
    while not (runs / "beta_vae-beta0.5-seed0").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in runs.glob("[!.]*/*")}
    n_finished = len(list(runs.glob("[!.]*")))
    assert 3 <= n_finished < 6, "it was killed too late to tell anything"
    (runs / f".pca.{os.uname().nodename}.{process.pid}.partial").mkdir()  # as if it had been writing
    process = start(folder)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert_same(read_sweep(folder), whole[1])
    assert finished.items() <= {path: path.stat().st_mtime_ns for path in runs.glob("*/*")}.items()
    assert not list(runs.glob(".*"))


def test_processes_give_the_same_numbers(whole, cells, quick, tmp_path, assert_same):
    assert_same(beta_sweep(cells, out_dir=tmp_path / "two", n_jobs=2, **quick), whole[1])


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the process in /proc")
def test_a_process_that_dies_is_replaced(whole, cells, quick, tmp_path, assert_same):
    def kill_once():
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for parent, title, pid in processes():
                if parent == os.getpid() and "LokyProcess" in title:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    return
            time.sleep(0.01)

    killed = []
    killer = threading.Thread(target=kill_once)
    killer.start()
    table = beta_sweep(cells, out_dir=tmp_path / "two", n_jobs=2, **quick)
    killer.join()
    assert killed
    assert_same(table, whole[1])


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of this machine with room for two runs at a time."""
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Workers find the copy of the package that is under test.
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    environment = {"env_vars": {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}}
    for attempt in range(5):
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=100 * 2**20,
                runtime_env=environment,
            )
            break
        except Exception as error:  # Ray gives its daemons 30 s, which a busy machine may not make
            ray.shutdown()
            if attempt == 4 or "timed out" not in str(error):
                raise
    yield ray
    ray.shutdown()


def kill_a_run(killed, ancestor, at):
    """End the process of a run whose title holds ``at``, once it trains."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for _, title, pid in processes():
            if title.startswith("ray::") and at in title and descends(pid, ancestor):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
        time.sleep(0.002)


@needs_ray
@rays_warnings
def test_ray_gives_the_same_numbers_and_survives_a_killed_worker(cluster, whole, cells, quick, tmp_path, assert_same):
    killed = []
    killer = threading.Thread(target=kill_a_run, args=(killed, os.getpid(), "beta_vae-beta4-seed0"))
    killer.start()
    table = beta_sweep(cells, out_dir=tmp_path / "ray", ray={}, **quick)
    killer.join()
    assert killed, "no worker was killed, so nothing was survived"
    assert cluster.is_initialized()  # a connection of the user's stays
    assert_same(table, whole[1])


@needs_ray
@rays_warnings
def test_ray_without_retries_writes_the_failure_and_goes_on(cluster, cells, quick, tmp_path):
    killed = []
    killer = threading.Thread(target=kill_a_run, args=(killed, os.getpid(), "beta_vae-beta4-seed0"))
    killer.start()
    states = []
    choice = quick | {"seeds": (0,), "progress": states.append}
    table = beta_sweep(cells, out_dir=tmp_path / "ray", ray={"max_retries": 0}, **choice)
    killer.join()
    assert killed
    failed = table[table["status"] == "failed"]
    assert failed["run"].tolist() == ["beta_vae-beta4-seed0"]
    assert "WorkerCrashedError" in failed["error"].item()
    assert states[0].running == 2
    assert (states[-1].done, states[-1].failed) == (3, 1)


@needs_ray
@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"ray": {"gpus": 1}}, TypeError, "It takes 'address', 'num_cpus', 'num_gpus', 'max_retries'"),
        ({"n_jobs": 2}, ValueError, "n_jobs=2 is for processes of this machine"),
    ],
)
def test_ray_refuses_what_it_does_not_take(cells, quick, tmp_path, kwargs, error, words):
    with pytest.raises(error, match=words):
        beta_sweep(cells, out_dir=tmp_path / "s", **{"ray": {}} | kwargs, **quick)
    assert not (tmp_path / "s").exists()


def test_without_ray_it_says_how_to_install_it(cells, quick, tmp_path, monkeypatch):
    monkeypatch.setattr("scbetavae.sweep._engines.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"scbetavae\[ray\]\""):
        beta_sweep(cells, out_dir=tmp_path / "s", ray={}, **quick)
