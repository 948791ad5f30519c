"""Dimension cards and the HTML report, where the command calls them.

To merge: ``tl.describe_dimensions`` and ``scbetavae.report`` are written elsewhere. Until both are there, no card and no page is
made; once they are, import them at the top and drop the look-ups.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scbetavae import tl

if TYPE_CHECKING:
    from anndata import AnnData

CARDS = "dimensions"
"""Name of the table of cards: an entry of ``.uns["betavae"]``, and a file."""


def cards_are_there() -> bool:
    """Whether this version makes dimension cards."""
    return hasattr(tl, "describe_dimensions")


def describe(adata: AnnData, gene_symbols: str | None) -> None:
    """One card per dimension, written to ``.uns["betavae"]``."""
    function = getattr(tl, "describe_dimensions")  # noqa: B009 - to merge: tl.describe_dimensions
    function(adata, **symbols_for(function, gene_symbols))


def page_is_there() -> bool:
    """Whether this version writes the HTML report."""
    return find_spec("scbetavae.report") is not None


def page_writer() -> Callable[[AnnData, Path], object]:
    """``scbetavae.report.write_report``, a ModuleNotFoundError if this version has none."""
    if not page_is_there():
        msg = "This version of scbetavae writes no report: install a newer one."
        raise ModuleNotFoundError(msg)
    return import_module("scbetavae.report").write_report


def symbols_for(function: Callable[..., Any], gene_symbols: str | None) -> dict[str, Any]:
    """The argument ``gene_symbols``, for a function that takes it."""
    takes = gene_symbols is not None and "gene_symbols" in signature(function).parameters
    return {"gene_symbols": gene_symbols} if takes else {}
