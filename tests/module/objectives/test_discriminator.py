"""The density-ratio network of FactorVAE."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scbetavae.module import OBJECTIVES
from scbetavae.module.objectives._discriminator import (
    Discriminator,
    discriminator_accuracy,
    discriminator_loss,
    permute_dimensions,
)


def trained_on_gaussians(correlation, n_steps=200):
    """Discriminator of two correlated dimensions, and fresh codes to try it on."""
    torch.manual_seed(0)
    cholesky = torch.linalg.cholesky(torch.tensor([[1.0, correlation], [correlation, 1.0]]))
    discriminator = Discriminator(2, n_hidden=64, n_layers=2)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    for _ in range(n_steps):
        z = torch.randn(256, 2) @ cholesky.T
        loss = discriminator_loss(discriminator(z), discriminator(permute_dimensions(z)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return discriminator, torch.randn(20_000, 2) @ cholesky.T


@pytest.mark.parametrize(("correlation", "total_correlation"), [(0.9, 0.830366), (0.0, 0.0)])
def test_mean_logit_is_the_total_correlation(correlation, total_correlation):
    discriminator, z = trained_on_gaussians(correlation)
    with torch.no_grad():
        logits, permuted = discriminator(z), discriminator(permute_dimensions(z))
    assert logits.mean().item() == pytest.approx(total_correlation, abs=0.1)
    accuracy = discriminator_accuracy(logits, permuted).item()
    assert accuracy > 0.7 if correlation else accuracy == pytest.approx(0.5, abs=0.03)


def test_default_size_and_shape():
    discriminator = Discriminator(10)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 18_049
    assert discriminator(torch.zeros(7, 10)).shape == (7,)
    assert discriminator(torch.zeros(1, 10)).shape == (1,)
    slopes = [layer.negative_slope for layer in discriminator.modules() if isinstance(layer, torch.nn.LeakyReLU)]
    assert slopes == [0.2] * 2
    assert sum(isinstance(layer, torch.nn.Linear) for layer in Discriminator(10, n_layers=6).modules()) == 7


def test_loss_is_the_cross_entropy_of_two_outputs():
    generator = torch.Generator().manual_seed(0)
    joint, permuted = (torch.randn(20, 2, generator=generator) for _ in range(2))
    labels = torch.zeros(20, dtype=torch.long)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = 0.5 * (cross_entropy(joint, labels) + cross_entropy(permuted, labels + 1))
    loss = discriminator_loss(joint[:, 0] - joint[:, 1], permuted[:, 0] - permuted[:, 1])
    torch.testing.assert_close(loss, expected)


def test_loss_of_guessing_is_log_two_and_each_kind_counts_half():
    assert discriminator_loss(torch.zeros(5), torch.zeros(5)).item() == pytest.approx(math.log(2))
    few, many = torch.tensor([1.0]), torch.tensor([1.0] * 9)
    torch.testing.assert_close(discriminator_loss(few, -many), discriminator_loss(many, -few))


def test_sure_logits_keep_a_finite_loss_and_gradient():
    logits = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = discriminator_loss(logits, logits)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(5000.0)
    assert torch.isfinite(gradient).all()
    # The half that is wrong still pulls.
    assert gradient.tolist() == pytest.approx([0.25, -0.25])


def test_gradients_in_double_precision():
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(discriminator_loss, logits)
    discriminator = Discriminator(3, n_hidden=5, n_layers=2).double()
    z = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(discriminator, (z,))


def test_a_step_on_detached_codes_leaves_the_encoder_alone():
    encoder, discriminator = torch.nn.Linear(6, 4), Discriminator(4, n_hidden=8, n_layers=1)
    z = encoder(torch.randn(10, 6, generator=torch.Generator().manual_seed(0)))
    discriminator_loss(discriminator(z.detach()), discriminator(permute_dimensions(z.detach()))).backward()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    discriminator(z).mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


@pytest.mark.parametrize("n_cells", [1, 2])
def test_tiny_minibatches_stay_finite(n_cells):
    discriminator = Discriminator(4, n_hidden=8)
    z = torch.randn(n_cells, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    total_correlation = discriminator(z).mean()
    loss = discriminator_loss(discriminator(z), discriminator(permute_dimensions(z)))
    gradients = torch.autograd.grad(total_correlation + loss, [z, *discriminator.parameters()])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_accuracy_counts_right_answers():
    joint, permuted = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, 1.0])
    assert discriminator_accuracy(joint, permuted).item() == pytest.approx(0.5 * (0.75 + 0.5))
    assert discriminator_accuracy(torch.zeros(3), torch.zeros(3)) == 0.5
    assert not discriminator_accuracy(joint.requires_grad_(), permuted).requires_grad


@settings(max_examples=50, deadline=None)
@given(n_cells=st.integers(1, 40), n_latent=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_permutation_keeps_every_column(n_cells, n_latent, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randint(0, 5, (n_cells, n_latent), generator=generator).double()
    permuted = permute_dimensions(z, generator)
    torch.testing.assert_close(permuted.sort(0).values, z.sort(0).values, rtol=0, atol=0)


def test_permutation_destroys_the_joint():
    z = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 3)
    permuted = permute_dimensions(z, torch.Generator().manual_seed(1))
    correlation = torch.corrcoef(permuted.T) - torch.eye(3)
    assert correlation.abs().max() < 0.1  # sd of a correlation of 2000 independent pairs: .022


def test_permutation_moves_cells_uniformly():
    generator = torch.Generator().manual_seed(0)
    z = torch.arange(3.0)[:, None].expand(-1, 20_000)
    permuted = permute_dimensions(z, generator)
    codes = (permuted * torch.tensor([[9.0], [3.0], [1.0]])).sum(0)
    counts = codes.unique(return_counts=True)[1]
    assert len(counts) == 6
    assert (counts - 20_000 / 6).abs().max() < 5 * (20_000 / 6) ** 0.5


def test_permutation_follows_the_generator():
    z = torch.arange(60.0).reshape(20, 3)
    same = [permute_dimensions(z, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert same[0].equal(same[1])
    assert not same[0].equal(permute_dimensions(z, torch.Generator().manual_seed(4)))
    torch.manual_seed(5)
    first = permute_dimensions(z)
    torch.manual_seed(5)
    assert first.equal(permute_dimensions(z))


def test_permutation_passes_gradients():
    z = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: permute_dimensions(z, torch.Generator().manual_seed(0)), (z,))


def test_encoder_step_of_factor_vae_leaves_no_gradient_in_the_discriminator(make_posterior):
    objective, posterior = OBJECTIVES["factor_vae"](4, gamma=3.0).double(), make_posterior(requires_grad=True)
    objective(posterior, 6.0, 1.0).running.backward()
    assert all(p.grad is None for p in objective.discriminator.parameters())
    assert posterior.mean.grad.abs().sum() > 0


def test_discriminator_step_leaves_no_gradient_in_the_posterior(make_posterior):
    objective, posterior = OBJECTIVES["factor_vae"](4, gamma=3.0).double(), make_posterior(requires_grad=True)
    loss, accuracy = objective.discriminator_step(posterior.z, torch.Generator().manual_seed(0))
    loss.backward()
    assert posterior.mean.grad is None
    assert posterior.variance.grad is None
    assert all(p.grad.abs().sum() > 0 for p in objective.discriminator.parameters())
    assert 0 <= accuracy <= 1


def test_discriminator_learns_the_total_correlation_of_gaussian_codes():
    """TC of a Gaussian of correlation .9 is .830 nats: the mean logit comes near it, and near 0 on shuffled codes."""
    torch.manual_seed(0)
    objective = OBJECTIVES["factor_vae"](2, gamma=1.0)
    optimizer = torch.optim.Adam(objective.discriminator.parameters(), lr=3e-3)
    factor = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        z = torch.randn(256, 2, generator=generator) @ factor.T
        loss, _ = objective.discriminator_step(z, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = torch.randn(20_000, 2, generator=generator) @ factor.T
    with torch.no_grad():
        assert objective.discriminator(z).mean() == pytest.approx(0.830, abs=0.12)
        assert objective.discriminator(permute_dimensions(z, generator)).mean() < 0


def test_making_a_discriminator_draws_no_random_number_of_others():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    OBJECTIVES["factor_vae"](4)
    assert torch.rand(1) == expected
