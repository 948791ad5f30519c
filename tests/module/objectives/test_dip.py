"""The penalty of DIP-VAE against known covariances, and the covariance carried over minibatches."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scbetavae.module import OBJECTIVES
from scbetavae.module.objectives._dip import RunningCovariance, dip_parts, minibatch_covariance


def dip_covariance(mean, variance, kind, *, running_covariance=None):
    """The covariance that DIP-VAE-I or -II regularizes."""
    of_means = minibatch_covariance(mean) if running_covariance is None else running_covariance(mean)
    return OBJECTIVES[f"dip_vae_{kind}"].regularized(of_means, variance)


def dip_penalty(mean, variance, kind, lambda_od, lambda_d, *, running_covariance=None):
    """Its weighted distance from the identity."""
    parts = dip_parts(dip_covariance(mean, variance, kind, running_covariance=running_covariance))
    return lambda_od * parts[0] + lambda_d * parts[1]


def posterior(n_cells, n_latent, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n_cells, n_latent, generator=generator, dtype=dtype)
    variance = 0.1 + torch.rand(n_cells, n_latent, generator=generator, dtype=dtype)
    return mean.requires_grad_(), variance.requires_grad_()


def codes(n_cells, n_latent, generator, dtype=torch.float32):
    return torch.randn(n_cells, n_latent, generator=generator, dtype=dtype)


def covariance(mean):
    return torch.cov(mean.T, correction=0).reshape(mean.shape[1], mean.shape[1])


def test_first_minibatch_counts_in_full():
    mean = codes(16, 4, torch.Generator().manual_seed(0))
    running_covariance = RunningCovariance(4)
    assert (running_covariance.covariance == 0).all()
    torch.testing.assert_close(running_covariance(mean), covariance(mean))
    torch.testing.assert_close(running_covariance.covariance, covariance(mean))


def test_average_of_two_minibatches_by_hand():
    generator = torch.Generator().manual_seed(0)
    first, second = codes(11, 3, generator), codes(5, 3, generator)
    running_covariance = RunningCovariance(3, momentum=0.2)
    running_covariance(first)
    old, new = 0.8 * 0.2 * 10, 0.2 * 4
    expected = (old * covariance(first) + new * covariance(second)) / (old + new)
    torch.testing.assert_close(running_covariance(second), expected)


def test_momentum_one_is_the_minibatch_alone():
    generator = torch.Generator().manual_seed(0)
    running_covariance = RunningCovariance(3, momentum=1.0)
    for _ in range(3):
        mean = codes(9, 3, generator)
        torch.testing.assert_close(running_covariance(mean), covariance(mean))


def test_estimate_approaches_the_truth_and_lowers_the_noise_floor():
    generator = torch.Generator().manual_seed(0)
    variance = torch.ones(128, 10)
    running_covariance = RunningCovariance(10)
    alone, running = [], []
    for step in range(300):
        mean = codes(128, 10, generator)
        parts = dip_parts(dip_covariance(mean, variance, "i", running_covariance=running_covariance))
        if step >= 50:
            alone.append(dip_parts(dip_covariance(mean, variance, "i"))[0].item())
            running.append(parts[0].item())
    floor = sum(alone) / len(alone)
    assert floor == pytest.approx(10 * 9 / 128, rel=0.1)
    assert sum(running) / len(running) == pytest.approx(floor * 0.1 / 1.9, rel=0.3)
    torch.testing.assert_close(running_covariance.covariance, torch.eye(10), atol=0.15, rtol=0)


def test_gradient_is_that_of_the_penalty_at_the_running_covariance():
    generator = torch.Generator().manual_seed(0)
    running_covariance = RunningCovariance(4).double()
    for _ in range(5):
        running_covariance(codes(32, 4, generator, torch.float64))
    mean = codes(32, 4, generator, torch.float64).requires_grad_()
    variance = torch.ones_like(mean)
    penalty = dip_penalty(mean, variance, "i", 2.0, 5.0, running_covariance=running_covariance)
    (gradient,) = torch.autograd.grad(penalty, mean)

    at_running = running_covariance.covariance.clone().requires_grad_()
    off_diagonal, diagonal = dip_parts(at_running)
    (slope,) = torch.autograd.grad(2 * off_diagonal + 5 * diagonal, at_running)
    (expected,) = torch.autograd.grad((slope * covariance(mean)).sum(), mean)
    torch.testing.assert_close(gradient, expected)


def test_gradient_does_not_shrink_with_the_momentum():
    # Every minibatch has the same covariance: the running penalty and its gradient are those of the minibatch alone.
    mean = codes(32, 4, torch.Generator().manual_seed(0), torch.float64).requires_grad_()
    variance = torch.ones_like(mean)
    (alone,) = torch.autograd.grad(dip_penalty(mean, variance, "i", 1.0, 1.0), mean)
    for momentum in (0.01, 0.1, 1.0):
        running_covariance = RunningCovariance(4, momentum=momentum).double()
        for _ in range(3):
            penalty = dip_penalty(mean, variance, "i", 1.0, 1.0, running_covariance=running_covariance)
        (running,) = torch.autograd.grad(penalty, mean)
        torch.testing.assert_close(running, alone)


def test_noise_no_longer_shrinks_independent_codes():
    # The slope of the off-diagonal penalty along "scale all means": floor of the minibatch alone, next to none here.
    generator = torch.Generator().manual_seed(0)
    running_covariance = RunningCovariance(10)
    slopes = {"alone": 0.0, "running": 0.0}
    for step in range(150):
        scale = torch.ones((), requires_grad=True)
        mean = scale * codes(128, 10, generator)
        alone = dip_parts(dip_covariance(mean, torch.ones(128, 10), "i"))[0]
        running = dip_parts(dip_covariance(mean, torch.ones(128, 10), "i", running_covariance=running_covariance))[0]
        if step >= 50:
            slopes["alone"] += torch.autograd.grad(alone, scale, retain_graph=True)[0].item() / 100
            slopes["running"] += torch.autograd.grad(running, scale)[0].item() / 100
    assert slopes["alone"] == pytest.approx(4 * 90 / 128, rel=0.1)
    assert abs(slopes["running"]) < 0.2 * slopes["alone"]


def test_training_by_it_decorrelates():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        mixing.weight.copy_(torch.full((4, 4), 0.4) + 0.6 * torch.eye(4))
    running_covariance = RunningCovariance(4)
    optimizer = torch.optim.Adam(mixing.parameters(), lr=1e-2)
    for _ in range(400):
        penalty = dip_penalty(
            mixing(codes(64, 4, generator)), torch.ones(64, 4), "i", 1.0, 1.0, running_covariance=running_covariance
        )
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
    torch.testing.assert_close(mixing.weight @ mixing.weight.T, torch.eye(4), atol=0.1, rtol=0)


def test_one_cell_leaves_the_estimate_untouched():
    running_covariance = RunningCovariance(4)
    mean = codes(1, 4, torch.Generator().manual_seed(1)).requires_grad_()
    first = running_covariance(mean)
    assert (first == 0).all()
    running_covariance(codes(16, 4, torch.Generator().manual_seed(0)))
    before = copy.deepcopy(running_covariance.state_dict())
    value = running_covariance(mean)
    torch.testing.assert_close(value, running_covariance.covariance)
    torch.testing.assert_close(running_covariance.state_dict(), before, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(value.sum() + first.sum(), mean)
    assert (gradient == 0).all()


@pytest.mark.parametrize("n_cells", [1, 2])
@pytest.mark.parametrize("kind", ["i", "ii"])
def test_tiny_minibatches_stay_finite(n_cells, kind):
    generator = torch.Generator().manual_seed(0)
    running_covariance = RunningCovariance(10)
    for _ in range(3):
        mean = codes(n_cells, 10, generator).requires_grad_()
        variance = torch.ones(n_cells, 10, requires_grad=True)
        penalty = dip_penalty(mean, variance, kind, 10.0, 10.0, running_covariance=running_covariance)
        gradients = torch.autograd.grad(penalty, (mean, variance), allow_unused=True)
        assert all(torch.isfinite(tensor).all() for tensor in (penalty, *gradients) if tensor is not None)


def test_evaluation_uses_and_does_not_store():
    generator = torch.Generator().manual_seed(0)
    running_covariance = RunningCovariance(4)
    running_covariance(codes(16, 4, generator))
    before = copy.deepcopy(running_covariance.state_dict())
    mean = codes(16, 4, generator)
    in_training = copy.deepcopy(running_covariance)(mean)
    running_covariance.eval()
    torch.testing.assert_close(running_covariance(mean), in_training)
    torch.testing.assert_close(running_covariance.state_dict(), before, rtol=0, atol=0)
    unseen = RunningCovariance(4).eval()
    torch.testing.assert_close(unseen(mean), covariance(mean))


def test_state_survives_saving():
    generator = torch.Generator().manual_seed(0)
    running_covariance = RunningCovariance(4)
    for _ in range(3):
        running_covariance(codes(16, 4, generator))
    restored = RunningCovariance(4)
    restored.load_state_dict(running_covariance.state_dict())
    mean = codes(16, 4, generator)
    torch.testing.assert_close(restored(mean), running_covariance(mean), rtol=0, atol=0)


def test_the_graph_ends_at_the_minibatch():
    generator = torch.Generator().manual_seed(0)
    running_covariance = RunningCovariance(4)
    for _ in range(2):
        # A graph kept over minibatches would fail at the second backward pass.
        running_covariance(codes(16, 4, generator).requires_grad_()).sum().backward()
    assert not running_covariance.covariance.requires_grad


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
@pytest.mark.parametrize("kind", ["i", "ii"])
def test_gradients_in_double_precision(n_cells, kind):
    assert torch.autograd.gradcheck(lambda m, v: dip_penalty(m, v, kind, 2.0, 5.0), posterior(n_cells, 3))


@pytest.mark.parametrize("kind", ["i", "ii"])
@pytest.mark.parametrize("n_cells", [1, 2])
def test_tiny_minibatches_alone_stay_finite(kind, n_cells):
    mean, variance = posterior(n_cells, 10, dtype=torch.float32)
    penalty = dip_penalty(mean, variance, kind, 10.0, 100.0)
    gradients = torch.autograd.grad(penalty, (mean, variance), allow_unused=True)
    assert all(torch.isfinite(tensor).all() for tensor in (penalty, *gradients) if tensor is not None)
