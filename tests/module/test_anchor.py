import numpy as np
import pytest
import torch
from scipy import sparse

from scbetavae.module import check_anchor
from scbetavae.module._anchor import Anchor
from scbetavae.train._components import log_normalize


@pytest.fixture
def anchor():
    generator = torch.Generator().manual_seed(0)
    anchor = Anchor(n_input=7, n_latent=4, n_groups=2, weight=10.0, release=0.3)
    anchor.set_map(
        torch.randn(7, 3, generator=generator), torch.randn(2, 3, generator=generator), torch.tensor([0.9, 0.8, 1.0])
    )
    return anchor


@pytest.fixture
def counts():
    return torch.poisson(torch.full((5, 7), 1.5), generator=torch.Generator().manual_seed(1)) + torch.eye(5, 7)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_targets_are_linear_in_log_normalized_counts(anchor, counts, layout):
    groups = torch.tensor([[0], [1], [1], [0], [1]])
    found = anchor.targets(counts if layout == "dense" else counts.to_sparse_csr(), groups)
    logs = log_normalize(sparse.csr_matrix(counts.numpy())).toarray()
    expected = logs @ anchor.weights.numpy() + anchor.offsets.numpy().T[groups.ravel()]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (found[:, 3] == 0).all()  # a dimension without a component


def test_penalty_is_half_the_weighted_squared_distance(anchor, counts):
    mean = torch.randn(5, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    targets = anchor.targets(counts, None)
    penalty = anchor(mean, counts, None)
    assert penalty.item() == pytest.approx(5.0 * (mean - targets).square().sum(1).mean().item(), rel=1e-6)
    penalty.backward()
    torch.testing.assert_close(mean.grad, 10.0 * (mean.detach() - targets) / 5)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 1.0), (0.15, 0.5), (0.2999, 0.1 / 300), (0.3, 0.0), (1.0, 0.0)])
def test_it_is_released_over_three_tenths_of_the_run(anchor, progress, share):
    assert anchor.share(progress) == pytest.approx(share, abs=1e-9)


def test_without_a_map_it_does_not_pull():
    anchor = Anchor(7, 4)
    assert anchor.n_components == 0
    assert anchor.share(0.0) == 0.0


def test_the_map_is_part_of_the_state(anchor, counts):
    other = Anchor(7, 4, 2)
    other.load_state_dict(anchor.state_dict())
    torch.testing.assert_close(other.targets(counts, None), anchor.targets(counts, None))
    assert other.n_components == 3


@pytest.mark.parametrize(
    ("anchor", "kwargs", "error", "message"),
    [
        ("icaa", None, ValueError, "Did you mean 'ica'"),
        (3, None, ValueError, "anchor=3 is not allowed"),
        ("ica", {"wieght": 3}, TypeError, "Did you mean 'weight'"),
        ("ica", {"weight": 0}, ValueError, "above 0"),
        ("ica", {"weight": -1.0}, ValueError, "above 0"),
        ("ica", {"weight": float("nan")}, ValueError, "above 0"),
        ("ica", {"release": 1.01}, ValueError, r"in \(0, 1\]"),
        ("ica", {"n_components": 0}, ValueError, "from 1 to 4"),
        ("ica", {"n_components": 5}, ValueError, "from 1 to 4"),
        ("ica", {"n_components": 2.5}, ValueError, "an integer"),
        (None, {"weight": 3}, ValueError, "anchor=None"),
    ],
)
def test_bad_arguments_are_refused(anchor, kwargs, error, message):
    with pytest.raises(error, match=message):
        check_anchor(anchor, kwargs, 4)


@pytest.mark.parametrize("kwargs", [None, {}, {"weight": 0.1, "release": 1.0, "n_components": 4}, {"n_components": 1}])
def test_good_arguments_pass(kwargs):
    check_anchor("ica", kwargs, 4)
