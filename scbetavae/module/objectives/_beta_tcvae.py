"""Beta-TCVAE: more weight on the total correlation, estimated in the minibatch."""

from __future__ import annotations

from ._objective import Objective, Parameter, Penalty, Posterior
from ._registry import register_objective
from ._total_correlation import ESTIMATORS, total_correlation_terms


@register_objective
class BetaTCVAE(Objective):
    r"""KL with a larger weight on the total correlation between dimensions.

    .. math:: R = \mathrm{KL} + (\beta - 1) \, \mathrm{TC}(z)

    Argument: ``estimator``, ``"mss"`` or ``"mws"``, see :func:`total_correlation_terms`. Source: :cite:t:`Chen2018`.
    """

    name = "beta_tcvae"
    title = "beta-TCVAE"
    reference = "Chen2018"
    uses_beta = True
    needs_gaussian_posterior = True
    arguments = {"estimator": Parameter("mss", choices=ESTIMATORS)}
    history = {
        "mutual_information": ("Mutual information", "nats per cell"),
        "total_correlation": ("Total correlation", "nats per cell"),
        "dimension_kl": ("KL of the dimensions", "nats per cell"),
    }
    neutral = {"beta": 1.0}

    def forward(self, posterior: Posterior, beta: float, fraction: float) -> Penalty:
        z, mean, variance = posterior.z, posterior.mean, posterior.variance
        terms = total_correlation_terms(z, mean, variance, posterior.n_obs, estimator=self.estimator)
        full = posterior.kl.sum(dim=-1).mean() + (beta - 1.0) * terms.total_correlation
        return Penalty.annealed(full, fraction, **terms._asdict())
