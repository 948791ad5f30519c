"""Speed of the fused negative binomial loss against scvi-tools' distribution: forward and backward, one JSON line per case.

Run ``python benchmarks/likelihood_speed.py``. The ways take turns within a round, so that a busy machine slows all of
them. Medians over rounds are in milliseconds, with their ratio; so are the shortest times, which are more reliable on a
shared machine. ``--profile`` lists the operators of one case.

Ways: ``scvi`` composes softmax, library size and ``NegativeBinomial.log_prob``; ``fused`` takes the non-zero structure
that a data path of sparse rows has at hand; ``fused_dense`` takes dense counts and finds the structure itself;
``fused_inference`` computes no gradient and is compared with ``scvi_inference``; ``scvi_by_cell`` and ``fused_by_cell``
have an inverse dispersion for each entry, as with ``dispersion="gene-batch"``.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable

import torch
from scvi.distributions import NegativeBinomial

from scbetavae.module import fused_negative_binomial_loss
from scbetavae.module._likelihood import NonzeroStructure, nonzero_structure

COMPARED = {
    "fused": "scvi",
    "fused_dense": "scvi",
    "fused_inference": "scvi_inference",
    "fused_by_cell": "scvi_by_cell",
}


def make_minibatch(n_cells: int, n_genes: int, density: float, device: str) -> dict[str, torch.Tensor]:
    """Logits, inverse dispersions and counts whose non-zeros are mostly ones and twos, a few of them large."""
    generator = torch.Generator().manual_seed(0)
    nonzero = torch.rand(n_cells, n_genes, generator=generator) < density
    rate = torch.empty(n_cells, n_genes).exponential_(1.0, generator=generator).pow_(2)
    counts = torch.where(nonzero, 1 + torch.poisson(rate, generator=generator), 0.0)
    counts[:, 0] += 1  # no cell is empty
    minibatch = {
        "logits": torch.randn(n_cells, n_genes, generator=generator).requires_grad_(),
        "log_theta": torch.randn(n_genes, generator=generator).requires_grad_(),
        "counts": counts,
        "log_library": counts.sum(1, keepdim=True).log(),
    }
    return {name: value.detach().to(device).requires_grad_(value.requires_grad) for name, value in minibatch.items()}


def make_ways(minibatch: dict[str, torch.Tensor]) -> dict[str, Callable[[], object]]:
    """The functions to time, each from the same tensors."""
    logits, log_theta, counts, log_library = minibatch.values()
    structure = nonzero_structure(counts)
    log_theta_by_cell = log_theta.detach().expand_as(logits).contiguous().requires_grad_()

    def composed(log_theta: torch.Tensor) -> torch.Tensor:
        rate = torch.exp(log_library) * torch.softmax(logits, -1)
        return -NegativeBinomial(mu=rate, theta=torch.exp(log_theta)).log_prob(counts).sum(-1)

    def fused(log_theta: torch.Tensor, counts: torch.Tensor | NonzeroStructure = structure) -> torch.Tensor:
        return fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts)

    def step(loss: Callable[..., torch.Tensor], *arguments: object) -> None:
        logits.grad = log_theta.grad = log_theta_by_cell.grad = None
        loss(*arguments).mean().backward()

    return {
        "scvi": lambda: step(composed, log_theta),
        "fused": lambda: step(fused, log_theta),
        "fused_dense": lambda: step(fused, log_theta, counts),
        "scvi_inference": torch.no_grad()(lambda: composed(log_theta)),
        "fused_inference": torch.no_grad()(lambda: fused(log_theta)),
        "scvi_by_cell": lambda: step(composed, log_theta_by_cell),
        "fused_by_cell": lambda: step(fused, log_theta_by_cell),
    }


def time_ways(ways: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of each way in interleaved rounds, after one round that does not count."""
    times = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if device != "cpu":
                torch.cuda.synchronize()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: values[1:] for name, values in times.items()}


def measure(n_cells: int, n_genes: int, density: float, options: argparse.Namespace) -> dict[str, object]:
    """One case as a flat record."""
    ways = make_ways(make_minibatch(n_cells, n_genes, density, options.device))
    rounds = max(5, options.rounds * 256_000 // (n_cells * n_genes))
    times = time_ways(ways, rounds, options.device)
    record = {
        "benchmark": "likelihood_speed",
        "n_cells": n_cells,
        "n_genes": n_genes,
        "density": density,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": rounds,
    }
    for what, summary in (("median", statistics.median), ("shortest", min)):
        milliseconds = {name: summary(values) for name, values in times.items()}
        record[f"{what}_ms"] = {name: round(value, 3) for name, value in milliseconds.items()}
        record[f"speedup_{what}"] = {
            ours: round(milliseconds[theirs] / milliseconds[ours], 2) for ours, theirs in COMPARED.items()
        }
    return record


def profile(n_cells: int, n_genes: int, density: float, device: str) -> str:
    """Operators of the fused step, by their own time."""
    way = make_ways(make_minibatch(n_cells, n_genes, density, device))["fused"]
    way()
    with torch.profiler.profile() as recorded:
        for _ in range(20):
            way()
    return recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=40)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--genes", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--density", type=float, nargs="+", default=[0.03, 0.08, 0.2])
    parser.add_argument(
        "--rounds", type=int, default=40, help="rounds at 128 cells x 2000 genes; fewer, at least 5, above"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true", help="list the operators of the first case instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = list(itertools.product(options.cells, options.genes, options.density))
    if options.profile:
        print(profile(*cases[0], options.device))
        return
    for case in cases:
        print(json.dumps(measure(*case, options)), flush=True)


if __name__ == "__main__":
    main()
