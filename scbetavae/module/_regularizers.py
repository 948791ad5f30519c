r"""Regularizers: the term R of ``loss = NLL + r(t) R``, one class an objective.

A regularizer is built from the model's arguments and called once a minibatch. It returns its value at the fraction ``r``
of the run's beta, its value at full beta, and the parts that are worth writing down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import ClassVar

import torch

from ._discriminator import Discriminator, discriminator_accuracy, discriminator_loss
from ._objectives import capacity_penalty, dip_covariance, dip_parts, permute_dimensions
from ._running_covariance import RunningCovariance
from ._total_correlation import ESTIMATORS, total_correlation_terms


@dataclass(frozen=True)
class Codes:
    """What a regularizer sees of a minibatch.

    Parameters
    ----------
    z
        Samples of the posterior, tensor of shape ``(cells, dims)``.
    mean, variance
        Moments of the posterior, tensors of shape ``(cells, dims)``.
    kl
        KL from posterior to prior in nats, tensor of shape ``(cells, dims)``.
    n_obs
        Number of training cells.
    """

    z: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    kl: torch.Tensor
    n_obs: int


@dataclass(frozen=True)
class Penalty:
    """Value of a regularizer on a minibatch.

    Parameters
    ----------
    running
        What enters the loss: the regularizer annealed by ``r``, a scalar in nats.
    full
        The regularizer at full beta, a scalar in nats.
    parts
        Scalars to write to the history, by name.
    """

    running: torch.Tensor
    full: torch.Tensor
    parts: dict[str, torch.Tensor] = field(default_factory=dict)


class Regularizer(torch.nn.Module):
    """Base of the regularizers.

    ``name`` is what ``BetaVAE(objective=...)`` takes, ``uses_beta`` says whether beta enters the regularizer, and
    ``needs_gaussian_codes`` whether it reads the samples as draws from the Gaussian posterior.
    """

    name: ClassVar[str] = ""
    uses_beta: ClassVar[bool] = False
    needs_gaussian_codes: ClassVar[bool] = False

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent

    def forward(self, codes: Codes, beta: float, fraction: float) -> Penalty:
        """Value on a minibatch.

        Parameters
        ----------
        codes
            The minibatch's posterior.
        beta
            Beta at the end of the warm-up, at least 0.
        fraction
            Fraction ``r`` of the regularizer that the minibatch trains with.

        Returns
        -------
        The penalty, scalars in nats per cell.
        """
        raise NotImplementedError


class BetaVAERegularizer(Regularizer):
    r"""KL to the prior times beta, :math:`R = \beta \, \mathrm{KL}(q(z|x) \,\|\, p(z))`.

    References
    ----------
    :cite:t:`Higgins2017`
    """

    name: ClassVar[str] = "beta_vae"
    uses_beta: ClassVar[bool] = True

    def forward(self, codes: Codes, beta: float, fraction: float) -> Penalty:
        full = beta * codes.kl.sum(dim=-1).mean()
        return Penalty(running=fraction * full, full=full)


class CapacityRegularizer(Regularizer):
    r"""Distance of the mean KL from a capacity, :math:`R = \gamma \, |\overline{\mathrm{KL}} - C(t)|`.

    The capacity rises with the schedule, from 0 to ``capacity`` over the warm-up.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    capacity
        Capacity at the end of the warm-up, in nats per cell, at least 0.
    gamma
        Weight, at least 0: 10 to 100 for counts.

    References
    ----------
    :cite:t:`Burgess2018`
    """

    name: ClassVar[str] = "capacity"

    def __init__(self, n_latent: int, capacity: float = 10.0, gamma: float = 30.0) -> None:
        super().__init__(n_latent)
        self.capacity = _non_negative("capacity", capacity)
        self.gamma = _non_negative("gamma", gamma)

    def forward(self, codes: Codes, beta: float, fraction: float) -> Penalty:
        kl = codes.kl.sum(dim=-1)
        running_capacity = fraction * self.capacity
        return Penalty(
            running=fraction * capacity_penalty(kl, running_capacity, self.gamma),
            full=capacity_penalty(kl, self.capacity, self.gamma),
            parts={"capacity": torch.as_tensor(running_capacity, dtype=kl.dtype, device=kl.device)},
        )


class BetaTCVAERegularizer(Regularizer):
    r"""KL with more weight on total correlation, :math:`R = \mathrm{KL} + (\beta - 1) \, \mathrm{TC}(z)`.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    estimator
        ``"mss"`` or ``"mws"``, see :func:`total_correlation_terms`.

    References
    ----------
    :cite:t:`Chen2018`
    """

    name: ClassVar[str] = "beta_tcvae"
    uses_beta: ClassVar[bool] = True
    needs_gaussian_codes: ClassVar[bool] = True

    def __init__(self, n_latent: int, estimator: str = "mss") -> None:
        super().__init__(n_latent)
        if estimator not in ESTIMATORS:
            msg = (
                f"estimator={estimator!r} is not an estimator of the total correlation. Take one of {list(ESTIMATORS)}."
            )
            raise ValueError(msg)
        self.estimator = estimator

    def forward(self, codes: Codes, beta: float, fraction: float) -> Penalty:
        terms = total_correlation_terms(codes.z, codes.mean, codes.variance, codes.n_obs, estimator=self.estimator)
        full = codes.kl.sum(dim=-1).mean() + (beta - 1.0) * terms.total_correlation
        return Penalty(running=fraction * full, full=full, parts={k: v.detach() for k, v in terms._asdict().items()})


class FactorVAERegularizer(Regularizer):
    r"""KL and a discriminator's estimate of total correlation, :math:`R = \mathrm{KL} + \gamma \, \mathbb{E}_{q(z)}[l(z)]`.

    :math:`l` is the logit of a :class:`Discriminator`. The encoder's step leaves no gradient in it;
    :meth:`discriminator_step` trains it, on codes that carry no gradient to the encoder.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    gamma
        Weight of the total correlation, at least 0; ``None`` takes beta - 1, so that beta means what it means in beta-TCVAE.
    n_hidden, n_layers
        Width and depth of the discriminator.

    References
    ----------
    :cite:t:`KimMnih2018`
    """

    name: ClassVar[str] = "factor_vae"
    uses_beta: ClassVar[bool] = True
    needs_gaussian_codes: ClassVar[bool] = True

    def __init__(self, n_latent: int, gamma: float | None = None, n_hidden: int = 128, n_layers: int = 2) -> None:
        super().__init__(n_latent)
        self.gamma = None if gamma is None else _non_negative("gamma", gamma)
        # Its random start must not shift the random numbers that everything else draws.
        with torch.random.fork_rng(devices=[]):
            self.discriminator = Discriminator(n_latent, n_hidden=n_hidden, n_layers=n_layers)

    def forward(self, codes: Codes, beta: float, fraction: float) -> Penalty:
        gamma = beta - 1.0 if self.gamma is None else self.gamma
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        total_correlation = torch.func.functional_call(self.discriminator, frozen, (codes.z,)).mean()
        full = codes.kl.sum(dim=-1).mean() + gamma * total_correlation
        return Penalty(running=fraction * full, full=full, parts={"total_correlation": total_correlation.detach()})

    def discriminator_step(
        self, z: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and accuracy of the discriminator on a minibatch.

        Parameters
        ----------
        z
            Codes, tensor of shape ``(cells, dims)``; detached here.
        generator
            Source of the permutations.

        Returns
        -------
        loss
            Cross-entropy in nats, with gradients to the discriminator alone.
        accuracy
            Share of codes and shuffled codes told right, in [0, 1].
        """
        z = z.detach()
        joint = self.discriminator(z)
        permuted = self.discriminator(permute_dimensions(z, generator))
        return discriminator_loss(joint, permuted), discriminator_accuracy(joint, permuted)


