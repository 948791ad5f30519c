"""Peak memory of a traversal: ``python benchmarks/traversal_memory.py --genes 30000 --dims 64``.

A separate process makes counts and a model, traverses every dimension, and reports its peak resident memory, including imports,
data, model and the returned frame. The model trains for one epoch on few cells, because memory does not depend on the
weights. Prints a JSON line.
"""

import argparse
import json
import logging
import time
import warnings

import anndata
import numpy as np
import torch
from peak_memory import PeakMemory
from scipy import sparse

import scbetavae


def main() -> None:
    """Traverse and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genes", type=int, default=30_000)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--cells", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--anchors", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    memory = PeakMemory()
    for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    counts = sparse.random(options.cells, options.genes, density=0.05, format="csr", dtype=np.float32, rng=rng)
    counts.data = 1.0 + rng.poisson(1.0, len(counts.data)).astype(np.float32)
    adata = anndata.AnnData(counts)
    scbetavae.model.BetaVAE.setup_anndata(adata)
    model = scbetavae.model.BetaVAE(adata, n_latent=options.dims, anchor=None)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    before = memory.mib()
    started = time.perf_counter()
    frame = model.traverse(range(options.dims), n_steps=options.steps, n_anchors=options.anchors)
    seconds = time.perf_counter() - started
    after_steps = memory.mib()
    ranked = scbetavae.tl.rank_dimension_genes(frame, in_range_only=False)
    row = {
        "n_genes": options.genes,
        "n_dims": options.dims,
        "n_steps": options.steps,
        "n_anchors": options.anchors,
        "rows": len(frame),
        "frame_mib": round(frame.memory_usage().sum() / 2**20),
        "ranked_rows": len(ranked),
        "peak_before_mib": round(before),
        "peak_mib": round(after_steps),
        "peak_with_ranking_mib": round(memory.mib()),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
