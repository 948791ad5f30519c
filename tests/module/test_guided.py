"""Guided dimensions as a module: when the mutual information counts, levels of numbers, and the two paths of the decoder."""

import pytest
import torch

from scbetavae.module import GuidedCovariate
from scbetavae.module._guided import Guided, GuidedCoordinates
from scbetavae.module._guided_information import Pool, guided_information


def make_guided(**kwargs):
    return Guided([GuidedCovariate("condition", 2), GuidedCovariate("age", 0, 40.0, 10.0)], 20, 8, **kwargs)


def minibatch(n_cells=40):
    generator = torch.Generator().manual_seed(0)
    level = torch.arange(n_cells) % 2
    mean = torch.randn(n_cells, 3, generator=generator) + 3.0 * level[:, None]
    age = 30.0 + 20.0 * torch.rand(n_cells, generator=generator)
    return mean, torch.stack([torch.arange(n_cells).float(), level.float(), age], dim=1)


@pytest.mark.parametrize(("running", "share"), [(-0.016, 0.0), (-0.014, 0.05), (0.004, 0.95), (0.006, 1.0)])
def test_penalty_fades_out_where_the_running_mean_shows_independence(running, share):
    guided = make_guided(weight=7.0).train()
    mean, values = minibatch()

    def penalty(before):
        guided.empty_bank()
        guided._running = before
        torch.manual_seed(0)
        return guided.penalty(mean, mean, torch.full_like(mean, 0.1), values, 400)

    _, information = penalty(torch.zeros(2))
    found = torch.stack([*information.values()])
    wanted = torch.tensor([running, -1.0])  # of the second covariate nothing counts
    value, _ = penalty((wanted - 0.05 * found) / 0.95)  # the running mean has a momentum of .05
    torch.testing.assert_close(guided._running, wanted, atol=1e-6, rtol=0)
    assert float(value) == pytest.approx(7.0 * share * float(found[0]), rel=1e-2, abs=1e-6)


def test_information_less_that_of_permuted_levels_is_0_without_dependence():
    guided = make_guided()
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(200, 3, generator=generator)
    values = torch.stack([torch.arange(200.0), (torch.arange(200) % 2).float(), torch.full((200,), 40.0)], dim=1)
    variance = torch.full_like(mean, 0.01)
    pool = Pool(mean, variance, guided.members(values[:, 1:])[:, :2], values[:, 0])
    z = mean + 0.1 * torch.randn(mean.shape, generator=generator)
    plain, excess = (float(guided_information(z, pool, None, guided.shares[:1], 200, n)[0]) for n in (0, 50))
    assert plain > 0.2
    assert abs(excess) < 0.05


def test_numbers_have_one_dimension_and_levels_by_their_bins():
    guided = make_guided()
    guided.edges_1.copy_(torch.arange(31.0, 42.0))  # eleven edges of twelve bins
    values = torch.tensor([[0.0, 30.5], [1.0, 31.5], [torch.nan, 60.0], [0.0, torch.nan]])
    torch.testing.assert_close(guided.coordinates(values)[:2, 1], torch.tensor([-1.9, -1.7]))
    assert guided.levels(values).tolist() == [[0, 0], [1, 1], [-1, 11], [0, -1]]
    assert guided.members(values).sum(dim=1).tolist() == [2.0, 2.0, 1.0, 1.0]
    torch.testing.assert_close(guided.numbers_at(1, torch.tensor([-1.9, 0.0])), torch.tensor([30.5, 40.0]))


def test_inferred_coordinates_are_drawn_to_their_anchors():
    guided = make_guided(mode="inferred")
    values = torch.tensor([[0.0, 1.0, 40.0], [1.0, torch.nan, 40.0]])
    at_anchor = GuidedCoordinates(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.01], [5.0, 0.01]]))
    torch.testing.assert_close(guided.kl(at_anchor, values), torch.zeros(2), atol=1e-5, rtol=0)
    away = GuidedCoordinates(at_anchor.mean + torch.tensor([1.0, 0.0]), at_anchor.variance)
    # 10 times the KL of a shift by 1: 1/2 at a variance of 1, 1/10 at the variance of 5 over both levels.
    torch.testing.assert_close(guided.kl(away, values), torch.tensor([5.0, 1.0]), atol=1e-4, rtol=0)
