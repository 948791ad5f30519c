"""Factors of a simulation: effect sizes, classes, and how they depend on one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from graphlib import CycleError, TopologicalSorter

import numpy as np

from scbetavae._core.checks import check_choice, check_number

FACTORS = ("cell_type", "condition", "phase", "gradient", "batch", "library_size")

CLASSES = {"condition": ["control", "treated"], "phase": ["G1", "S", "G2M"]}
_PHASE_PROPORTIONS = (0.5, 0.25, 0.25)


@dataclass(frozen=True)
class FactorEffects:
    r"""Effect sizes of the factors of :func:`simulate_counts`.

    An effect of :math:`s` is a standard deviation of :math:`s` (natural log) of expected expression, over the genes of the
    factor's program and over cells in which its values are equally frequent. Log fold changes of treated against control have
    a standard deviation of :math:`2 s`; those between two cell types or batches, :math:`\sqrt{2}\, s`.

    Parameters
    ----------
    cell_type, condition, phase, gradient, batch
        Effect on the genes of the program, 0 (none) to 10.
    library_size
        Spread of the log library size in units of that of real cells, 0 (all cells equally deep) to 10.
    program_size
        Share of all genes in each of the five programs, above 0 and at most 1.
    program_overlap
        Share of each program that all five have in common, 0 to 1. ``program_size * (5 - 4 * program_overlap)`` is at most 1.

    A value that is not a number, or out of range, is a ValueError.

    Examples
    --------
    >>> from scbetavae.datasets import FactorEffects
    >>> FactorEffects(condition=1.0).condition
    1.0
    """

    cell_type: float = 1.0
    condition: float = 0.5
    phase: float = 0.5
    gradient: float = 0.5
    batch: float = 0.5
    library_size: float = 1.0
    program_size: float = 0.2
    program_overlap: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            high = 1.0 if field.name.startswith("program_") else 10.0
            excluded = "low" if field.name == "program_size" else ""
            value = check_number(getattr(self, field.name), field.name, 0.0, high, open_=excluded)
            object.__setattr__(self, field.name, value)
        # Slack for products such as 0.2 * 5, which need not be exactly 1 in floating point.
        if self.program_size * (5 - 4 * self.program_overlap) > 1 + 1e-9:
            msg = (
                f"Five programs of program_size={self.program_size:g} with program_overlap={self.program_overlap:g} need more "
                f"genes than there are. Use a program_size of at most {1 / (5 - 4 * self.program_overlap):.4g}, or more overlap."
            )
            raise ValueError(msg)


def check_proportions(
    proportions: Mapping[str, Sequence[float]] | None, n_classes: Mapping[str, int], n_cells: int
) -> dict[str, np.ndarray]:
    """Proportions of the classes of each factor in ``n_classes``: as given, otherwise the defaults."""
    _check_mapping(proportions, "proportions", "{'cell_type': [0.7, 0.3]}")
    checked = {name: np.full(number, 1 / number) for name, number in n_classes.items()}
    checked["phase"] = np.array(_PHASE_PROPORTIONS)
    for name, given in (proportions or {}).items():
        check_choice(name, n_classes, "proportions: factor")
        checked[name] = _check_shares(name, given, n_classes[name])
    for name, shares in checked.items():
        if n_cells * shares.min() < 1 - 1e-9:
            msg = (
                f"n_cells={n_cells} leaves the smallest class of {name!r} (a share of {shares.min():.3g}) with less "
                f"than one cell. Pass at least {int(np.ceil(1 / shares.min()))} cells, or other proportions."
            )
            raise ValueError(msg)
    return checked


def _check_mapping(given: object, argument: str, example: str) -> None:
    """Refuse an argument that is neither ``None`` nor a mapping."""
    if given is not None and not isinstance(given, Mapping):
        msg = f"{argument}={given!r} is not a dict. Pass one such as {example}."
        raise TypeError(msg)


def _check_shares(name: str, given: Sequence[float], number: int) -> np.ndarray:
    """Shares of the classes of one factor, positive and with a sum of 1."""
    try:
        shares = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        shares = np.array(np.nan)
    if shares.shape != (number,):
        argument = {"cell_type": "n_cell_types", "batch": "n_batches"}.get(name)
        hint = f" Or change {argument}." if argument else ""
        msg = f"proportions[{name!r}]={given!r} does not fit: pass {number} numbers, one per class.{hint}"
        raise ValueError(msg)
    if not (np.isfinite(shares).all() and shares.min() > 0) or abs(shares.sum() - 1) > 1e-6:
        msg = (
            f"proportions[{name!r}]={given!r} has a sum of {shares.sum():.6g}: pass finite numbers above 0 that sum to 1. "
            "Divide them by their sum."
        )
        raise ValueError(msg)
    return shares / shares.sum()


def check_confounding(confounding: Mapping[tuple[str, str], float] | None) -> dict[str, tuple[str, float]]:
    """For each factor that follows another, which one and with what probability; parents come first."""
    _check_mapping(confounding, "confounding", "{('cell_type', 'batch'): 0.8}")
    followed: dict[str, tuple[str, float]] = {}
    for pair, value in (confounding or {}).items():
        if not (isinstance(pair, tuple) and len(pair) == 2):
            msg = f"confounding has the key {pair!r}. Pass pairs such as ('cell_type', 'batch')."
            raise ValueError(msg)
        for name in pair:
            check_choice(name, FACTORS, "confounding: factor")
        first, second = pair
        probability = check_number(value, f"confounding[{pair!r}]", 0.0, 1.0)
        if first == second:
            msg = f"confounding[{pair!r}] pairs a factor with itself. Name two different factors."
            raise ValueError(msg)
        if second in followed:
            msg = (
                f"{second!r} cannot follow both {followed[second][0]!r} and {first!r}. "
                "Remove one of the pairs, or chain them: {('a', 'b'): ..., ('b', 'c'): ...}."
            )
            raise ValueError(msg)
        followed[second] = (first, probability)
    # Parents come first.
    try:
        order = TopologicalSorter({name: [parent] for name, (parent, _) in followed.items()}).static_order()
        return {name: followed[name] for name in order if name in followed}
    except CycleError as error:
        msg = f"confounding is circular: {' -> '.join(error.args[1])}. Remove one pair of it."
        raise ValueError(msg) from error


def draw_ranks(
    n_cells: int, followed: Mapping[str, tuple[str, float]], seed: np.random.SeedSequence
) -> dict[str, np.ndarray]:
    """Draw the rank of each cell in each factor, a number in (0, 1); every factor has the same set of ranks.

    A factor that follows another takes over its ranks in cells chosen with the given probability; the remaining ranks
    are assigned to the other cells at random. So confounding changes no factor's own distribution.
    """
    streams = map(np.random.default_rng, seed.spawn(len(FACTORS)))
    generators: dict[str, np.random.Generator] = dict(zip(FACTORS, streams, strict=True))
    even = (np.arange(n_cells) + 0.5) / n_cells
    ranks = {name: rng.permutation(even) for name, rng in generators.items() if name not in followed}
    for name, (parent, probability) in followed.items():
        rng = generators[name]
        free = rng.random(n_cells) >= probability
        ranks[name] = ranks[parent].copy()
        ranks[name][free] = rng.permutation(ranks[name][free])
    return ranks
