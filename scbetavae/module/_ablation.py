"""Log-likelihood lost when one latent dimension is set to 0: the decoder, many times on one minibatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scvi.module._constants import MODULE_KEYS

from ._fast_path import negative_log_likelihood

if TYPE_CHECKING:
    from ._betavae import BetaVAEModule

# Entries of the cells x genes arrays that are decoded at once. Beyond 4 MiB they leave the cache of a CPU and are slower.
_MAX_ENTRIES = {"cpu": 2**20}
_MAX_ENTRIES_ELSEWHERE = 2**25


@torch.inference_mode()
def ablation_losses(
    module: BetaVAEModule, tensors: dict[str, torch.Tensor], max_entries: int | None = None
) -> torch.Tensor:
    r"""Log-likelihood that each cell's counts lose when one dimension is set to 0, the mean of the prior.

    .. math:: \log p(x_i \mid m_i) - \log p(x_i \mid m_i^{(d)}), \qquad m_{id}^{(d)} = 0

    with :math:`m_i` the posterior means of cell i, and those of a latent library size where there is one. With a logistic
    normal, the values before the map to the simplex are changed.

    Parameters
    ----------
    tensors
        Tensors of a minibatch, counts included; the module must be in evaluation mode.
    max_entries
        Bound on the entries of the cells x genes arrays in memory at once; a single dimension is always decoded whole.

    Returns
    -------
    Tensor of shape ``(dims, cells)`` in nats, in double precision on the CPU; negative where the counts of a cell are more
    likely without the dimension.
    """
    tensors = {name: value.to(module.device) for name, value in tensors.items() if value is not None}
    inferred = module.inference(**module._get_inference_input(tensors, full_forward_pass=True))
    means, library = inferred[MODULE_KEYS.QZ_KEY].loc, inferred[MODULE_KEYS.LIBRARY_KEY]
    if inferred[MODULE_KEYS.QL_KEY] is not None:
        library = inferred[MODULE_KEYS.QL_KEY].loc

    if max_entries is None:
        max_entries = _MAX_ENTRIES.get(means.device.type, _MAX_ENTRIES_ELSEWHERE)
    n_cells, n_dims = means.shape
    at_once = min(max(1, max_entries // max(n_cells * module.n_input, 1)), n_dims + 1)
    repeated: dict[int, dict[str, torch.Tensor]] = {}
    losses = []
    for dimensions in torch.arange(n_dims + 1).split(at_once):  # the last is the unchanged representation
        z = means.repeat(len(dimensions), 1, 1)
        for position, d in enumerate(dimensions.tolist()):
            if d < n_dims:
                z[position, :, d] = 0.0
        if len(dimensions) not in repeated:
            repeated[len(dimensions)] = _repeat_cells({**tensors, "log_library": library}, len(dimensions))
        loss = _losses(module, z.view(-1, n_dims), repeated[len(dimensions)])
        losses.append(loss.cpu().double().view(len(dimensions), n_cells))
    loss = torch.cat(losses)
    return loss[:-1] - loss[-1]


def _losses(module: BetaVAEModule, z: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Negative log-likelihood of each cell given its latent representation, in nats."""
    known = {
        MODULE_KEYS.Z_KEY: module.z_encoder.z_transformation(z),
        MODULE_KEYS.LIBRARY_KEY: tensors["log_library"],
    }
    inputs = module._get_generative_input(tensors, known)
    decoded = module.generative(**inputs, for_loss=module.has_fused_likelihood)
    return negative_log_likelihood(decoded[MODULE_KEYS.PX_KEY], tensors)


def _repeat_cells(tensors: dict[str, torch.Tensor], times: int) -> dict[str, torch.Tensor]:
    """A minibatch repeated ``times`` over, one whole after the other."""
    return {name: _repeat_rows(value, times) for name, value in tensors.items()}


def _repeat_rows(value: torch.Tensor, times: int) -> torch.Tensor:
    """Rows of a dense or sparse tensor, all of them ``times`` over."""
    if value.layout != torch.sparse_csr:
        return value.repeat(times, *[1] * (value.ndim - 1))
    offsets = value.crow_indices()
    starts = offsets[-1] * torch.arange(times, device=offsets.device)
    return torch.sparse_csr_tensor(
        torch.cat([offsets[:1], (starts[:, None] + offsets[1:]).view(-1)]),
        value.col_indices().repeat(times),
        value.values().repeat(times),
        (times * value.shape[0], value.shape[1]),
        check_invariants=False,
    )
