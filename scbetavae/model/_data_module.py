"""A model without AnnData, whose network is built when it is trained on a data module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi.data import AnnDataManager
from scvi.model import SCVI

if TYPE_CHECKING:
    from ._betavae import BetaVAE


def allow_no_data(self: BetaVAE) -> Any:
    """Let a model be constructed without data, which scvi-tools allows to classes of a certain name; its class until now."""
    own = type(self)
    self._adata = self._adata_manager = None
    self.__class__ = type(SCVI.__name__, (own,), {})
    return own


def build_module(self: BetaVAE, datamodule: Any) -> None:
    """Build the network, unless there is one, of a model without data, for the data module that it is trained on.

    A ValueError if there is none, or if it does not say how many genes and batches it has. With the registry of the data module,
    if there is one, the trained model can be saved.
    """
    if self.module is not None:
        return
    if datamodule is None:
        msg = (
            "This model was constructed without data. Pass train(datamodule=...), or construct it anew: BetaVAE(adata)."
        )
        raise ValueError(msg)
    missing = [name for name in ("n_vars", "n_batch") if not hasattr(datamodule, name)]
    if missing:
        msg = f"The datamodule has no {' and no '.join(missing)}, so the network cannot be built. Set them on the datamodule."
        raise ValueError(msg)
    registry = getattr(datamodule, "registry", None)
    if registry is None:
        registry = getattr(getattr(datamodule, "adata_manager", None), "registry", None)
    if registry is not None:
        self.registry_ = registry
        self.summary_stats = AnnDataManager._get_summary_stats_from_registry(registry)
    self.module = self._module_cls(
        datamodule.n_vars,
        n_batch=datamodule.n_batch,
        n_labels=getattr(datamodule, "n_labels", 1),
        n_continuous_cov=getattr(datamodule, "n_continuous_cov", 0),
        n_cats_per_cov=getattr(datamodule, "n_cats_per_cov", None),
        **self._module_kwargs,
    )
