"""KL and capacity, against closed forms."""

import pytest
import torch

from scbetavae.module.objectives._beta_vae import gaussian_kl
from scbetavae.module.objectives._capacity import capacity_penalty


def posterior(n_cells, n_latent, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n_cells, n_latent, generator=generator, dtype=dtype)
    variance = 0.1 + torch.rand(n_cells, n_latent, generator=generator, dtype=dtype)
    return mean.requires_grad_(), variance.requires_grad_()


@pytest.mark.parametrize(("mean", "log_variance", "kl"), [(0.0, 0.0, 0.0), (1.0, 0.0, 5.0), (1.0, 1.0, 8.5914)])
def test_kl_of_ten_dimensions(mean, log_variance, kl):
    values = gaussian_kl(torch.full((3, 10), mean), torch.full((3, 10), log_variance).exp())
    assert values.shape == (3, 10)
    assert values.sum(1).tolist() == pytest.approx([kl] * 3, abs=1e-4)


def test_kl_equals_torch():
    mean, variance = posterior(20, 4)
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(mean, variance.sqrt()), prior)
    torch.testing.assert_close(gaussian_kl(mean, variance), expected)


def test_capacity_holds_the_mean_over_cells_not_each_cell():
    # Cells away from the capacity on both sides cost nothing when their mean is on it.
    assert capacity_penalty(torch.tensor([0.0, 10.0]), 5.0, 100.0) == 0
    assert capacity_penalty(torch.tensor([2.0, 2.0]), 5.0, 10.0) == 30
    assert capacity_penalty(torch.tensor([8.0, 8.0]), 5.0, 10.0) == 30


def test_capacity_zero_and_gamma_one_is_the_kl():
    mean, variance = posterior(20, 4)
    kl = gaussian_kl(mean, variance).sum(1)
    torch.testing.assert_close(capacity_penalty(kl, 0.0, 1.0), kl.mean())


@pytest.mark.parametrize("n_cells", [1, 2, 7])
def test_gradients_in_double_precision(n_cells):
    mean, variance = posterior(n_cells, 3)

    def capacity_above(mean, variance):
        return capacity_penalty(gaussian_kl(mean, variance).sum(1), 50.0, 10.0)

    def capacity_below(mean, variance):
        return capacity_penalty(gaussian_kl(mean, variance).sum(1), 0.0, 10.0)

    for function in (gaussian_kl, capacity_above, capacity_below):
        assert torch.autograd.gradcheck(function, (mean, variance))


@pytest.mark.parametrize("n_cells", [1, 2])
def test_tiny_minibatches_stay_finite(n_cells):
    mean, variance = posterior(n_cells, 10, dtype=torch.float32)
    penalty = capacity_penalty(gaussian_kl(mean, variance).sum(1), 5.0, 10.0)
    gradients = torch.autograd.grad(penalty, (mean, variance))
    assert all(torch.isfinite(tensor).all() for tensor in (penalty, *gradients))
