"""KL, capacity, DIP and permutation, against closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scbetavae.module import (
    capacity_penalty,
    dip_covariance,
    dip_parts,
    dip_penalty,
    gaussian_kl,
    permute_dimensions,
)


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


@pytest.mark.parametrize(
    ("covariance", "penalty"),
    [(torch.ones(10, 10), 90), (torch.zeros(10, 10), 10), (torch.eye(10), 0), (2 * torch.eye(10), 10)],
    ids=["ones", "zeros", "identity", "twice the identity"],
)
def test_dip_of_a_known_covariance(covariance, penalty):
    off_diagonal, diagonal = dip_parts(covariance)
    assert off_diagonal + diagonal == penalty
    # The same through means that have exactly this covariance: orthogonal +-1 columns, times a root of it.
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 10)
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    mean = signs @ (eigenvectors * eigenvalues.clamp_min(0).sqrt()).T + 3.0
    variance = torch.ones_like(mean)
    assert dip_penalty(mean, variance, "i", 1.0, 1.0).item() == pytest.approx(penalty, abs=1e-3)
    torch.testing.assert_close(dip_covariance(mean, variance, "ii"), covariance + torch.eye(10), atol=1e-4, rtol=0)


def test_dip_weights_its_parts():
    mean, variance = posterior(30, 5)
    for kind in ("i", "ii"):
        off_diagonal, diagonal = dip_parts(dip_covariance(mean, variance, kind))
        torch.testing.assert_close(dip_penalty(mean, variance, kind, 3.0, 30.0), 3 * off_diagonal + 30 * diagonal)
        assert dip_penalty(mean, variance, kind, 0.0, 0.0) == 0


def test_dip_adds_the_mean_variance_to_the_diagonal_alone():
    mean, variance = posterior(30, 5)
    first, second = (dip_covariance(mean, variance, kind) for kind in ("i", "ii"))
    torch.testing.assert_close(second - first, torch.diag(variance.mean(0)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_dip_ii_off_diagonal_ignores_the_posterior_variance(seed, scale):
    mean, variance = posterior(12, 4, seed=seed)
    parts = [dip_parts(dip_covariance(mean, v, "ii")) for v in (variance, scale * variance, variance.flip(0, 1))]
    for off_diagonal, _ in parts[1:]:
        torch.testing.assert_close(off_diagonal, parts[0][0])
    (gradient,) = torch.autograd.grad(parts[0][0], variance)
    assert (gradient == 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50))
def test_dip_ignores_the_position_of_the_means(seed, shift):
    mean, variance = posterior(12, 4, seed=seed)
    torch.testing.assert_close(dip_penalty(mean + shift, variance, "i", 2, 3), dip_penalty(mean, variance, "i", 2, 3))


@pytest.mark.parametrize("n_cells", [1, 2, 7])
def test_gradients_in_double_precision(n_cells):
    mean, variance = posterior(n_cells, 3)

    def capacity_above(mean, variance):
        return capacity_penalty(gaussian_kl(mean, variance).sum(1), 50.0, 10.0)

    def capacity_below(mean, variance):
        return capacity_penalty(gaussian_kl(mean, variance).sum(1), 0.0, 10.0)

    assert torch.autograd.gradcheck(gaussian_kl, (mean, variance))
    assert torch.autograd.gradcheck(capacity_above, (mean, variance))
    assert torch.autograd.gradcheck(capacity_below, (mean, variance))
    for kind in ("i", "ii"):
        assert torch.autograd.gradcheck(lambda m, v, kind=kind: dip_penalty(m, v, kind, 2.0, 5.0), (mean, variance))
    assert torch.autograd.gradcheck(lambda m: permute_dimensions(m, torch.Generator().manual_seed(0)), (mean,))


@pytest.mark.parametrize("kind", ["i", "ii"])
@pytest.mark.parametrize("n_cells", [1, 2])
def test_tiny_minibatches_stay_finite(kind, n_cells):
    mean, variance = posterior(n_cells, 10, dtype=torch.float32)
    kl = gaussian_kl(mean, variance).sum(1)
    penalty = dip_penalty(mean, variance, kind, 10.0, 100.0) + capacity_penalty(kl, 5.0, 10.0)
    gradients = torch.autograd.grad(penalty, (mean, variance))
    assert all(torch.isfinite(tensor).all() for tensor in (penalty, *gradients))


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


def test_refusals():
    codes = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"mean has shape \(4, 2\) and variance \(4, 1\)"):
        gaussian_kl(codes, codes[:, :1])
    with pytest.raises(ValueError, match=r"kl has shape \(4, 2\); expected \(n_cells,\)"):
        capacity_penalty(codes, 5.0, 10.0)
    with pytest.raises(ValueError, match=r"kl has shape \(0,\)"):
        capacity_penalty(codes[:0, 0], 5.0, 10.0)
    with pytest.raises(ValueError, match="capacity is -1"):
        capacity_penalty(codes[:, 0], -1, 10.0)
    with pytest.raises(ValueError, match="gamma is nan"):
        capacity_penalty(codes[:, 0], 1, float("nan"))
    with pytest.raises(ValueError, match="kind is 'II'; expected one of 'i', 'ii'"):
        dip_penalty(codes, codes, "II", 1.0, 1.0)
    with pytest.raises(ValueError, match="lambda_d is -2"):
        dip_penalty(codes, codes, "i", 1.0, -2.0)
    with pytest.raises(ValueError, match=r"mean \(4, 2\), variance \(4, 1\)"):
        dip_penalty(codes, codes[:, :1], "i", 1.0, 1.0)
    with pytest.raises(ValueError, match="expected a square matrix"):
        dip_parts(codes)
    for bad in (codes[0], codes[None], codes[:0]):
        with pytest.raises(ValueError, match="expected one common"):
            permute_dimensions(bad)
