"""The density-ratio network of FactorVAE."""

import math

import pytest
import torch

from scbetavae.module import Discriminator, discriminator_accuracy, discriminator_loss, permute_dimensions


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


def test_refusals():
    with pytest.raises(ValueError, match="n_hidden is 0"):
        Discriminator(4, n_hidden=0)
    with pytest.raises(ValueError, match="n_latent is 0"):
        Discriminator(0)
    with pytest.raises(ValueError, match=r"z has shape \(5, 3\); expected \(n_cells, 4\)"):
        Discriminator(4)(torch.zeros(5, 3))
    for function in (discriminator_loss, discriminator_accuracy):
        with pytest.raises(ValueError, match=r"logits_joint has shape \(5, 2\)"):
            function(torch.zeros(5, 2), torch.zeros(5))
        with pytest.raises(ValueError, match=r"logits_permuted has shape \(0,\)"):
            function(torch.zeros(5), torch.zeros(0))
