"""Disentangled latent representations of single-cell counts.

The sub-packages load when they are first used: ``import scbetavae`` alone loads neither torch nor matplotlib.
"""

from importlib import import_module as _import_module
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # editors and type checkers see what is loaded lazily
    from scbetavae import datasets, metrics, model, module, pl, report, sweep, tl, train

__all__ = ["datasets", "metrics", "model", "module", "pl", "report", "sweep", "tl", "train"]

try:
    __version__ = _version("scbetavae")
except _PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> _ModuleType:
    if name in __all__:
        return _import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
