"""From counts, or a matrix in their place, to the posterior."""

from __future__ import annotations

import torch
from scvi import REGISTRY_KEYS
from scvi.module._constants import MODULE_KEYS
from torch.distributions import Distribution, Normal

from ._fast_path import run_layers, run_sparse_layers
from ._likelihood import NonzeroStructure, nonzero_structure

ENCODER_INPUT_KEY = "encoder_input"
"""Registry key of the matrix that the encoder reads in place of the counts."""


class EncoderMixin:
    """Encoder of :class:`BetaVAEModule`: counts, their logarithms, or a matrix of ``.obsm``, and covariates."""

    def set_encoder_input(self, n_encoder_input: int) -> None:
        """Give the encoder a first layer for its own input; covariates stay as they are."""
        first_block = self.z_encoder.encoder.fc_layers[0]
        old = first_block[0]
        first_block[0] = torch.nn.Linear(
            n_encoder_input + old.in_features - self.n_input, old.out_features, bias=old.bias is not None
        )

    def _get_inference_input(
        self, tensors: dict[str, torch.Tensor | None], full_forward_pass: bool = False
    ) -> dict[str, torch.Tensor | None]:
        """Input of :meth:`inference`, with the encoder's own matrix if there is one."""
        inputs = super()._get_inference_input(tensors, full_forward_pass=full_forward_pass)
        if self.n_encoder_input is not None and MODULE_KEYS.X_KEY in inputs:
            inputs[ENCODER_INPUT_KEY] = tensors[ENCODER_INPUT_KEY]
        return inputs

    def _regular_inference(
        self,
        x: torch.Tensor,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
        n_samples: int = 1,
        encoder_input: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor | Distribution | None]:
        """Posterior and library size of a minibatch of counts ``x`` (cells, genes), dense or, if the network can, sparse."""
        if x.layout == torch.sparse_csr:
            nonzero = nonzero_structure(x)
            counts, covariates, categories = self._read(nonzero), [], []
            totals = torch.segment_reduce(nonzero.values, "sum", offsets=nonzero.offsets, initial=0)
        else:
            counts, totals = torch.log1p(x) if self.log_variational else x, x.sum(1)
            covariates, categories = self._encoder_covariates(batch_index, cont_covs, cat_covs)
        read = counts if encoder_input is None else encoder_input
        qz, z = self._encode(torch.cat([read, *covariates], dim=-1) if covariates else read, categories)
        ql = None
        if self.use_observed_lib_size:
            library = torch.log(totals).unsqueeze(1)
        else:
            ql, library = self.l_encoder(
                torch.cat([counts, *covariates], dim=-1) if covariates else counts, *categories
            )
        if n_samples > 1:
            z = self.z_encoder.z_transformation(qz.sample((n_samples,)))
            library = library.expand(n_samples, *library.shape) if ql is None else ql.sample((n_samples,))
        return {
            MODULE_KEYS.Z_KEY: z,
            MODULE_KEYS.QZ_KEY: qz,
            MODULE_KEYS.QL_KEY: ql,
            MODULE_KEYS.LIBRARY_KEY: library,
        }

    @property
    def takes_sparse_counts(self) -> bool:
        """Whether every part of a training step can work on the non-zero counts alone."""
        return self.has_fused_likelihood and self.use_observed_lib_size and not self.encode_covariates

    def _read(self, nonzero: NonzeroStructure) -> NonzeroStructure:
        """What the encoder reads of the counts: their logarithms, unless the model has none."""
        return nonzero._replace(values=torch.log1p(nonzero.values)) if self.log_variational else nonzero

    def _encode(
        self, read: torch.Tensor | NonzeroStructure, categories: list[torch.Tensor]
    ) -> tuple[Normal, torch.Tensor]:
        """Posterior and a draw from it, as the encoder of scvi-tools but without the checks of its distribution."""
        encoder = self.z_encoder
        if isinstance(read, NonzeroStructure):
            hidden = run_sparse_layers(encoder.encoder, read)
        else:
            hidden = run_layers(encoder.encoder, read, categories)
        mean = encoder.mean_encoder(hidden)
        scale = (encoder.var_activation(encoder.var_encoder(hidden)) + encoder.var_eps).sqrt()
        z = encoder.z_transformation(mean + scale * torch.randn_like(mean))
        return Normal(mean, scale, validate_args=False), z

    @property
    def reads_counts_alone(self) -> bool:
        """Whether the encoder reads the counts and nothing else, so that :meth:`encode_nonzero` can."""
        return self.n_encoder_input is None and not self.z_encoder.encoder.n_cov and not self.encode_covariates

    @torch.inference_mode()
    def encode_nonzero(self, counts: torch.Tensor) -> Normal:
        """Posterior (cells, dims) of a minibatch of counts, in evaluation mode, several times faster than from dense counts."""
        nonzero = nonzero_structure(counts)
        hidden = run_sparse_layers(self.z_encoder.encoder, self._read(nonzero))
        variance = self.z_encoder.var_activation(self.z_encoder.var_encoder(hidden)) + self.z_encoder.var_eps
        return Normal(self.z_encoder.mean_encoder(hidden), variance.sqrt(), validate_args=False)

    def _encoder_covariates(
        self, batch_index: torch.Tensor, cont_covs: torch.Tensor | None, cat_covs: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Covariates that join the encoder's input, and those that its layers turn into indicators."""
        if not self.encode_covariates:
            return [], []
        covariates = [] if cont_covs is None else [cont_covs]
        categories = [] if cat_covs is None else list(torch.split(cat_covs, 1, dim=1))
        if self.batch_representation == "embedding":
            covariates.append(self.compute_embedding(REGISTRY_KEYS.BATCH_KEY, batch_index))
        else:
            categories.insert(0, batch_index)
        return covariates, categories
