"""Total correlation in a minibatch, against Gaussians whose total correlation is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from scbetavae.module import total_correlation_terms
from scbetavae.module.objectives._beta_vae import gaussian_kl
from scbetavae.module.objectives._total_correlation import mss_log_weights

ESTIMATORS = ("mss", "mws")


def gaussian_total_correlation(covariance):
    """-1/2 log det of the correlation matrix, nats."""
    sd = covariance.diagonal().sqrt()
    return -0.5 * torch.logdet(covariance / sd[:, None] / sd[None, :])


def equicorrelation(n_latent, correlation):
    return torch.full((n_latent, n_latent), correlation) + (1 - correlation) * torch.eye(n_latent)


def gaussian_codes(n_cells, covariance, sd, generator):
    """Posterior of a minibatch whose means are Gaussian: (z, mean, variance)."""
    n_latent = len(covariance)
    cholesky = torch.linalg.cholesky(covariance)
    mean = torch.randn(n_cells, n_latent, generator=generator) @ cholesky.T
    z = mean + sd * torch.randn(n_cells, n_latent, generator=generator)
    return z, mean, torch.full_like(mean, sd**2)


def posterior(n_cells, n_latent, seed=0, dtype=torch.float64):
    """An arbitrary posterior whose parameters take gradients."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n_cells, n_latent, generator=generator, dtype=dtype)
    variance = 0.1 + torch.rand(n_cells, n_latent, generator=generator, dtype=dtype)
    noise = torch.randn(n_cells, n_latent, generator=generator, dtype=dtype)
    return mean.requires_grad_(), variance.requires_grad_(), noise


def pairwise_total_correlation(z, mean, variance, log_weights):
    """The estimate written out naively, for any weights."""
    log_density = Normal(mean[None], variance.sqrt()[None]).log_prob(z[:, None])
    log_joint = torch.logsumexp(log_density.sum(2) + log_weights, dim=1)
    log_marginals = torch.logsumexp(log_density + log_weights[:, :, None], dim=1).sum(1)
    return (log_joint - log_marginals).mean()


def column_zero_log_weights(batch_size, n_obs):
    """The mistake of much public code: 1/N down column 0, the other special weight down column 1."""
    n_others = batch_size - 1
    weights = torch.full((batch_size, batch_size), 1 / n_others)
    weights[:, 0] = 1 / n_obs
    weights[:, 1] = (n_obs - n_others) / (n_obs * n_others)
    return weights.log()


def average(estimate, covariance, minibatches=200):
    """Mean of an estimate over minibatches of 128 Gaussian codes with posterior sd 0.5."""
    generator = torch.Generator().manual_seed(1)
    codes = (gaussian_codes(128, covariance, 0.5, generator) for _ in range(minibatches))
    return sum(estimate(*minibatch).item() for minibatch in codes) / minibatches


