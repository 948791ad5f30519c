"""Log-likelihood lost when one latent dimension, or all of them, are set to 0: the decoder, many times on one minibatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scvi.module._constants import MODULE_KEYS

from ._fast_path import negative_log_likelihood

if TYPE_CHECKING:
    from ._betavae import BetaVAEModule

# Entries of the cells x genes arrays that are decoded at once. Beyond 4 MiB they leave the cache of a CPU and are slower.
_MAX_ENTRIES, _MAX_ENTRIES_ON_ACCELERATOR = 2**20, 2**25


@torch.inference_mode()
def ablation_losses(
    module: BetaVAEModule, tensors: dict[str, torch.Tensor], max_entries: int | None = None
) -> torch.Tensor:
    r"""Log-likelihood that each cell's counts lose when one dimension is set to 0, the mean of the prior.

    .. math:: \log p(x_i \mid m_i) - \log p(x_i \mid m_i^{(d)}), \qquad m_{id}^{(d)} = 0

    with :math:`m_i` the posterior means of cell i, and those of a latent library size where there is one. With a logistic
    normal, the values before the map to the simplex are changed. Takes the tensors of a minibatch, counts included, in
    evaluation mode, and a bound on the entries of cells x genes arrays held at once. Returns nats of shape ``(dims + 2, cells)``
    in double precision on the CPU: what is lost without each dimension, negative where a cell's counts are more likely without
    it; what is lost without all of them; and the negative log-likelihood of the unchanged representation.
    """
    tensors = {name: value.to(module.device) for name, value in tensors.items() if value is not None}
    inferred = module.inference(**module._get_inference_input({**tensors}, full_forward_pass=True))
    means, library = inferred[MODULE_KEYS.QZ_KEY].loc, inferred[MODULE_KEYS.LIBRARY_KEY]
    if inferred[MODULE_KEYS.QL_KEY] is not None:
        library = inferred[MODULE_KEYS.QL_KEY].loc
    if module.guided is not None:
        means = torch.cat([means, module.guided_coordinates(tensors, inferred).mean], dim=1)
    if max_entries is None:
        max_entries = _MAX_ENTRIES if means.device.type == "cpu" else _MAX_ENTRIES_ON_ACCELERATOR
    n_cells, n_dims = means.shape
    at_once = min(max(1, max_entries // max(n_cells * module.n_input, 1)), n_dims + 2)
    repeated: dict[str, torch.Tensor] = {}
    losses, n_repeated = [], 0
    for dimensions in torch.arange(n_dims + 2).split(at_once):  # the last two: without any dimension, and unchanged
        n = len(dimensions)
        z = means.repeat(n, 1, 1)
        changed = dimensions[dimensions < n_dims]
        z[torch.arange(len(changed)), :, changed] = 0.0
        z[dimensions == n_dims] = 0.0
        if n != n_repeated:
            n_repeated = n
            repeated = {name: _repeat_rows(value, n) for name, value in {**tensors, "log_library": library}.items()}
        transformed = module.z_encoder.z_transformation(z.view(-1, n_dims))
        known = {MODULE_KEYS.Z_KEY: transformed, MODULE_KEYS.LIBRARY_KEY: repeated["log_library"]}
        inputs = module._get_generative_input(repeated, known)
        decoded = module.generative(**inputs, for_loss=module.has_fused_likelihood)
        loss = negative_log_likelihood(decoded[MODULE_KEYS.PX_KEY], repeated)
        losses.append(loss.cpu().double().view(n, n_cells))
    loss = torch.cat(losses)
    return torch.cat([loss[:-1] - loss[-1], loss[-1:]])


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
