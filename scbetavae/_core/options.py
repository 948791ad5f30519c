"""Further settings that several functions take as ``**options``, and their defaults: `checks.read_options` refuses any other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict


class Resampling(TypedDict, total=False):
    """Settings of scores and predictions."""

    n_permutations: int
    """Permutations behind null and p-values, at least 0."""
    n_bootstrap: int
    """Bootstrap replicates behind the intervals, at least 0."""
    seed: int
    """Seed of all resampling."""


class SearchOptions(TypedDict, total=False):
    """Settings of a search for batch dimensions."""

    n_permutations: int
    """Permutations within strata behind the removal of bias and the p-values, at least 10."""
    fdr: float
    """False discovery rate of the test for batch over dimensions, in (0, 1)."""
    seed: int
    """Seed of halves, permutations and folds."""


class RemovalOptions(TypedDict, total=False):
    """Settings of the removal of batch dimensions and of its report."""

    categorical: str | Iterable[str] | None
    """Conserved columns whose numbers are names of classes."""
    method: str
    """Method of the search, where no dimensions are given."""
    donor_key: str | None
    """Column of ``.obs`` with the donor of every cell."""
    n_bootstrap: int
    """Replicates behind the intervals of the report, at least 0."""
    seed: int
    """Seed of everything that is drawn."""


class CounterfactualOptions(TypedDict, total=False):
    """Settings of a counterfactual prediction."""

    add_to_observed: bool
    """Whether the change is applied to the observed counts."""
    seed: int
    """Seed of drawn counts and split halves."""
    key_added: str
    """Name of the results."""


class TraversalOptions(TypedDict, total=False):
    """Settings of a traversal."""

    n_anchors: int
    """Cells to draw, at most."""
    seed: int
    """Seed of their draw."""
    key_added: str
    """Name of the result in ``.uns["betavae"]``."""


SCORING: dict[str, Any] = {"n_permutations": 100, "n_bootstrap": 100, "seed": 0}
PREDICTION: dict[str, Any] = {"n_permutations": 200, "n_bootstrap": 100, "seed": 0}
SEARCH: dict[str, Any] = {"n_permutations": 100, "fdr": 0.05, "seed": 0}
REMOVAL: dict[str, Any] = {"categorical": None, "method": "stepwise", "donor_key": None, "n_bootstrap": 200, "seed": 0}
