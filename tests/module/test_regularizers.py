import pytest
import torch

from scbetavae.module import (
    capacity_penalty,
    dip_penalty,
    gaussian_kl,
    make_regularizer,
    permute_dimensions,
    total_correlation_terms,
)
from scbetavae.module._regularizers import Codes

ARGUMENTS = {
    "beta_vae": {},
    "beta_tcvae": {},
    "capacity": {"capacity": 3.0, "gamma": 7.0},
    "dip_vae_i": {"lambda_od": 2.0},
    "dip_vae_ii": {"lambda_od": 2.0, "lambda_d": 0.5},
    "factor_vae": {"gamma": 3.0},
}


def codes(n_cells=16, n_latent=4, n_obs=1000, dtype=torch.float64, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(n_cells, n_latent, generator=generator, dtype=dtype)
    variance = torch.rand(n_cells, n_latent, generator=generator, dtype=dtype) + 0.1
    noise = torch.randn(n_cells, n_latent, generator=generator, dtype=dtype)
    if requires_grad:
        mean.requires_grad_()
        variance.requires_grad_()
    z = mean + variance.sqrt() * noise
    return Codes(z, mean, variance, gaussian_kl(mean, variance), n_obs)


def build(objective):
    return make_regularizer(objective, 4, ARGUMENTS[objective]).double()


@pytest.mark.parametrize("objective", ARGUMENTS)
def test_values_are_those_of_the_pure_functions(objective):
    regularizer, c, beta, fraction = build(objective), codes(), 6.0, 0.25
    kl = c.kl.sum(1).mean()
    if objective == "beta_vae":
        full = beta * kl
        running = fraction * full
    elif objective == "beta_tcvae":
        full = kl + 5.0 * total_correlation_terms(c.z, c.mean, c.variance, 1000).total_correlation
        running = fraction * full
    elif objective == "capacity":
        full = capacity_penalty(c.kl.sum(1), 3.0, 7.0)
        running = fraction * capacity_penalty(c.kl.sum(1), 0.25 * 3.0, 7.0)
    elif objective == "factor_vae":
        full = kl + 3.0 * regularizer.discriminator(c.z).mean()
        running = fraction * full
    else:
        weights = (2.0, 20.0) if objective == "dip_vae_i" else (2.0, 0.5)
        full = kl + dip_penalty(c.mean, c.variance, objective.removeprefix("dip_vae_"), *weights)
        running = fraction * full
    penalty = regularizer(c, beta, fraction)
    torch.testing.assert_close(penalty.full, full)
    torch.testing.assert_close(penalty.running, running)


@pytest.mark.parametrize("objective", ARGUMENTS)
def test_parts_are_scalars_without_gradient(objective):
    parts = build(objective)(codes(requires_grad=True), 6.0, 0.25).parts
    assert all(value.ndim == 0 and not value.requires_grad for value in parts.values())
    expected = {
        "beta_vae": set(),
        "beta_tcvae": {"mutual_information", "total_correlation", "dimension_kl"},
        "capacity": {"capacity"},
        "factor_vae": {"total_correlation"},
        "dip_vae_i": {"dip_off_diagonal", "dip_diagonal"},
        "dip_vae_ii": {"dip_off_diagonal", "dip_diagonal"},
    }
    assert set(parts) == expected[objective]


@pytest.mark.parametrize("objective", ARGUMENTS)
@pytest.mark.parametrize(("n_cells", "n_obs"), [(1, 1000), (2, 1000), (1, 1), (2, 1), (16, 3)])
def test_tiny_minibatches_are_finite_with_finite_gradients(objective, n_cells, n_obs):
    c = codes(n_cells=n_cells, n_obs=n_obs, requires_grad=True)
    penalty = build(objective)(c, 6.0, 0.5)
    penalty.running.backward()
    for value in (penalty.running, penalty.full, *penalty.parts.values(), c.mean.grad, c.variance.grad):
        assert value.isfinite().all()


@pytest.mark.parametrize("objective", ARGUMENTS)
def test_gradients_are_those_of_finite_differences(objective):
    regularizer = build(objective).eval()
    noise = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def value(mean, log_variance):
        variance = log_variance.exp()
        c = Codes(mean + variance.sqrt() * noise, mean, variance, gaussian_kl(mean, variance), 50)
        return regularizer(c, 6.0, 0.5).running

    if objective.startswith("dip"):  # the gradient of a running covariance is not that of its value, by design
        regularizer.running_covariance.momentum = 1.0
    generator = torch.Generator().manual_seed(2)
    mean = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    log_variance = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(value, (mean, log_variance))


def test_encoder_step_of_factor_vae_leaves_no_gradient_in_the_discriminator():
    regularizer, c = build("factor_vae"), codes(requires_grad=True)
    regularizer(c, 6.0, 1.0).running.backward()
    assert all(p.grad is None for p in regularizer.discriminator.parameters())
    assert c.mean.grad.abs().sum() > 0


def test_discriminator_step_leaves_no_gradient_in_the_codes():
    regularizer, c = build("factor_vae"), codes(requires_grad=True)
    loss, accuracy = regularizer.discriminator_step(c.z, torch.Generator().manual_seed(0))
    loss.backward()
    assert c.mean.grad is None
    assert c.variance.grad is None
    assert all(p.grad.abs().sum() > 0 for p in regularizer.discriminator.parameters())
    assert 0 <= accuracy <= 1


def test_discriminator_learns_the_total_correlation_of_gaussian_codes():
    """TC of a Gaussian of correlation .9 is .830 nats: the mean logit comes near it, and near 0 on shuffled codes."""
    torch.manual_seed(0)
    regularizer = make_regularizer("factor_vae", 2, {"gamma": 1.0})
    optimizer = torch.optim.Adam(regularizer.discriminator.parameters(), lr=3e-3)
    factor = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        z = torch.randn(256, 2, generator=generator) @ factor.T
        loss, _ = regularizer.discriminator_step(z, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = torch.randn(20_000, 2, generator=generator) @ factor.T
    with torch.no_grad():
        assert regularizer.discriminator(z).mean() == pytest.approx(0.830, abs=0.12)
        assert regularizer.discriminator(permute_dimensions(z, generator)).mean() < 0


def test_making_a_discriminator_draws_no_random_number_of_others():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    make_regularizer("factor_vae", 4)
    assert torch.rand(1) == expected
