"""The factors of a simulation: what each cell is, and how the factors depend on one another."""

from collections.abc import Mapping, Sequence

import numpy as np

from scbetavae.datasets._checks import check_name, check_real

FACTORS = ("cell_type", "condition", "phase", "gradient", "batch", "library_size")

PHASES = ("G1", "S", "G2M")
CONDITIONS = ("control", "treated")
_PHASE_PROPORTIONS = (0.5, 0.25, 0.25)


def check_proportions(
    proportions: Mapping[str, Sequence[float]] | None, n_classes: Mapping[str, int], n_cells: int
) -> dict[str, np.ndarray]:
    """Return the proportions of the classes of each factor in ``n_classes``: as given, otherwise the defaults."""
    if proportions is not None and not isinstance(proportions, Mapping):
        msg = f"proportions must be a dict such as {{'cell_type': [0.7, 0.3]}}, got {proportions!r}."
        raise TypeError(msg)
    checked = {name: np.full(number, 1 / number) for name, number in n_classes.items()}
    checked["phase"] = np.array(_PHASE_PROPORTIONS)
    for name, given in (proportions or {}).items():
        check_name("factor with classes", name, n_classes)
        checked[name] = _check_shares(name, given, n_classes[name])
    for name, shares in checked.items():
        if n_cells * shares.min() < 1 - 1e-9:
            msg = (
                f"n_cells={n_cells} leaves the smallest class of {name!r} (a share of {shares.min():.3g}) with less "
                f"than one cell. Take at least {int(np.ceil(1 / shares.min()))} cells, or other proportions."
            )
            raise ValueError(msg)
    return checked


def _check_shares(name: str, given: Sequence[float], number: int) -> np.ndarray:
    try:
        shares = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        shares = np.array(np.nan)
    if shares.shape != (number,):
        argument = {"cell_type": "n_cell_types", "batch": "n_batches"}.get(name)
        hint = f" Or set {argument} to another number." if argument else ""
        msg = f"proportions[{name!r}] must be {number} numbers, one a class, got {given!r}.{hint}"
        raise ValueError(msg)
    if not (np.isfinite(shares).all() and shares.min() > 0):
        msg = f"proportions[{name!r}] must be finite and above 0, got {given!r}."
        raise ValueError(msg)
    if abs(shares.sum() - 1) > 1e-6:
        msg = f"proportions[{name!r}] must sum to 1, got a sum of {shares.sum():.6g}. Divide them by their sum."
        raise ValueError(msg)
    return shares / shares.sum()


def check_confounding(confounding: Mapping[tuple[str, str], float] | None) -> dict[str, tuple[str, float]]:
    """Return, for each factor that follows another, which one and with what probability; parents come first."""
    if confounding is None:
        return {}
    if not isinstance(confounding, Mapping):
        msg = f"confounding must be a dict such as {{('cell_type', 'batch'): 0.8}}, got {confounding!r}."
        raise TypeError(msg)
    followed: dict[str, tuple[str, float]] = {}
    for pair, value in confounding.items():
        if not (isinstance(pair, tuple) and len(pair) == 2):
            msg = f"Each key of confounding must be a pair such as ('cell_type', 'batch'), got {pair!r}."
            raise ValueError(msg)
        first, second = (check_name("factor", name, FACTORS) for name in pair)
        probability = check_real(f"confounding[{pair!r}]", value, low=0.0, high=1.0)
        if first == second:
            msg = f"confounding[{pair!r}] pairs a factor with itself. Name two different factors."
            raise ValueError(msg)
        if second in followed:
            msg = (
                f"{second!r} is to follow both {followed[second][0]!r} and {first!r}, but can follow one only. "
                "Remove one of the pairs, or chain them: {('a', 'b'): ..., ('b', 'c'): ...}."
            )
            raise ValueError(msg)
        followed[second] = (first, probability)
    return _parents_first(followed)


def _parents_first(followed: dict[str, tuple[str, float]]) -> dict[str, tuple[str, float]]:
    ordered: dict[str, tuple[str, float]] = {}
    for name in followed:
        chain = [name]
        while chain[-1] in followed and chain[-1] not in ordered:
            parent = followed[chain[-1]][0]
            if parent in chain:
                msg = (
                    f"confounding runs in a circle: {' -> '.join([*reversed(chain), chain[0]])}. Remove one pair of it."
                )
                raise ValueError(msg)
            chain.append(parent)
        ordered.update({link: followed[link] for link in reversed(chain) if link in followed})
    return ordered


def draw_ranks(
    n_cells: int, followed: Mapping[str, tuple[str, float]], seed: np.random.SeedSequence
) -> dict[str, np.ndarray]:
    """Draw the rank of each cell in each factor, a number in (0, 1); every factor takes the same set of ranks.

    A factor that follows another takes over its ranks in cells chosen with the given probability; the remaining ranks
    are dealt at random to the remaining cells. Hence confounding changes no factor's own distribution.
    """
    generators = dict(zip(FACTORS, map(np.random.default_rng, seed.spawn(len(FACTORS))), strict=True))
    even = (np.arange(n_cells) + 0.5) / n_cells
    ranks = {name: rng.permutation(even) for name, rng in generators.items() if name not in followed}
    for name, (parent, probability) in followed.items():
        rng = generators[name]
        free = rng.random(n_cells) >= probability
        ranks[name] = ranks[parent].copy()
        ranks[name][free] = rng.permutation(ranks[name][free])
    return ranks


def classes_of(ranks: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the class codes of ranks: the first class takes the lowest ranks, and so on."""
    return np.searchsorted(np.cumsum(shares)[:-1], ranks, side="right")
