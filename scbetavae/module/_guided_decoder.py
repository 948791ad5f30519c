"""A decoder that reads guided dimensions twice: through its hidden units, and on a path of their own."""

from __future__ import annotations

from typing import Any

import torch
from scvi.nn import FCLayers
from torch import Tensor

from ._fast_path import each_layer


class GuidedLayers(FCLayers):
    r"""Hidden layers of a decoder, whose output is followed by the guided dimensions without noise.

    They read ``(z, guided with noise, guided without, numeric covariates)``. So the next layer has a path of its own for the
    shared effect of a covariate, :math:`A\, m(u)`, next to the hidden units.
    """

    first: int
    last: int

    def forward(self, x: Tensor, *cat_list: Any) -> Tensor:
        """Hidden units and guided dimensions, (..., n_hidden + n_guided)."""
        direct = x[..., self.first : self.last]
        read = torch.cat([x[..., : self.first], x[..., self.last :]], dim=-1)
        if self.n_cov or x.ndim != 2:
            hidden = super().forward(read, *cat_list)
        else:  # without the copies of scvi-tools
            hidden = read
            for layer in each_layer(self):
                hidden = layer(hidden)
        return torch.cat([hidden, direct], dim=-1)


def guide_decoder(decoder: Any, n_latent: int, n_guided: int) -> None:
    """Let a decoder read guided dimensions, and its heads read them without noise, with weights that start at 0."""
    layers: Any = decoder.px_decoder
    layers.__class__ = GuidedLayers  # scvi-tools builds its layers itself
    layers.first, layers.last = n_latent + n_guided, n_latent + 2 * n_guided
    layers.fc_layers[0][0] = _wider(layers.fc_layers[0][0], n_guided)
    decoder.px_scale_decoder[0] = _wider(decoder.px_scale_decoder[0], n_guided, starts_at_zero=True)
    for name in ("px_r_decoder", "px_dropout_decoder"):
        setattr(decoder, name, _wider(getattr(decoder, name), n_guided, starts_at_zero=True))


@torch.no_grad()
def _wider(linear: torch.nn.Linear, n_more: int, *, starts_at_zero: bool = False) -> torch.nn.Linear:
    """A layer with more inputs; the weights of the last ones may start at 0, with all others as they were."""
    wider = torch.nn.Linear(linear.in_features + n_more, linear.out_features, bias=linear.bias is not None)
    if starts_at_zero:
        wider.weight.zero_()
        wider.weight[:, : linear.in_features] = linear.weight
        wider.bias.copy_(linear.bias)
    return wider
