"""The minibatch estimate of the mutual information between free dimensions and guided covariates."""

import numpy as np
import pytest
import torch

from scbetavae.module._guided_information import Pool, guided_information

N = 1500
CASES = {  # levels, dimensions, spread of the level means, posterior sd, shares of the levels, minibatches in the bank
    "two levels": (2, 10, 0.5, 0.7, None, 3),
    "clearly separate": (2, 10, 3.0, 0.5, None, 3),
    "no difference": (2, 10, 0.0, 0.5, None, 3),
    "three levels": (3, 5, 1.0, 0.5, None, 3),
    "five unequal levels": (5, 10, 1.2, 0.6, [0.4, 0.3, 0.15, 0.1, 0.05], 3),
    "no bank": (2, 10, 0.5, 0.7, None, 0),
}


def population(n_levels, n_dims, spread, shares, seed=0):
    """Posterior means of cells around the mean of their level, and levels."""
    rng = np.random.default_rng(seed)
    level = rng.choice(n_levels, N, p=shares)
    means = rng.normal(size=(N, n_dims)) + spread * rng.normal(size=(n_levels, n_dims))[level]
    return torch.as_tensor(means), torch.as_tensor(level)


def weights_of(sizes):
    return (N / (len(sizes) * sizes)).clamp(max=5.0)


def exact(means, sd, level, n_levels, repeats=3):
    """The same quantity with every cell of the population in place of a minibatch, own posterior included."""
    sizes = torch.bincount(level, minlength=n_levels).double()
    weight = weights_of(sizes)
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for _ in range(repeats):
        z = means + sd * torch.randn(means.shape, generator=generator, dtype=torch.float64)
        log_density = -0.5 * torch.cdist(z, means).square() / sd**2
        same = level[:, None] == level[None]
        within = torch.logsumexp(log_density.masked_fill(~same, -torch.inf), dim=1) - sizes[level].log()
        overall = torch.logsumexp(log_density + weight[level].log(), dim=1) - weight[level].sum().log()
        total += (weight[level] * (within - overall)).mean() / repeats
    return float(total)


def minibatches(means, sd, level, n_levels, n_bank, repeats, dtype=torch.float32, size=128):
    """Estimates of several minibatches, with a bank of the minibatches before."""
    generator = torch.Generator().manual_seed(1)
    shares = [torch.bincount(level, minlength=n_levels) / N]
    bank, values = [], []
    for _ in range(repeats):
        cells = torch.randperm(N, generator=generator)[:size]
        mean = means[cells].to(dtype)
        z = mean + sd * torch.randn(mean.shape, generator=generator, dtype=torch.float64).to(dtype)
        members = torch.nn.functional.one_hot(level[cells], n_levels).to(dtype)
        pool = Pool(mean, torch.full_like(mean, sd**2), members, cells)
        earlier = Pool(*(torch.cat(part) for part in zip(*bank[-n_bank:], strict=True))) if bank and n_bank else None
        values.append(float(guided_information(z, pool, earlier, shares, N)))
        bank.append(pool)
    return np.array(values)


@pytest.mark.parametrize("case", CASES)
def test_mean_over_minibatches_is_near_the_exact_value(case):
    n_levels, n_dims, spread, sd, shares, n_bank = CASES[case]
    means, level = population(n_levels, n_dims, spread, shares)
    estimate = minibatches(means, sd, level, n_levels, n_bank, repeats=120).mean()
    assert estimate == pytest.approx(exact(means, sd, level, n_levels), abs=0.04)


def test_single_precision_equals_double_precision():
    means, level = population(3, 8, 1.0, None)
    single, double = (minibatches(means, 0.05, level, 3, 3, 5, dtype=d) for d in (torch.float32, torch.float64))
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-4)


