"""The network and its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scvi import REGISTRY_KEYS
from scvi.module._constants import MODULE_KEYS
from scvi.module.base import LossOutput, auto_move_data
from scvi.utils import unsupported_if_adata_minified
from torch.distributions import Distribution, Normal, kl_divergence

from scbetavae._core.constants import GUIDED_KEY

from ._ablation import ablation_losses
from ._anchor import Anchor, ProgramAnchor
from ._anchor_groups import anchor_groups, group_sizes
from ._encoder import EncodingVAE
from ._fast_path import DecodedCounts, batch_norm_frozen, column_major, negative_log_likelihood, run_layers
from ._guided import Guided, GuidedCoordinates, GuidedCovariate
from ._guided_decoder import guide_decoder
from ._guided_levels import guided_coordinates, level_probabilities
from .objectives import OBJECTIVES, Objective, Posterior, resolve_objective
from .objectives._beta_vae import gaussian_kl

_GUIDED_RELEASE = 0.8  # the mutual information would turn free dimensions that are released earlier


@dataclass
class BetaVAELossOutput(LossOutput):
    """Loss of a minibatch, and the mean KL of each latent dimension in nats, a tensor of shape ``(dims,)``."""

    kl_per_dimension: torch.Tensor | None = None


class BetaVAEModule(EncodingVAE):
    r"""Variational autoencoder of counts with a regularizer on its latent space.

    .. math:: \mathcal{L} = \frac{1}{B} \sum_i -\log p(x_i \mid z_i) + r(t) \, R

    Parameters
    ----------
    n_input
        Number of genes.
    beta, objective, objective_kwargs
        Weight of the regularizer, at least 0 (``None`` takes 2 where the objective uses beta); the name of the objective, or
        its class; its arguments.
    condition_on_batch
        Whether the decoder is conditioned on batch. If not, neither is the encoder.
    n_encoder_input
        Columns of the matrix that the encoder reads in place of the counts; ``None`` if it reads the counts.
    anchor, anchor_kwargs
        ``"ica"``, ``"programs"`` or ``None``, and its arguments. A logistic normal and data that are not counts have no anchor.
    guided, guided_kwargs
        Guided covariates, as :class:`GuidedCovariate` or tuples of its fields, and arguments of :class:`Guided`. Their dimensions
        come after the ``n_latent`` free ones.
    **kwargs
        Further arguments of :class:`scvi.module.VAE`; ``gene_likelihood`` is ``"nb"`` by default.
    """

    def __init__(
        self,
        n_input: int,
        *,
        beta: float | None = None,
        objective: str | type[Objective] = "beta_vae",
        objective_kwargs: dict[str, Any] | None = None,
        condition_on_batch: bool = False,
        n_encoder_input: int | None = None,
        anchor: str | None = None,
        anchor_kwargs: dict[str, Any] | None = None,
        guided: Sequence[GuidedCovariate] = (),
        guided_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        n_batch = kwargs.pop("n_batch", 0)
        # Layers ignore a covariate without categories: an unconditioned network has the same parts.
        super().__init__(n_input, n_batch=n_batch if condition_on_batch else 0, **{"gene_likelihood": "nb", **kwargs})
        n_latent = self.n_latent
        self.objective, self.beta = resolve_objective(objective, beta, objective_kwargs, self.latent_distribution)
        self.regularizer = OBJECTIVES[self.objective](n_latent, **(objective_kwargs or {}))
        self.condition_on_batch = condition_on_batch
        self.reference_is_frozen = False  # set where a query is fitted to a reference
        self.n_encoder_input = n_encoder_input
        if not condition_on_batch:
            self.n_batch = n_batch
            if self.dispersion == "gene-batch":
                self.px_r = torch.nn.Parameter(torch.randn(n_input, n_batch))
        if n_encoder_input is not None:
            self.set_encoder_input(n_encoder_input)
        first_block: Any = self.z_encoder.encoder.fc_layers[0]
        column_major(first_block[0])
        self.guided = Guided(guided, n_input, self.n_hidden, **(guided_kwargs or {})) if guided else None
        if self.guided is not None:
            guide_decoder(self.decoder, n_latent, self.guided.n_dimensions)
        self.anchor: Anchor | None = None
        if anchor is not None and self.latent_distribution == "normal" and self.gene_likelihood != "normal":
            anchor_cls = ProgramAnchor if anchor == "programs" else Anchor
            options: dict[str, Any] = (
                {"release": _GUIDED_RELEASE} if self.guided is not None and anchor == "ica" else {}
            )
            options |= anchor_kwargs or {}
            self.anchor = anchor_cls(n_input, n_latent, math.prod(group_sizes(self)), kind=anchor, **options)

    @property
    def n_dimensions(self) -> int:
        """Latent dimensions, free and guided."""
        return self.n_latent + (self.guided.n_dimensions if self.guided is not None else 0)

    def forward(self, tensors: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Pass a minibatch through the network, and by default compute its loss.

        Batch norm uses its running statistics for a training minibatch of one cell, which has no spread, and for a query fitted
        to a frozen reference: the statistics of a minibatch of one batch would cancel the weights of this batch.
        """
        if kwargs.get("compute_loss", True) and self.has_fused_likelihood:
            kwargs["generative_kwargs"] = {**(kwargs.get("generative_kwargs") or {}), "for_loss": True}
        if self.training and (self.reference_is_frozen or tensors[REGISTRY_KEYS.X_KEY].shape[0] == 1):
            with batch_norm_frozen(self):
                return super().forward(tensors, *args, **kwargs)
        return super().forward(tensors, *args, **kwargs)

    @property
    def has_fused_likelihood(self) -> bool:
        """Whether the loss is :func:`fused_negative_binomial_loss`; other likelihoods use the distributions of scvi-tools."""
        if torch.compiler.is_compiling():  # each number of non-zero counts would be compiled anew
            return False
        # The decoder of size factors has no softmax.
        return self.gene_likelihood == "nb" and self.dispersion != "gene-cell" and not self.use_size_factor_key

    @auto_move_data
    def generative(
        self,
        z: torch.Tensor,
        library: torch.Tensor,
        batch_index: torch.Tensor,
        cont_covs: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
        size_factor: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
        transform_batch: torch.Tensor | None = None,
        guided: GuidedCoordinates | None = None,
        **options: bool,
    ) -> dict[str, Distribution | DecodedCounts | GuidedCoordinates | None]:
        """Distribution of the counts given the latent representation, as :meth:`scvi.module.VAE.generative`.

        With ``for_loss=True`` only the loss is needed, and :class:`DecodedCounts` replace the likelihood. ``guided`` are the
        coordinates in the guided dimensions, by default the last columns of ``z``. scvi-tools reads the other arguments from the
        signature.
        """
        if self.guided is not None:
            z = self.guided.join(z, guided)
        if options.get("for_loss") and z.ndim == 2:
            outputs: dict[str, Any] = self._decode_for_loss(z, library, batch_index, cont_covs, cat_covs, y)
        else:
            others = {"size_factor": size_factor, "y": y, "transform_batch": transform_batch}
            outputs = super().generative(z, library, batch_index, cont_covs, cat_covs, **others)
        return outputs if self.guided is None else outputs | {GUIDED_KEY: guided}

    def _get_generative_input(
        self, tensors: dict[str, torch.Tensor], inference_outputs: dict[str, Any]
    ) -> dict[str, Any]:
        """Input of :meth:`generative`, with the coordinates in the guided dimensions."""
        inputs: dict[str, Any] = super()._get_generative_input(tensors, inference_outputs)
        if self.guided is not None and inputs[MODULE_KEYS.Z_KEY].shape[-1] == self.n_latent:
            inputs[GUIDED_KEY] = guided_coordinates(self, tensors, inference_outputs)
        return inputs

    def decode_hidden(
        self,
        z: torch.Tensor,
        batch_index: torch.Tensor | None,
        cont_covs: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the heads of the decoder read, tensor of shape ``(cells, n_hidden)``; arguments as in :meth:`generative`.

        After the hidden units come guided dimensions, the last of ``z``, or twice, as :meth:`Guided.join` returns them.
        """
        if self.guided is not None and z.shape[-1] == self.n_dimensions:
            z = self.guided.join(z, None)
        covariates, categories = self.split_covariates(batch_index, cont_covs, cat_covs)
        read = torch.cat([z, *covariates], dim=-1) if covariates else z
        layers: Any = self.decoder.px_decoder
        return run_layers(layers, read, categories) if self.guided is None else layers(read, *categories)

    def _decode_for_loss(
        self, z: torch.Tensor, library: torch.Tensor, batch_index: torch.Tensor, *covariates: torch.Tensor | None
    ) -> dict[str, Distribution | DecodedCounts | None]:
        """Decoder without what a negative binomial loss does not read: softmax, rates, dropout logits."""
        *others, labels = covariates
        log_theta = self.px_r
        if self.dispersion != "gene":
            group: Any = batch_index if self.dispersion == "gene-batch" else labels
            log_theta = self.px_r.t().index_select(0, group.squeeze(-1))
        prior = None
        if not self.use_observed_lib_size:
            means, variances = self._compute_local_library_params(batch_index)
            prior = Normal(means, variances.sqrt())
        output: Any = self.decoder.px_scale_decoder[0]
        decoded = DecodedCounts(self.decode_hidden(z, batch_index, *others), output, library, log_theta)
        return {MODULE_KEYS.PX_KEY: decoded, MODULE_KEYS.PL_KEY: prior}

    ablation_losses = ablation_losses
    anchor_groups = anchor_groups
    guided_coordinates = guided_coordinates
    level_probabilities = level_probabilities

    @staticmethod
    def kl_divergence(posterior: Normal) -> torch.Tensor:
        """KL divergence of posteriors from the standard normal prior, in nats and of the shape of the posterior."""
        return gaussian_kl(posterior.loc, posterior.scale.square())

    @unsupported_if_adata_minified
    def loss(
        self,
        tensors: dict[str, torch.Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float | torch.Tensor = 1.0,
        beta: float | None = None,
        n_obs: int | None = None,
        anchor_share: float = 0.0,
    ) -> BetaVAELossOutput:
        """Loss of a minibatch in nats per cell, and its parts, from the results of :meth:`inference` and :meth:`generative`.

        Parameters
        ----------
        kl_weight
            Fraction ``r(t)`` of the regularizer, in [0, 1]. The name is that of scvi-tools.
        beta
            Weight of the regularizer in place of the model's own.
        n_obs
            Number of training cells; ``None`` takes the cells of the minibatch.
        anchor_share
            Strength of the anchor, in [0, 1].
        """
        x, qz = tensors[REGISTRY_KEYS.X_KEY], inference_outputs[MODULE_KEYS.QZ_KEY]
        kl = self.kl_divergence(qz)
        nll = negative_log_likelihood(generative_outputs[MODULE_KEYS.PX_KEY], tensors)
        kl_library = nll.new_zeros(nll.shape[-1])  # never annealed, never scaled by beta
        if not self.use_observed_lib_size:
            ql, prior = inference_outputs[MODULE_KEYS.QL_KEY], generative_outputs[MODULE_KEYS.PL_KEY]
            kl_library = kl_divergence(ql, prior).sum(dim=1)
        z = inference_outputs[MODULE_KEYS.Z_KEY]
        if z.ndim == 3:  # several samples per cell, for a marginal likelihood: the objective sees the first
            z = z[0]
        posterior = Posterior(z, qz.loc, qz.variance, kl, x.shape[0] if n_obs is None else n_obs)
        penalty = self.regularizer(posterior, self.beta if beta is None else beta, kl_weight)
        unregularized = (nll + kl_library).mean()
        payload = {"objective": (unregularized + penalty.full).detach(), **penalty.parts}
        loss = unregularized + penalty.running
        if self.guided is not None:
            values, guided = tensors[GUIDED_KEY], generative_outputs[GUIDED_KEY]
            dependence, information = self.guided.penalty(z, qz.loc, qz.variance, values, posterior.n_obs)
            kl_guided = self.guided.kl(guided, values).mean()
            loss = loss + kl_weight * dependence + kl_guided
            payload["objective"] = payload["objective"] + (dependence + kl_guided).detach()
            payload |= {f"guided_information_{name}": value for name, value in information.items()}
        if anchor_share > 0 and self.anchor is not None:
            groups = self.anchor_groups(tensors[REGISTRY_KEYS.BATCH_KEY], tensors.get(GUIDED_KEY))
            loss = loss + anchor_share * self.anchor(qz.loc, x, groups)
        if self.extra_payload_autotune:
            payload |= {
                "z": inference_outputs[MODULE_KEYS.Z_KEY],
                "batch": tensors[REGISTRY_KEYS.BATCH_KEY],
                "labels": tensors[REGISTRY_KEYS.LABELS_KEY],
            }
        return BetaVAELossOutput(
            loss=loss,
            # Their sums, which LossOutput takes for the history, need no graph.
            reconstruction_loss=nll.detach(),
            kl_local={MODULE_KEYS.KL_L_KEY: kl_library.detach(), MODULE_KEYS.KL_Z_KEY: kl.detach().sum(dim=-1)},
            extra_metrics=payload,
            kl_per_dimension=kl.detach().mean(dim=0),
        )
