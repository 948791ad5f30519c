"""Speed of the scores against loops over scikit-learn: ``OMP_NUM_THREADS=1 python benchmarks/score_speed.py``.

Prints one JSON line per measurement: seconds of wall clock and of processor (compare the second on a busy machine), the
target if there is one, and for the loops the difference between their values and ours. ``--cells 10000`` is a
quick look.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import mutual_info_score

from scbetavae import metrics
from scbetavae.metrics._binning import default_bin_count

CLASSES = (30, 20, 8, 4, 2)
INFORMATION = ("mig", "sap", "modularity", "class_alignment")


def planted(n_cells: int, n_dims: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Noise, with one covariate in each of the first dimensions."""
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(n_cells, n_dims))
    columns = {}
    for dimension, n_classes in enumerate(CLASSES):
        label = rng.choice(n_classes, n_cells, p=rng.dirichlet(np.full(n_classes, 3.0)))
        codes[:, dimension] += 0.8 * label
        columns[f"{n_classes} classes"] = pd.Categorical(label.astype(str))
    return codes, pd.DataFrame(columns)


def loop_over_scikit_learn(codes: np.ndarray, factors: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Information matrix, and LMS, MSAS, MSGS of every covariate, one ``mutual_info_score`` at a time."""
    n_cells, n_dims = codes.shape
    n_bins = default_bin_count(n_cells)
    bins = [((rankdata(codes[:, j]) - 0.5) * n_bins / n_cells).astype(int) for j in range(n_dims)]
    matrix = np.zeros((n_dims, factors.shape[1]))
    alignments = []
    for k, name in enumerate(factors):
        label = factors[name].cat.codes.to_numpy()
        classes = np.unique(label) if label.max() > 1 else [1]
        similarity = np.zeros((n_dims, len(classes)))
        for j in range(n_dims):
            matrix[j, k] = mutual_info_score(bins[j], label)
            for column, c in enumerate(classes):
                member = label == c
                share = member.mean()
                entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
                similarity[j, column] = mutual_info_score(bins[j], member) / entropy
        result = metrics.class_alignment_from_similarity(np.maximum(similarity, 0.0))
        alignments.append([result.lms, result.msas, result.msgs])
    return matrix, np.array(alignments)


def tables(codes: np.ndarray, factors: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The same values from our contingency tables."""
    matrix = metrics.mutual_information_matrix(codes, factors, correction=None)
    return matrix.to_numpy(), metrics.class_alignment(codes, factors, correction=None).to_numpy()


def measure(what: str, function: Callable, target: float | None = None, **facts: float) -> tuple[object, float]:
    """Run once, print a line, return the result and the processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    result = function()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    line = {"what": what, "wall_seconds": round(wall, 3), "processor_seconds": round(processor, 3)}
    print(json.dumps(line | ({} if target is None else {"target_seconds": target}) | facts), flush=True)
    return result, processor


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-loop", action="store_true", help="leave the loops out: they take a minute or more")
    arguments = parser.parse_args()
    codes, factors = planted(arguments.cells, arguments.dims, arguments.seed)
    size = {"cells": arguments.cells, "dims": arguments.dims, "covariates": len(CLASSES)}
    # Load lazy imports, and warm up.
    metrics.score_frame(codes[:500], factors[:500], n_permutations=1, n_bootstrap=2)

    def score(names: tuple[str, ...], **options: int) -> pd.DataFrame:
        return metrics.score_frame(codes, factors, metrics=names, seed=arguments.seed, **options)

    _, alone = measure(
        "value and ceiling: " + ", ".join(INFORMATION),
        lambda: score(INFORMATION, n_permutations=0, n_bootstrap=0),
        target=2.0,
        **size,
    )
    _, full = measure("the same with null and bootstrap (100 each)", lambda: score(INFORMATION), target=7.0, **size)
    print(
        json.dumps(
            {"what": "null and bootstrap alone", "processor_seconds": round(full - alone, 3), "target_seconds": 5.0}
        )
    )
    measure("DCI on 10 000 sampled cells, with null and ceiling", lambda: score(("dci",)), target=30.0, **size)
    ours, quick = measure("information matrix and class level: tables", lambda: tables(codes, factors), **size)
    if not arguments.no_loop:
        theirs, slow = measure(
            "information matrix and class level: loops", lambda: loop_over_scikit_learn(codes, factors), **size
        )
        difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
        print(
            json.dumps(
                {
                    "what": "loops over tables",
                    "ratio": round(slow / quick, 1),
                    "target_ratio": 30,
                    "largest_difference": difference,
                }
            )
        )


if __name__ == "__main__":
    main()
