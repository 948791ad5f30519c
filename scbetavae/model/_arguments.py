"""Arguments of the model that are known to be wrong before anything is built."""

from __future__ import annotations

import difflib
from inspect import signature
from typing import Any

from scvi.model import SCVI

COUNT_LIKELIHOODS = ("nb", "zinb", "poisson")
LIKELIHOODS = (*COUNT_LIKELIHOODS, "normal")


def check_arguments(model_cls: type, gene_likelihood: str, condition_on_batch: bool, kwargs: dict[str, Any]) -> None:
    """Refuse arguments that the network does not take, before it is built.

    Parameters
    ----------
    model_cls
        Class of the model.
    gene_likelihood, condition_on_batch
        Arguments of the model.
    kwargs
        Arguments that the model hands on to the network.

    Raises
    ------
    ValueError
        For a value that is not allowed.
    TypeError
        For an argument that does not exist, with the nearest that does.
    """
    if gene_likelihood not in LIKELIHOODS:
        msg = f"gene_likelihood={gene_likelihood!r} is not a likelihood. Take one of {list(LIKELIHOODS)}."
        raise ValueError(msg)
    allowed = set(signature(SCVI._module_cls).parameters) | set(signature(model_cls).parameters) - {"kwargs"}
    for name in kwargs:
        if name not in allowed:
            nearest = difflib.get_close_matches(name, allowed, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            msg = f"BetaVAE has no argument {name!r}.{hint}"
            raise TypeError(msg)
    if kwargs.get("batch_representation", "one-hot") == "embedding" and not condition_on_batch:
        msg = 'batch_representation="embedding" tells the decoder the batch. Set condition_on_batch=True, or leave it out.'
        raise ValueError(msg)
