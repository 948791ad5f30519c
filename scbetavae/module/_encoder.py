"""From counts, or a matrix in their place, to the posterior."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from scvi import REGISTRY_KEYS
from scvi.module import VAE
from scvi.module._constants import MODULE_KEYS
from torch import Tensor
from torch.distributions import Distribution, Normal

from scbetavae._core.constants import GUIDED_KEY

from ._fast_path import run_layers, run_sparse_layers
from ._guided import Guided, GuidedCoordinates
from ._likelihood import NonzeroStructure, nonzero_structure

ENCODER_INPUT_KEY = "encoder_input"
"""Registry key of the matrix that the encoder reads in place of the counts."""


class EncodingVAE(VAE):
    """Encoder of :class:`BetaVAEModule`: counts, their logarithms, or a matrix of ``.obsm``, and covariates."""

    n_encoder_input: int | None
    has_fused_likelihood: bool
    guided: Guided | None

    def set_encoder_input(self, n_encoder_input: int) -> None:
        """Give the encoder a first layer for its own input; covariates stay as they are."""
        first_block: Any = self.z_encoder.encoder.fc_layers[0]
        old = first_block[0]
        n_inputs = n_encoder_input + old.in_features - self.n_input
        first_block[0] = torch.nn.Linear(n_inputs, old.out_features, bias=old.bias is not None)

    def _get_inference_input(
        self, tensors: dict[str, Tensor | None], full_forward_pass: bool = False
    ) -> dict[str, Tensor | None]:
        """Input of :meth:`inference`, with the encoder's own matrix if there is one."""
        inputs = super()._get_inference_input(tensors, full_forward_pass=full_forward_pass)
        if self.n_encoder_input is not None and MODULE_KEYS.X_KEY in inputs:
            inputs[ENCODER_INPUT_KEY] = tensors[ENCODER_INPUT_KEY]
        return inputs

    def _regular_inference(
        self,
        x: Tensor,
        batch_index: Tensor,
        cont_covs: Tensor | None = None,
        cat_covs: Tensor | None = None,
        n_samples: int = 1,
        encoder_input: Tensor | None = None,
    ) -> dict[str, Tensor | Distribution | None]:
        """Posterior and library size of a minibatch of counts ``x`` (cells, genes), dense or, if the network can, sparse."""
        ql = None
        if x.layout == torch.sparse_csr:
            nonzero = nonzero_structure(x)
            totals = torch.segment_reduce(nonzero.values, "sum", offsets=nonzero.offsets, initial=0)
            hidden = self._hidden(self._logs(nonzero) if encoder_input is None else encoder_input)
            qz = self._posterior(hidden)
            z, library = self._draw(qz), torch.log(totals).unsqueeze(1)
        else:
            counts = torch.log1p(x) if self.log_variational else x
            given = (batch_index, cont_covs, cat_covs)
            covariates, categories = self.split_covariates(*given) if self.encode_covariates else ([], [])
            read = [counts if encoder_input is None else encoder_input, *covariates]
            hidden = self._hidden(torch.cat(read, dim=-1) if covariates else read[0], categories)
            qz = self._posterior(hidden)
            z = self._draw(qz)
            if self.use_observed_lib_size:
                library = torch.log(x.sum(1)).unsqueeze(1)
            else:
                ql, library = self.l_encoder(torch.cat([counts, *covariates], dim=-1), *categories)
        if n_samples > 1:
            z = self.z_encoder.z_transformation(qz.sample(torch.Size([n_samples])))
            library = library.expand(n_samples, *library.shape) if ql is None else ql.sample((n_samples,))
        inferred = {
            MODULE_KEYS.Z_KEY: z,
            MODULE_KEYS.QZ_KEY: qz,
            MODULE_KEYS.QL_KEY: ql,
            MODULE_KEYS.LIBRARY_KEY: library,
        }
        if self.guided is not None and self.guided.mode == "inferred":
            inferred[GUIDED_KEY] = self.guided.infer(hidden)
        return inferred

    def _cached_inference(self, qzm: Tensor, qzv: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Posterior of minified data, whose last columns are the guided dimensions."""
        if self.guided is None:
            return super()._cached_inference(qzm, qzv, *args, **kwargs)
        free = slice(self.n_latent)
        inferred = super()._cached_inference(qzm[:, free], qzv[:, free], *args, **kwargs)
        return inferred | {GUIDED_KEY: GuidedCoordinates(qzm[:, self.n_latent :])}

    @property
    def takes_sparse_counts(self) -> bool:
        """Whether every part of a training step can work on the non-zero counts alone."""
        return self.has_fused_likelihood and self.use_observed_lib_size and not self.encode_covariates

    @cached_property
    def reads_counts_alone(self) -> bool:
        """Whether the encoder reads the counts and nothing else, so that :meth:`encode_nonzero` can."""
        return self.n_encoder_input is None and not self.z_encoder.encoder.n_cov and not self.encode_covariates

    @torch.inference_mode()
    def encode_nonzero(self, counts: Tensor) -> Normal:
        """Posterior (cells, dims) of a minibatch of counts, in evaluation mode, several times faster than from dense counts."""
        return self._posterior(self._hidden(self._logs(nonzero_structure(counts))))

    def _logs(self, nonzero: NonzeroStructure) -> NonzeroStructure:
        """What the encoder reads of the counts: their logarithms, unless the model has none."""
        return nonzero._replace(values=torch.log1p(nonzero.values)) if self.log_variational else nonzero

    def _hidden(self, read: Tensor | NonzeroStructure, categories: list[Tensor] | None = None) -> Tensor:
        """Hidden units of the encoder, (cells, n_hidden)."""
        layers: Any = self.z_encoder.encoder
        if isinstance(read, NonzeroStructure):
            return run_sparse_layers(layers, read)
        return run_layers(layers, read, categories or [])

    def _posterior(self, hidden: Tensor) -> Normal:
        """Posterior as from the encoder of scvi-tools, but without the checks of its distribution."""
        encoder = self.z_encoder
        variance = encoder.var_activation(encoder.var_encoder(hidden)) + encoder.var_eps
        return Normal(encoder.mean_encoder(hidden), variance.sqrt(), validate_args=False)

    def _draw(self, qz: Normal) -> Tensor:
        """A draw from the posterior, on the simplex for a logistic normal."""
        return self.z_encoder.z_transformation(qz.loc + qz.scale * torch.randn_like(qz.loc))

    def split_covariates(
        self, batch_index: Tensor | None, cont_covs: Tensor | None, cat_covs: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Covariates that are concatenated with the input of a network, and those that its layers turn into indicators."""
        covariates = [] if cont_covs is None else [cont_covs]
        categories: list[Any] = [] if cat_covs is None else list(torch.split(cat_covs, 1, dim=1))
        if self.batch_representation == "embedding":
            covariates.append(self.compute_embedding(REGISTRY_KEYS.BATCH_KEY, batch_index))
        else:
            categories.insert(0, batch_index)
        return covariates, categories