def test_closed_form_of_a_gaussian():
    assert gaussian_total_correlation(equicorrelation(2, 0.9)) == pytest.approx(0.830366, abs=1e-5)
    samples = equicorrelation(2, 0.8) + 0.25 * torch.eye(2)
    assert gaussian_total_correlation(samples) == pytest.approx(0.2635, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(batch_size=st.integers(1, 60), n_obs=st.integers(1, 100_000))
def test_mss_weights_are_a_distribution_over_cells(batch_size, n_obs):
    log_weights = mss_log_weights(batch_size, n_obs, dtype=torch.float64)
    assert log_weights.shape == (batch_size, batch_size)
    assert torch.isfinite(log_weights).all()
    torch.testing.assert_close(log_weights.exp().sum(1), torch.ones(batch_size, dtype=torch.float64))
    own_weight = 1 / max(n_obs, batch_size) if batch_size > 1 else 1.0
    own_cell = torch.full((batch_size,), own_weight, dtype=torch.float64)
    torch.testing.assert_close(log_weights.exp().diagonal(), own_cell)


def test_mss_weights_by_hand():
    weights = mss_log_weights(5, 20).exp()
    for cell in range(5):
        row = weights[cell]
        assert row[cell] == pytest.approx(1 / 20)
        assert row[(cell + 1) % 5] == pytest.approx(16 / 80)
        assert sorted(row.tolist())[-3:] == pytest.approx([1 / 4] * 3)


def test_mss_weights_estimate_the_aggregate_without_bias():
    # Over all ordered minibatches with the same first cell, the weighted sum averages to the mean over the population.
    density = torch.tensor([3.0, 0.1, 0.2, 0.5, 1.0, 0.01], dtype=torch.float64)
    weights = mss_log_weights(3, 6, dtype=torch.float64).exp()
    others = [(a, b) for a in range(1, 6) for b in range(1, 6) if a != b]
    estimates = [weights[0] @ density[[0, a, b]] for a, b in others]
    assert sum(estimates) / len(estimates) == pytest.approx(density.mean().item())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_terms_add_up_to_the_monte_carlo_kl(estimator):
    mean, variance, noise = posterior(50, 7)
    z = mean + variance.sqrt() * noise
    terms = total_correlation_terms(z, mean, variance, 1000, estimator)
    log_ratio = Normal(mean, variance.sqrt()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    torch.testing.assert_close(sum(terms), log_ratio.sum(1).mean())


def test_monte_carlo_kl_averages_to_the_analytic_one():
    mean, variance, noise = posterior(500, 3)
    terms = total_correlation_terms(mean + variance.sqrt() * noise, mean, variance, 500)
    analytic = gaussian_kl(mean, variance).sum(1).mean()
    assert sum(terms).item() == pytest.approx(analytic.item(), abs=0.2)


def test_terms_equal_the_estimate_written_out():
    mean, variance, noise = posterior(40, 4)
    z = mean + variance.sqrt() * noise
    log_weights = mss_log_weights(40, 500, dtype=torch.float64)
    expected = pairwise_total_correlation(z, mean, variance, log_weights)
    torch.testing.assert_close(total_correlation_terms(z, mean, variance, 500).total_correlation, expected)


# correlation of means, dimensions, range of the average over minibatches; truth .2635, 0, 0
@pytest.mark.parametrize(
    ("correlation", "n_latent", "low", "high"), [(0.8, 2, 0.236, 0.276), (0.0, 2, -0.04, 0.0), (0.0, 10, -0.8, -0.5)]
)
def test_mss_on_gaussian_codes(correlation, n_latent, low, high):
    def right(z, mean, variance):
        return total_correlation_terms(z, mean, variance, 20_000).total_correlation

    assert low < average(right, equicorrelation(n_latent, correlation)) < high


def test_the_weight_of_the_own_cell_belongs_on_the_diagonal():
    # Independent dimensions whose samples have unit variance: right -0.8, in the wrong column 2.3, MWS 91.
    covariance = 0.75 * torch.eye(10)

    def estimate(log_weights):
        return average(lambda *codes: pairwise_total_correlation(*codes, log_weights), covariance, 50)

    def ours(estimator):
        return average(
            lambda *codes: total_correlation_terms(*codes, 20_000, estimator).total_correlation, covariance, 50
        )

    wrong = estimate(column_zero_log_weights(128, 20_000))
    in_batch = estimate(torch.full((128, 128), -math.log(128)))
    assert wrong == pytest.approx(2.3, abs=0.1)
    assert in_batch == pytest.approx(wrong, abs=0.1)
    assert ours("mws") == pytest.approx(91.4, abs=0.2)
    assert ours("mss") == pytest.approx(-0.8, abs=0.1)


def test_mws_has_the_gradient_of_the_minibatch_average():
    mean, variance, noise = posterior(30, 5)
    z = mean + variance.sqrt() * noise
    mws = total_correlation_terms(z, mean, variance, 1000, "mws").total_correlation
    in_batch = pairwise_total_correlation(z, mean, variance, torch.full((30, 30), -math.log(30), dtype=z.dtype))
    no_constants = pairwise_total_correlation(z, mean, variance, torch.zeros(30, 30, dtype=z.dtype))
    assert (mws - in_batch).item() == pytest.approx(4 * math.log(1000))
    assert (in_batch - no_constants).item() == pytest.approx(4 * math.log(30))
    mss = total_correlation_terms(z, mean, variance, 1000, "mss").total_correlation
    gradients = [torch.autograd.grad(tc, (mean, variance), retain_graph=True) for tc in (mws, in_batch, no_constants)]
    for other in gradients[1:]:
        torch.testing.assert_close(gradients[0], other)
    assert not torch.allclose(gradients[0][0], torch.autograd.grad(mss, mean)[0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("n_cells", "n_obs"), [(1, 1), (1, 100), (2, 1), (2, 2), (2, 100), (16, 5), (16, 15), (16, 16)]
)
def test_small_minibatches_and_populations_stay_finite(n_cells, n_obs, estimator):
    mean, variance, noise = posterior(n_cells, 10, dtype=torch.float32)
    terms = total_correlation_terms(mean + variance.sqrt() * noise, mean, variance, n_obs, estimator)
    weighted = terms.mutual_information + 5 * terms.total_correlation + 2 * terms.dimension_kl
    gradients = torch.autograd.grad(weighted, (mean, variance))
    assert all(torch.isfinite(term) for term in terms)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_one_cell_has_no_total_correlation():
    mean, variance, noise = posterior(1, 10)
    terms = total_correlation_terms(mean + variance.sqrt() * noise, mean, variance, 100)
    assert terms.total_correlation.item() == pytest.approx(0.0, abs=1e-10)
    assert terms.mutual_information.item() == pytest.approx(0.0, abs=1e-10)


def test_fewer_training_cells_than_the_minibatch_are_read_as_the_minibatch():
    mean, variance, noise = posterior(8, 3)
    few, equal = (total_correlation_terms(mean + noise, mean, variance, n_obs) for n_obs in (3, 8))
    torch.testing.assert_close(tuple(few), tuple(equal))


def test_far_and_narrow_posteriors_stay_finite():
    mean = (100.0 * torch.arange(12.0).reshape(4, 3)).requires_grad_()
    variance = torch.full((4, 3), 1e-4, requires_grad=True)
    terms = total_correlation_terms(mean, mean, variance, 50)
    gradients = torch.autograd.grad(sum(terms), (mean, variance))
    assert all(torch.isfinite(tensor).all() for tensor in (*terms, *gradients))


def test_half_precision_is_computed_in_single():
    mean, variance, noise = posterior(20, 4, dtype=torch.bfloat16)
    z = mean + noise
    half = total_correlation_terms(z, mean, variance, 100)
    single = total_correlation_terms(z.float(), mean.float(), variance.float(), 100)
    assert half.total_correlation.dtype == torch.float32
    torch.testing.assert_close(tuple(half), tuple(single))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n_cells", [1, 2, 5])
def test_gradients_in_double_precision(estimator, n_cells):
    mean, variance, noise = posterior(n_cells, 3)

    def terms(mean, variance):
        return tuple(total_correlation_terms(mean + variance.sqrt() * noise, mean, variance, 50, estimator))

    assert torch.autograd.gradcheck(terms, (mean, variance))


def test_large_minibatches_are_taken_in_turns_with_the_same_result(monkeypatch):
    mean, variance, noise = posterior(12, 7)

    def values_and_gradients():
        terms = total_correlation_terms(mean + variance.sqrt() * noise, mean, variance, 100)
        return *terms, *torch.autograd.grad(terms.total_correlation + 2 * terms.dimension_kl, (mean, variance))

    at_once = values_and_gradients()
    for pairs in (1, 2 * 12**2, 5 * 12**2):
        monkeypatch.setattr("scbetavae.module.objectives._total_correlation._MAX_PAIRS", pairs)
        torch.testing.assert_close(values_and_gradients(), at_once)
        with torch.no_grad():
            terms = total_correlation_terms(mean + variance.sqrt() * noise, mean, variance, 100)
        torch.testing.assert_close(tuple(terms), at_once[:3])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_invariant_to_the_order_and_sign_of_dimensions(seed):
    mean, variance, noise = posterior(15, 4, seed=seed)
    z = mean + noise
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    original = total_correlation_terms(z, mean, variance, 200)
    torch.testing.assert_close(
        tuple(total_correlation_terms(-z[:, order], -mean[:, order], variance[:, order], 200)), tuple(original)
    )


def test_refusals():
    z = torch.zeros(4, 2)
    variance = torch.ones(4, 2)
    with pytest.raises(ValueError, match=r"estimator='MSS' is not allowed\. Did you mean 'mss'"):
        total_correlation_terms(z, z, variance, 10, "MSS")
    with pytest.raises(ValueError, match=r"z \(4, 2\), mean \(4, 2\), variance \(4, 1\); expected one common"):
        total_correlation_terms(z, z, variance[:, :1], 10)
    with pytest.raises(ValueError, match="expected one common"):
        total_correlation_terms(z[None], z[None], variance[None], 10)
    with pytest.raises(ValueError, match="at least one cell"):
        total_correlation_terms(z[:0], z[:0], variance[:0], 10)
    for n_obs in (0, -3, None):
        for estimator in ESTIMATORS:
            with pytest.raises(ValueError, match=f"n_obs is {n_obs}; expected the number of training cells"):
                total_correlation_terms(z, z, variance, n_obs, estimator)
        with pytest.raises(ValueError, match=f"n_obs is {n_obs}"):
            mss_log_weights(4, n_obs)
