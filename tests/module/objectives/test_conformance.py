"""Every objective, from its record: values, gradients, tiny minibatches, its neutral setting and what it logs."""

import pytest
import torch

from scbetavae.module import OBJECTIVES, BetaVAEModule, Objective, Posterior, total_correlation_terms
from scbetavae.module.objectives._beta_vae import gaussian_kl
from scbetavae.module.objectives._capacity import capacity_penalty
from scbetavae.module.objectives._dip import dip_parts, minibatch_covariance

ARGUMENTS = {
    "beta_vae": {},
    "beta_tcvae": {},
    "capacity": {"capacity": 3.0, "gamma": 7.0},
    "dip_vae_i": {"lambda_od": 2.0},
    "dip_vae_ii": {"lambda_od": 2.0, "lambda_d": 0.5},
    "factor_vae": {"gamma": 3.0},
}
BY_PLAN = {"discriminator_loss", "discriminator_accuracy"}  # logged by the plan that trains the discriminator


def build(name):
    return OBJECTIVES[name](4, **ARGUMENTS[name]).double()


def dip_penalty(posterior, diagonal_of_variance, lambda_od, lambda_d):
    covariance = minibatch_covariance(posterior.mean)
    if diagonal_of_variance:
        covariance = covariance + torch.diag(posterior.variance.mean(0))
    off_diagonal, diagonal = dip_parts(covariance)
    return lambda_od * off_diagonal + lambda_d * diagonal


def test_no_objective_is_left_out():
    assert set(ARGUMENTS) == set(OBJECTIVES)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_record_is_complete(name):
    cls = OBJECTIVES[name]
    assert issubclass(cls, Objective)
    assert cls.name == name
    assert cls.title
    assert cls.reference in cls.__doc__
    assert all(parameter.check(parameter.default, key) == parameter.default for key, parameter in cls.arguments.items())
    assert all(key in cls.__doc__ for key in cls.arguments)
    assert set(cls.neutral) <= {"beta", *cls.arguments}
    assert all(title and unit for title, unit in cls.history.values())
    assert cls.has_discriminator == any("discriminator" in key for key in cls.history)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_values_are_those_of_the_definitions(name, make_posterior):
    objective, posterior, beta, fraction = build(name), make_posterior(), 6.0, 0.25
    kl = posterior.kl.sum(1).mean()
    if name == "beta_vae":
        full = beta * kl
    elif name == "beta_tcvae":
        terms = total_correlation_terms(posterior.z, posterior.mean, posterior.variance, 1000)
        full = kl + 5.0 * terms.total_correlation
    elif name == "capacity":
        full = capacity_penalty(posterior.kl.sum(1), 3.0, 7.0)
    elif name == "factor_vae":
        full = kl + 3.0 * objective.discriminator(posterior.z).mean()
    else:
        full = kl + dip_penalty(posterior, name == "dip_vae_ii", 2.0, 20.0 if name == "dip_vae_i" else 0.5)
    running = fraction * full
    if name == "capacity":
        running = fraction * capacity_penalty(posterior.kl.sum(1), 0.25 * 3.0, 7.0)
    penalty = objective(posterior, beta, fraction)
    torch.testing.assert_close(penalty.full, full)
    torch.testing.assert_close(penalty.running, running)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_parts_are_those_of_the_record_without_gradient(name, make_posterior):
    parts = build(name)(make_posterior(requires_grad=True), 6.0, 0.25).parts
    assert all(value.ndim == 0 and not value.requires_grad for value in parts.values())
    assert set(parts) == set(OBJECTIVES[name].history) - BY_PLAN


@pytest.mark.parametrize("name", ARGUMENTS)
def test_neutral_setting_is_the_kl(name, make_posterior):
    settings = dict(OBJECTIVES[name].neutral)
    beta = settings.pop("beta", 1.0)
    posterior = make_posterior()
    penalty = OBJECTIVES[name](4, **settings).double()(posterior, beta, 1.0)
    torch.testing.assert_close(penalty.running, posterior.kl.sum(1).mean())


@pytest.mark.parametrize("name", ARGUMENTS)
def test_neutral_setting_gives_the_loss_of_a_plain_vae(name):
    settings = dict(OBJECTIVES[name].neutral)
    beta = settings.pop("beta", None)
    counts = torch.poisson(torch.full((6, 12), 3.0), generator=torch.Generator().manual_seed(0))
    tensors = {"X": counts, "batch": torch.zeros(6, 1, dtype=torch.long), "labels": torch.zeros(6, 1, dtype=torch.long)}
    losses = []
    for arguments in ({"objective": "beta_vae", "beta": 1.0}, {"objective": name, "beta": beta}):
        kwargs = settings if arguments["objective"] == name else {}
        torch.manual_seed(0)
        module = BetaVAEModule(12, n_latent=4, objective_kwargs=kwargs, **arguments)
        losses.append(module(tensors)[2].loss)
    torch.testing.assert_close(losses[1], losses[0])


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize(("n_cells", "n_obs"), [(1, 1000), (2, 1000), (1, 1), (2, 1), (16, 3)])
def test_tiny_minibatches_are_finite_with_finite_gradients(name, n_cells, n_obs, make_posterior):
    posterior = make_posterior(n_cells=n_cells, n_obs=n_obs, requires_grad=True)
    penalty = build(name)(posterior, 6.0, 0.5)
    penalty.running.backward()
    gradients = (posterior.mean.grad, posterior.variance.grad)
    for value in (penalty.running, penalty.full, *penalty.parts.values(), *gradients):
        assert value.isfinite().all()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_gradients_are_those_of_finite_differences(name):
    objective = build(name).eval()
    noise = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def value(mean, log_variance):
        variance = log_variance.exp()
        posterior = Posterior(mean + variance.sqrt() * noise, mean, variance, gaussian_kl(mean, variance), 50)
        return objective(posterior, 6.0, 0.5).running

    if name.startswith("dip"):  # the gradient of a running covariance is not that of its value, by design
        objective.running_covariance.momentum = 1.0
    generator = torch.Generator().manual_seed(2)
    mean = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    log_variance = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(value, (mean, log_variance))
