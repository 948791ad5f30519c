"""Cells per second of encoding, ours and scVI's: ``python benchmarks/inference_speed.py``.

Both models have the same architecture and were trained for an epoch on the same counts; they take turns, and the medians of the
rounds are compared. Prints a JSON line.
"""

import argparse
import json
import logging
import time
import warnings

import numpy as np
import torch
from train_speed import MAIN_CASE, make_counts, model_of


def main() -> None:
    """Encode in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    adata = make_counts(MAIN_CASE["n_cells"], MAIN_CASE["n_genes"], MAIN_CASE["density"])
    models = {name: model_of(name, adata.copy(), n_latent=10) for name in ("ours", "scvi")}
    for model in models.values():
        model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    speeds: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(options.rounds + 1):
        for name, model in models.items():
            started = time.perf_counter()
            model.get_latent_representation()
            if round_:  # the first is a warm-up
                speeds[name].append(adata.n_obs / (time.perf_counter() - started))
    median = {name: float(np.median(values)) for name, values in speeds.items()}
    row = {f"{name}_cells_per_second": round(value) for name, value in median.items()}
    print(
        json.dumps({"threads": options.threads} | row | {"ours_over_scvi": round(median["ours"] / median["scvi"], 2)})
    )


if __name__ == "__main__":
    main()