def random_pools(n_cells=7, n_bank=9, n_dims=3, levels=(2, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)

    def pool(n, first):
        mean, spread = torch.randn(2, n, n_dims, generator=generator, dtype=torch.float64)
        codes = [torch.randint(k, (n,), generator=generator) for k in levels]
        members = torch.cat([torch.nn.functional.one_hot(c, k) for c, k in zip(codes, levels, strict=True)], dim=1)
        return Pool(mean, 0.3 + spread.square(), members.double(), torch.arange(first, first + n))

    z = torch.randn(n_cells, n_dims, generator=generator, dtype=torch.float64)
    return z, pool(n_cells, 0), pool(n_bank, 4), [torch.tensor([0.4, 0.6]), torch.tensor([0.2, 0.5, 0.3])]


def by_the_definition(z, minibatch, bank, shares, n_obs):
    """Every sum of the docstring's equations as a loop over cells."""
    pool = Pool(*(torch.cat(pair) for pair in zip(minibatch, bank, strict=True)))
    first, values = 0, []
    for share in shares:
        columns = slice(first, first + len(share))
        first += len(share)
        sizes = (share * n_obs).double()
        weights = (n_obs / (len(share) * sizes)).clamp(max=5.0)
        terms = []
        for i in range(len(z)):
            density = torch.distributions.Normal(pool.mean, pool.variance.sqrt()).log_prob(z[i]).sum(dim=1).exp()
            others = [j for j in range(len(pool.cell)) if pool.cell[j] != minibatch.cell[i]]
            level = int(pool.members[i, columns].argmax())
            same = [j for j in others if pool.members[j, columns][level] == 1]
            if not same or len(same) == len(others):
                continue
            n, weight = sizes[level], weights[level]
            p = weight / (sizes @ weights)
            within = (1 - 1 / n) * torch.stack([density[j] for j in same]).mean() + density[i] / n
            of_other = torch.stack([weights[pool.members[j, columns].argmax()] for j in others])
            overall = (1 - p) * (of_other @ density[others]) / of_other.sum() + p * density[i]
            terms.append(weight * (within.log() - overall.log()))
        values.append(torch.stack(terms).mean())
    return torch.stack(values)


def test_value_is_that_of_the_definition():
    z, minibatch, bank, shares = random_pools()
    found = guided_information(z, minibatch, bank, shares, 200)
    torch.testing.assert_close(found, by_the_definition(z, minibatch, bank, shares, 200), rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_finite_differences():
    z, minibatch, bank, shares = random_pools()

    def value(z, mean, variance):
        return guided_information(z, minibatch._replace(mean=mean, variance=variance), bank, shares, 200)

    inputs = [tensor.clone().requires_grad_() for tensor in (z, minibatch.mean, minibatch.variance)]
    assert torch.autograd.gradcheck(value, inputs)


def test_permuted_levels_are_subtracted_with_their_gradients():
    z, minibatch, bank, shares = random_pools()
    both = Pool(*(torch.cat(pair) for pair in zip(minibatch, bank, strict=True)))

    def value(z, mean):
        torch.manual_seed(0)
        return guided_information(z, minibatch._replace(mean=mean), bank, shares, 200, 2)

    found = value(z, minibatch.mean)
    torch.manual_seed(0)
    nulls = []
    for _ in range(2):
        members = both.members[torch.randperm(len(both.members))]
        pools = minibatch._replace(members=members[: len(z)]), bank._replace(members=members[len(z) :])
        nulls.append(by_the_definition(z, *pools, shares, 200))
    expected = by_the_definition(z, minibatch, bank, shares, 200) - torch.stack(nulls).mean(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(value, (z.clone().requires_grad_(), minibatch.mean.clone().requires_grad_()))


def test_a_cell_is_not_its_own_partner_as_an_older_copy():
    z, minibatch, bank, shares = random_pools()
    copies = Pool(z.clone(), torch.full_like(z, 1e-4), minibatch.members, minibatch.cell)
    both = Pool(*(torch.cat(pair) for pair in zip(bank, copies, strict=True)))
    plain, with_copies = (guided_information(z, minibatch, pool, shares, 200) for pool in (bank, both))
    # The copies are partners of other cells, for whom such narrow posteriors are nowhere near.
    assert torch.allclose(plain, with_copies, atol=0.5)
    strangers = both._replace(cell=torch.cat([bank.cell, minibatch.cell + 1000]))
    assert not torch.allclose(plain, guided_information(z, minibatch, strangers, shares, 200), atol=0.5)


@pytest.mark.parametrize("case", ["one cell", "one level", "all unknown", "far apart"])
def test_degenerate_minibatches_give_finite_values_and_gradients(case):
    z, minibatch, _, shares = random_pools()
    if case == "one cell":
        z, minibatch = z[:1], Pool(*(part[:1] for part in minibatch))
    elif case == "one level":
        minibatch = minibatch._replace(members=torch.eye(5, dtype=torch.float64)[[0, 2]].sum(0).expand(7, 5))
    elif case == "all unknown":
        minibatch = minibatch._replace(members=torch.zeros(7, 5, dtype=torch.float64))
    else:
        minibatch = minibatch._replace(mean=1e3 * minibatch.mean, variance=torch.full_like(minibatch.variance, 1e-4))
    z = z.float().requires_grad_()
    mean = minibatch.mean.float().requires_grad_()
    value = guided_information(z, minibatch._replace(mean=mean, variance=minibatch.variance.float()), None, shares, 200)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(mean.grad).all()
    if case != "far apart":
        assert not value.any()


def test_unknown_levels_take_no_part():
    z, minibatch, bank, shares = random_pools()
    members = minibatch.members.clone()
    members[3] = 0.0
    known = [i for i in range(7) if i != 3]
    hidden = guided_information(z, minibatch._replace(members=members), bank, shares, 200)
    left_out = guided_information(z[known], Pool(*(part[known] for part in minibatch)), bank, shares, 200)
    torch.testing.assert_close(hidden, left_out)
