"""Lists, numbers and near matches inside sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def listed(names: Iterable[Any], most: int = 8, *, empty: str = "nothing") -> str:
    """``'a', 'b' and 3 more``."""
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return (", ".join(quoted[:most]) or empty) + more


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def did_you_mean(name: Any, known: Iterable[Any], cutoff: float = 0.5) -> str:
    """``" Did you mean 'x'?"`` for the nearest known name, upper and lower case alike; empty if none is near."""
    by_lower = {str(candidate).lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=cutoff)
    return f" Did you mean {by_lower[nearest[0]]!r}?" if nearest else ""
