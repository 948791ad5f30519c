"""What the tests of objectives share: posteriors of a minibatch, and an objective from outside the package."""

import pytest
import torch

from scbetavae.module import OBJECTIVES, BetaVAEModule, Objective, Parameter, Penalty, Posterior, register_objective


@pytest.fixture
def make_posterior():
    """Function that makes the posterior of a minibatch in double precision, with gradients if asked for."""

    def make(n_cells=16, n_latent=4, n_obs=1000, requires_grad=False):
        generator = torch.Generator().manual_seed(0)
        mean = torch.randn(n_cells, n_latent, generator=generator, dtype=torch.float64).requires_grad_(requires_grad)
        variance = torch.rand(n_cells, n_latent, generator=generator, dtype=torch.float64) + 0.1
        variance.requires_grad_(requires_grad)
        noise = torch.randn(n_cells, n_latent, generator=generator, dtype=torch.float64)
        kl = BetaVAEModule.kl_divergence(torch.distributions.Normal(mean, variance.sqrt()))
        return Posterior(mean + variance.sqrt() * noise, mean, variance, kl, n_obs)

    return make


@pytest.fixture
def toy():
    """An objective of a user's, registered for one test: KL, and a penalty on the means that it logs."""

    @register_objective
    class Toy(Objective):
        name = "toy"
        title = "Toy"
        uses_beta = True
        arguments = {"weight": Parameter(1.0), "kind": Parameter("square", choices=("square", "absolute"))}
        history = {"distance": ("Distance of the means from 0", "squared")}
        neutral = {"beta": 1.0, "weight": 0.0}

        def forward(self, posterior, beta, fraction):
            mean = posterior.mean.mean(dim=0)
            distance = (mean.square() if self.kind == "square" else mean.abs()).sum()
            full = beta * posterior.kl.sum(dim=1).mean() + self.weight * distance
            return Penalty.annealed(full, fraction, distance=distance)

    yield Toy
    OBJECTIVES.pop("toy", None)
