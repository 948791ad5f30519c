import torch

from scbetavae.train._plan_history import EpochMeans


def test_means_weigh_every_cell_alike():
    """Sums over minibatches of 3 and 1 cells: the mean is that of the cells, not of the minibatches."""
    means = EpochMeans()
    cells = torch.tensor([1.0, 2.0, 3.0, 10.0])
    means.add(3, {"nll": cells[:3].sum(), "kl": torch.tensor([3.0, 6.0])})
    means.add(1, {"nll": cells[3:].sum(), "kl": torch.tensor([5.0, 2.0])})
    found = means.compute()
    torch.testing.assert_close(found["nll"], cells.mean())
    torch.testing.assert_close(found["kl"], torch.tensor([2.0, 2.0]))


def test_an_epoch_starts_anew():
    means = EpochMeans()
    means.add(2, {"nll": torch.tensor(8.0)})
    means.compute()
    assert means.compute() == {}
    means.add(1, {"nll": torch.tensor(1.0)})
    assert means.compute()["nll"] == 1.0


def test_what_is_added_is_not_changed_and_keeps_no_graph():
    means = EpochMeans()
    first = torch.tensor(1.0, requires_grad=True)
    for _ in range(2):
        means.add(1, {"nll": first})
    assert first.item() == 1.0
    assert not means.compute()["nll"].requires_grad
