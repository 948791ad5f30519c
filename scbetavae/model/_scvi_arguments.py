"""What other models of scvi-tools may take over of a BetaVAE: the arguments and the set-up that SCVI knows."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from scvi.model import SCVI

if TYPE_CHECKING:
    from ._betavae import BetaVAE


def scvi_arguments(arguments: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Constructor arguments, as scvi-tools stores them, without those that SCVI does not have.

    ``SCANVI.from_scvi_model`` passes all arguments of the model that it is given to its own network.
    """
    known = signature(SCVI.__init__).parameters
    named = {name: value for name, value in arguments["non_kwargs"].items() if name in known}
    return {"non_kwargs": named, "kwargs": arguments["kwargs"]}


def user_attributes(self: BetaVAE) -> list[tuple[str, Any]]:
    """Attributes that ``save`` writes and ``load_query_data`` reads, with all constructor arguments."""
    attributes = dict(SCVI._get_user_attributes(self))
    return list((attributes | {"init_params_": self._arguments}).items())


def check_if_trained(self: BetaVAE, warn: bool = True, message: str | None = None) -> None:
    """Warn, or raise a RuntimeError, if the model is not trained.

    A model of scvi-tools to which this one is passed gives a message of its own. It is then refused with a ValueError what that
    model cannot hold, before it fails on the shape of the weights.
    """
    if message is None:
        SCVI._check_if_trained(self, warn)
        return
    SCVI._check_if_trained(self, warn, message)
    remedy = None
    own = sorted(_own_setup(self.registry_["setup_args"]))
    if own:
        remedy = f"it was set up with {', '.join(own)}. Set up and train another model without"
    elif not self.module.condition_on_batch and self.module.n_batch > 1:
        remedy = "its decoder is not conditioned on batch. Train BetaVAE(adata, condition_on_batch=True) and pass that"
    if remedy is not None:
        msg = f"Models of scvi-tools cannot take over the weights of this BetaVAE: {remedy}."
        raise ValueError(msg)


def _own_setup(setup_args: dict[str, Any]) -> list[str]:
    """Arguments in use of our ``setup_anndata`` that SCVI's does not have."""
    known = signature(SCVI.setup_anndata).parameters
    return [name for name, value in setup_args.items() if name not in known and value not in (None, [], {})]