class _DIPRegularizer(Regularizer):
    """KL and the distance of the codes' covariance from the identity, over a running covariance."""

    kind: ClassVar[str]
    diagonal_ratio: ClassVar[float]

    def __init__(
        self, n_latent: int, lambda_od: float = 10.0, lambda_d: float | None = None, momentum: float = 0.1
    ) -> None:
        super().__init__(n_latent)
        self.lambda_od = _non_negative("lambda_od", lambda_od)
        self.lambda_d = (
            self.diagonal_ratio * self.lambda_od if lambda_d is None else _non_negative("lambda_d", lambda_d)
        )
        self.running_covariance = RunningCovariance(n_latent, momentum=momentum)

    def forward(self, codes: Codes, beta: float, fraction: float) -> Penalty:
        covariance = dip_covariance(codes.mean, codes.variance, self.kind, running_covariance=self.running_covariance)
        off_diagonal, diagonal = dip_parts(covariance)
        full = codes.kl.sum(dim=-1).mean() + self.lambda_od * off_diagonal + self.lambda_d * diagonal
        parts = {"dip_off_diagonal": off_diagonal.detach(), "dip_diagonal": diagonal.detach()}
        return Penalty(running=fraction * full, full=full, parts=parts)


class DIPVAEIRegularizer(_DIPRegularizer):
    r"""KL and the covariance of the posterior means, :math:`R = \mathrm{KL} + P(\mathrm{Cov}[\mu])`.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    lambda_od
        Weight of the squared off-diagonal entries, at least 0.
    lambda_d
        Weight of the squared distance of the diagonal from 1, at least 0; ``None`` takes 10 times ``lambda_od``.
    momentum
        Share of a minibatch in the running covariance, in (0, 1]; 1 is the minibatch alone.

    References
    ----------
    :cite:t:`Kumar2018`
    """

    name: ClassVar[str] = "dip_vae_i"
    kind: ClassVar[str] = "i"
    diagonal_ratio: ClassVar[float] = 10.0


class DIPVAEIIRegularizer(_DIPRegularizer):
    r"""KL and the covariance of the codes, :math:`R = \mathrm{KL} + P(\mathrm{Cov}[\mu] + \mathbb{E}[\mathrm{diag} \sigma^2])`.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    lambda_od
        Weight of the squared off-diagonal entries, at least 0.
    lambda_d
        Weight of the squared distance of the diagonal from 1, at least 0; ``None`` takes ``lambda_od``.
    momentum
        Share of a minibatch in the running covariance, in (0, 1]; 1 is the minibatch alone.

    References
    ----------
    :cite:t:`Kumar2018`
    """

    name: ClassVar[str] = "dip_vae_ii"
    kind: ClassVar[str] = "ii"
    diagonal_ratio: ClassVar[float] = 1.0


def _non_negative(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        msg = f"{name}={value!r} in objective_kwargs is not a finite number of at least 0."
        raise ValueError(msg)
    return float(value)
