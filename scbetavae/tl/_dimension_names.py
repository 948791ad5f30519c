"""Names of dimensions: derived from what is known of each, or given by the user; never two alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scbetavae._core.checks import check_dimensions
from scbetavae._core.text import listed

# A name says what a dimension mostly encodes; below these it would say too much.
LEAST_INFORMATION = 0.3  # normalized information about a class or covariate,
LEAST_DIRECTION = 0.5  # and rank correlation: the class is at one end
LEAST_TECHNICAL = 0.7  # correlation with a technical covariate
CLEAR = 0.001  # adjusted p-value of a gene set that is added to the name of a covariate
_GENES = 3

Card = dict[str, Any]


def derive_names(cards: list[Card]) -> list[str]:
    """A name for each card: of its covariate or class, its technical covariate, its gene set, or its top genes."""
    plain = [_derive_name(card) for card in cards]
    names: list[str] = []
    for name, card in zip(plain, cards, strict=True):
        genes = _few(_main_genes(card))
        unique = f"{name} ({genes})" if plain.count(name) > 1 and genes and genes not in name else name
        number = 2
        while unique in names:
            unique, number = f"{name} {number}", number + 1
        names.append(unique)
    return names


def read_names(names: Mapping[Any, str] | None, labels: Iterable[str]) -> dict[int, str]:
    """Names that the user gives to dimensions, by number; ``labels`` are the current names of all dimensions."""
    labels = list(labels)
    given: dict[int, str] = {}
    for dimension, name in dict(names or {}).items():
        [number] = check_dimensions([dimension], len(labels), "names", labels)
        if not isinstance(name, str) or not name.strip():
            msg = f"names has {name!r} for dimension {number}. Pass a text that is not empty."
            raise ValueError(msg)
        given[number] = name
    twice = sorted({name for name in given.values() if list(given.values()).count(name) > 1})
    if twice:
        msg = f"names gives {listed(twice)} to several dimensions. Pass a name of its own for each."
        raise ValueError(msg)
    return given


def name_cards(cards: list[Card], given: Mapping[int, str]) -> None:
    """Set ``name`` and ``named_by`` of every card; a derived name that the user gave to another dimension gets a number."""
    for card, name in zip(cards, derive_names(cards), strict=True):
        card["named_by"] = "user" if card["dimension"] in given else "derived"
        taken = set(given.values())
        card["name"] = given.get(
            card["dimension"], f"{name} (dimension {card['dimension']})" if name in taken else name
        )


def _derive_name(card: Card) -> str:
    if card["role"] != "free":
        return str(card["role"]).removeprefix("guided:")
    gene_set, direction, members, q = card["named_after"]
    if card["covariate"] and card["information"] >= LEAST_INFORMATION and abs(card["direction"]) >= LEAST_DIRECTION:
        if card["marks_class"]:
            return str(card["class"]) if card["direction"] > 0 else f"{card['class']} (low)"
        # A factor of the whole covariate, such as batch or condition; the gene set says what it does.
        return f"{card['covariate']}: {gene_set}" if q < CLEAR else str(card["covariate"])
    if abs(card["technical_r"]) >= LEAST_TECHNICAL:
        return str(card["technical"])
    if gene_set:
        return f"{gene_set if direction == 'up' else f'{gene_set}, low'} ({_few(members)})"
    return _few(_main_genes(card)) or f"dim_{card['dimension']}"


def _main_genes(card: Card) -> list[str]:
    """Top genes of the direction in which they change more."""
    up, down = (card["top"][direction] for direction in ("up", "down"))
    strongest = {id(part): abs(part[0][1]) if part else -1.0 for part in (up, down)}
    return [gene for gene, _ in (up if strongest[id(up)] >= strongest[id(down)] else down)]


def _few(genes: list[str]) -> str:
    return ", ".join(genes[:_GENES])
