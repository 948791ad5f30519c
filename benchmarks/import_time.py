"""Time of ``import scbetavae`` and of ``import scvi``: medians over interleaved new interpreters.

Run ``python benchmarks/import_time.py``; prints one line of JSON, times in seconds. The target is under half a second
for ``import scbetavae``. A first round that does not count warms compiled files and the disk cache. Times
exclude the start of the interpreter.
"""

import argparse
import json
import statistics
import subprocess
import sys

PACKAGES = ("scbetavae", "scvi")


def import_seconds(package: str) -> float:
    """Seconds that the import of a package takes in a new interpreter."""
    code = f"import time; start = time.perf_counter(); import {package}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each package (default 5)")
    runs = parser.parse_args().runs

    seconds: dict[str, list[float]] = {package: [] for package in PACKAGES}
    for run in range(runs + 1):
        for package in PACKAGES:
            taken = import_seconds(package)
            if run > 0:
                seconds[package].append(taken)
    medians = {package: round(statistics.median(taken), 4) for package, taken in seconds.items()}
    print(json.dumps({"benchmark": "import_time", "unit": "seconds", "runs": runs, "median": medians}))


if __name__ == "__main__":
    main()
