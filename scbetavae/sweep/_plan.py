"""Which runs a sweep is made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scbetavae import module
from scbetavae._core.checks import as_list, check_choice, check_number, check_whole_number

BASELINES = ("pca", "ica")
_BASELINE_SEED = 0


@dataclass(frozen=True)
class Run:
    """One training, or one baseline."""

    method: str
    """Objective, or name of the baseline."""
    beta: float | None
    """``None`` for a baseline and for an objective without beta."""
    seed: int

    @property
    def is_baseline(self) -> bool:
        """Whether nothing is trained."""
        return self.method in BASELINES

    @property
    def name(self) -> str:
        """Name of its folder, such as ``beta_vae-beta4-seed0``."""
        if self.is_baseline:
            return self.method
        beta = "" if self.beta is None else f"-beta{repr(self.beta).removesuffix('.0')}"
        return f"{self.method}{beta}-seed{self.seed}"

    @property
    def order(self) -> tuple[Any, ...]:
        """Place in the table: models by objective, beta and seed, then baselines."""
        known = [*module.OBJECTIVES, *BASELINES]
        place = (self.is_baseline, known.index(self.method) if self.method in known else len(known), self.method)
        return *place, -1.0 if self.beta is None else self.beta, self.seed


def plan_runs(
    objective: str | Iterable[str], betas: Iterable[float], seeds: Iterable[int], baselines: str | Iterable[str] | None
) -> list[Run]:
    """Runs in the order in which they are done: baselines, then the whole grid of one seed after that of another."""
    names = _values(objective, "objective", "('beta_tcvae',)")
    for name in names:
        check_choice(name, module.OBJECTIVES, "objective")
    baselines = as_list(baselines)
    for name in baselines:
        check_choice(name, BASELINES, "baselines")
    betas = [check_number(beta, "betas", 0) for beta in _values(betas, "betas", "(1, 2, 4)")]
    seeds = [check_whole_number(seed, "seeds", 0, 2**32 - 1) for seed in _values(seeds, "seeds", "(0, 1, 2)")]
    runs = [Run(name, None, _BASELINE_SEED) for name in baselines]
    runs += [
        Run(name, beta, seed)
        for seed in seeds
        for name in names
        for beta in (betas if module.OBJECTIVES[name].uses_beta else (None,))
    ]
    return list(dict.fromkeys(runs))


def _values(values: Any, argument: str, example: str) -> list[Any]:
    """Several values, or one name; refused if there are none."""
    values = [values] if isinstance(values, str) and argument == "objective" else values
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        msg = f"{argument}={values!r} is not a sequence. Pass several values, such as {example}."
        raise TypeError(msg)
    values = list(values)
    if not values:
        msg = f"{argument} is empty. Pass at least one value, such as {example}."
        raise ValueError(msg)
    return values
