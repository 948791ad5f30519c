"""The fused negative binomial loss, against scvi-tools' distribution, finite differences and closed forms."""

import math
import threading
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scvi.distributions import NegativeBinomial

from scbetavae.module import fused_negative_binomial_loss
from scbetavae.module._likelihood import NonzeroStructure, fused_output_loss, nonzero_structure

N_CELLS, N_GENES = 150, 30


def composed_loss(logits, log_library, *, log_theta, counts):
    rate = torch.exp(log_library) * torch.softmax(logits, -1)
    return -NegativeBinomial(mu=rate, theta=torch.exp(log_theta)).log_prob(counts).sum(-1)


def make_counts(seed=0, dtype=torch.float64):
    """Mostly zeros, all counts up to 80 or so, and rows that are unusual."""
    generator = torch.Generator().manual_seed(seed)
    rate = 80 * torch.rand(N_CELLS, N_GENES, generator=generator, dtype=dtype) ** 12
    counts = torch.poisson(rate, generator=generator)
    counts[0] = 0  # an empty cell
    counts[1], counts[1, 4] = 0, 20_000  # a cell of one gene
    counts[2, :3] = torch.tensor([0.5, 2.5, 70.25], dtype=dtype)  # counts that are not integer
    counts[3] = torch.arange(N_GENES, dtype=dtype)  # no zeros but one, all levels of the table
    return counts


def make_parameters(shift=0.0, seed=1, dtype=torch.float64, *, by_cell=False):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(N_CELLS, N_GENES, generator=generator, dtype=dtype)
    log_library = 5 + torch.randn(N_CELLS, 1, generator=generator, dtype=dtype)
    log_theta = shift + torch.randn(*((N_CELLS, N_GENES) if by_cell else (N_GENES,)), generator=generator, dtype=dtype)
    return logits.requires_grad_(), log_library.requires_grad_(), log_theta.requires_grad_()


def value_and_gradients(function, parameters, counts, weights):
    logits, log_library, log_theta = parameters
    loss = function(logits, log_library, log_theta=log_theta, counts=counts)
    return loss.detach(), *torch.autograd.grad(loss, parameters, weights)


@pytest.mark.parametrize("by_cell", [False, True])
@pytest.mark.parametrize("log_theta", [-20.0, -7.0, 0.0, 4.0, 12.0])
def test_value_and_gradients_equal_those_of_scvi(log_theta, by_cell):
    counts, parameters = make_counts(), make_parameters(log_theta, by_cell=by_cell)
    weights = torch.linspace(-1, 2, N_CELLS, dtype=torch.float64)
    ours = value_and_gradients(fused_negative_binomial_loss, parameters, counts, weights)
    theirs = value_and_gradients(composed_loss, parameters, counts, weights)
    for mine, reference in zip(ours, theirs, strict=True):
        # digamma(x + theta) - digamma(theta) and their logarithms lose digits in scvi's composition at large theta
        torch.testing.assert_close(mine, reference, rtol=1e-8, atol=1e-9 * max(1.0, math.exp(log_theta)))


def test_constants_of_scvi_matter_and_are_kept():
    # mu near 1e-8 where three counts are: without the constant the loss would be larger by 3 log 2
    logits = torch.tensor([[0.0, -math.log(1e8)]], dtype=torch.float64)
    arguments = {"log_theta": torch.zeros(2, dtype=torch.float64), "counts": torch.tensor([[1.0, 3.0]]).double()}
    log_library = torch.zeros(1, 1, dtype=torch.float64)
    expected = composed_loss(logits, log_library, **arguments)
    torch.testing.assert_close(
        fused_negative_binomial_loss(logits, log_library, **arguments), expected, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("log_theta", [-5.0, 0.0, 5.0])
def test_single_precision_is_at_least_as_exact_as_scvi(log_theta):
    counts, parameters = make_counts(), make_parameters(log_theta)
    weights = torch.full((N_CELLS,), 1 / N_CELLS, dtype=torch.float64)
    exact = value_and_gradients(composed_loss, parameters, counts, weights)
    single = [parameter.detach().float().requires_grad_() for parameter in parameters]
    ours = value_and_gradients(fused_negative_binomial_loss, single, counts.float(), weights.float())
    theirs = value_and_gradients(composed_loss, single, counts.float(), weights.float())
    for mine, reference, truth in zip(ours, theirs, exact, strict=True):
        error = (mine.double() - truth).norm() / truth.norm()
        assert error <= max(2e-6, 1.5 * (reference.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize("by_cell", [False, True])
def test_gradients_equal_finite_differences(by_cell):
    rows = torch.tensor([0, 2, 3, 10, 11])
    counts = make_counts()[rows]
    logits, log_library, log_theta = make_parameters(by_cell=by_cell)
    log_theta = log_theta[rows] if by_cell else log_theta
    inputs = [tensor.detach().requires_grad_() for tensor in (logits[rows], log_library[rows], log_theta)]

    def loss(logits, log_library, log_theta):
        return fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts)

    assert torch.autograd.gradcheck(loss, inputs)


def test_a_zero_and_a_one_in_closed_form():
    # mu = (1, 3) and theta = (1, 1): p(0) = theta / (theta + mu), p(1) = theta / (theta + mu) * mu / (theta + mu)
    logits = torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64)
    log_library = torch.tensor([[math.log(4.0)]], dtype=torch.float64)
    loss = fused_negative_binomial_loss(
        logits, log_library, log_theta=torch.zeros(2, dtype=torch.float64), counts=torch.tensor([[0.0, 1.0]])
    )
    assert loss.item() == pytest.approx(math.log(2) + math.log(4) - math.log(3 / 4), abs=1e-7)


@pytest.mark.parametrize("index_dtype", [torch.int64, torch.int32])
def test_counts_may_be_dense_sparse_or_arrays(index_dtype):
    counts, (logits, log_library, log_theta) = make_counts(), make_parameters()
    structure = nonzero_structure(counts)
    arrays = NonzeroStructure(*(part.to(index_dtype) for part in structure[:2]), structure.values.float())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        sparse = counts.to_sparse_csr()
    dense_loss = fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts)
    for other in (arrays, sparse, counts.to(torch.float32), counts.t().contiguous().t()):
        loss = fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=other)
        torch.testing.assert_close(loss, dense_loss, rtol=1e-14, atol=0)


def test_layout_in_memory_does_not_matter():
    counts, parameters = make_counts(), make_parameters(by_cell=True)
    weights = torch.ones(N_CELLS, dtype=torch.float64)
    expected = value_and_gradients(fused_negative_binomial_loss, parameters, counts, weights)
    turned = [parameter.detach().t().contiguous().t().requires_grad_() for parameter in parameters]
    for mine, reference in zip(
        value_and_gradients(fused_negative_binomial_loss, turned, counts, weights), expected, strict=True
    ):
        torch.testing.assert_close(mine, reference)


def test_structure_of_a_matrix():
    counts = torch.tensor([[0, 3, 0], [0, 0, 0], [1, 0, 2]])
    offsets, columns, values = nonzero_structure(counts)
    assert offsets.tolist() == [0, 1, 1, 3]
    assert columns.tolist() == [1, 0, 2]
    assert values.tolist() == [3, 1, 2]


def test_stored_zeros_change_nothing():
    logits, log_library, log_theta = (tensor[:2] if tensor.ndim > 1 else tensor for tensor in make_parameters())
    with_zeros = NonzeroStructure(
        torch.tensor([0, 3, 4]), torch.tensor([0, 5, 7, 1]), torch.tensor([2.0, 0.0, 1.0, 0.0])
    )
    without = NonzeroStructure(torch.tensor([0, 2, 2]), torch.tensor([0, 7]), torch.tensor([2.0, 1.0]))
    first, second = (
        fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts)
        for counts in (with_zeros, without)
    )
    torch.testing.assert_close(first, second, rtol=1e-14, atol=0)


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_each_gradient_alone_equals_that_of_all(wanted):
    counts, parameters = make_counts(), make_parameters()
    weights = torch.linspace(0, 1, N_CELLS, dtype=torch.float64)
    everything = value_and_gradients(fused_negative_binomial_loss, parameters, counts, weights)[1:]
    some = [parameter.detach().requires_grad_(want) for parameter, want in zip(parameters, wanted, strict=True)]
    fused_negative_binomial_loss(some[0], some[1], log_theta=some[2], counts=counts).backward(weights)
    for parameter, gradient, want in zip(some, everything, wanted, strict=True):
        assert (parameter.grad is not None) == want
        if want:
            torch.testing.assert_close(parameter.grad, gradient)


def test_without_gradient_the_value_is_the_same():
    counts, (logits, log_library, log_theta) = make_counts(), make_parameters()
    loss = fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts)
    with torch.no_grad():
        inferred = fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts)
    assert loss.requires_grad
    assert not inferred.requires_grad
    assert torch.equal(loss, inferred)


def test_second_use_of_the_graph_raises():
    counts, (logits, log_library, log_theta) = make_counts(), make_parameters()
    loss = fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_a_retained_graph_gives_the_gradient_again():
    counts, (logits, log_library, log_theta) = make_counts(), make_parameters()
    loss = fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts).sum()
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(3 * loss, logits)
    torch.testing.assert_close(second, 3 * first)


def test_second_derivative_raises():
    counts, (logits, log_library, log_theta) = make_counts(), make_parameters()
    loss = fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts).sum()
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        gradient.sum().backward()


def test_half_precision_is_computed_in_single():
    counts, (logits, log_library, log_theta) = make_counts(), make_parameters()
    half = logits.detach().to(torch.bfloat16).requires_grad_()
    loss = fused_negative_binomial_loss(half, log_library, log_theta=log_theta, counts=counts)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    expected = fused_negative_binomial_loss(half.detach().float(), log_library, log_theta=log_theta, counts=counts)
    torch.testing.assert_close(loss, expected)


def test_inputs_are_left_alone():
    counts, parameters = make_counts(), make_parameters()
    before = [tensor.detach().clone() for tensor in (*parameters, counts)]
    value_and_gradients(fused_negative_binomial_loss, parameters, counts, torch.ones(N_CELLS, dtype=torch.float64))
    for tensor, copy in zip((*parameters, counts), before, strict=True):
        assert torch.equal(tensor, copy)


def test_threads_do_not_disturb_each_other():
    counts = make_counts()
    weights = torch.ones(N_CELLS, dtype=torch.float64)
    parameters = [make_parameters(seed=seed) for seed in range(4)]
    alone = [value_and_gradients(fused_negative_binomial_loss, some, counts, weights) for some in parameters]
    together = [None] * len(parameters)

    def work(i):
        for _ in range(20):
            together[i] = value_and_gradients(fused_negative_binomial_loss, parameters[i], counts, weights)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(parameters))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, reference in zip(together, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, reference, strict=True))


def test_no_cells_and_not_a_number():
    empty = fused_negative_binomial_loss(
        torch.zeros(0, 3), torch.zeros(0, 1), log_theta=torch.zeros(3), counts=torch.zeros(0, 3)
    )
    assert empty.shape == (0,)
    counts, (logits, log_library, log_theta) = make_counts(), make_parameters()
    counts[7, 0] = math.nan
    loss = fused_negative_binomial_loss(logits, log_library, log_theta=log_theta, counts=counts)
    assert loss.isnan().nonzero().tolist() == [[7]]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), shift=st.floats(-50, 50), spread=st.floats(0, 30), log_theta=st.floats(-8, 8))
def test_logits_matter_up_to_a_constant_and_gradients_sum_to_zero(seed, shift, spread, log_theta):
    counts = make_counts(seed)
    logits, log_library, _ = make_parameters(seed=seed)
    logits = (spread * logits).detach().requires_grad_()
    theta = torch.full((N_GENES,), log_theta, dtype=torch.float64)
    loss = fused_negative_binomial_loss(logits, log_library, log_theta=theta, counts=counts)
    shifted = fused_negative_binomial_loss(logits + shift, log_library, log_theta=theta, counts=counts)
    torch.testing.assert_close(loss, shifted, rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.sum(1).abs().max() <= 1e-9 * max(1.0, gradient.abs().max().item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": torch.zeros(2, 4, 3)}, "several samples"),
        ({"log_library": torch.zeros(1, 1)}, r"\(4, 1\)"),
        ({"log_theta": torch.zeros(2, 3)}, "for every cell first"),
        ({"counts": torch.zeros(4, 2)}, "shape of `logits`"),
        ({"counts": nonzero_structure(torch.ones(5, 3))}, "5 offsets"),
    ],
)
def test_wrong_shapes_are_refused(change, message):
    arguments = {
        "logits": torch.zeros(4, 3),
        "log_library": torch.zeros(4, 1),
        "log_theta": torch.zeros(3),
        "counts": torch.ones(4, 3),
    } | change
    with pytest.raises(ValueError, match=message):
        fused_negative_binomial_loss(arguments.pop("logits"), arguments.pop("log_library"), **arguments)


@pytest.mark.parametrize("counts", [torch.ones(3), torch.ones(3, 3).to_sparse()])
def test_structure_of_something_else_is_refused(counts):
    with pytest.raises(ValueError, match="to_sparse_csr"):
        nonzero_structure(counts)


@pytest.mark.parametrize("by_cell", [False, True])
def test_loss_of_an_output_layer_is_the_loss_of_its_logits(by_cell):
    counts = make_counts()
    _, log_library, log_theta = make_parameters(by_cell=by_cell)
    torch.manual_seed(0)
    hidden = torch.randn(N_CELLS, 7, dtype=torch.float64, requires_grad=True)
    output = torch.nn.Linear(7, N_GENES, dtype=torch.float64)
    inputs = [hidden, output.weight, output.bias, log_library, log_theta]
    weights = torch.linspace(-1, 2, N_CELLS, dtype=torch.float64)
    expected = composed_loss(output(hidden), log_library, log_theta=log_theta, counts=counts)
    loss = fused_output_loss(hidden, output, log_library, log_theta=log_theta, counts=nonzero_structure(counts))
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-9)
    ours = torch.autograd.grad(loss, inputs, weights)
    for mine, reference in zip(ours, torch.autograd.grad(expected, inputs, weights), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-7, atol=1e-8)


def test_loss_of_an_output_layer_computes_no_gradient_that_is_not_asked_for():
    counts = make_counts()
    _, log_library, log_theta = make_parameters()
    output = torch.nn.Linear(7, N_GENES, dtype=torch.float64)
    hidden = torch.randn(N_CELLS, 7, dtype=torch.float64)
    arguments = {"log_theta": log_theta.detach(), "counts": counts}
    loss = fused_output_loss(hidden, output, log_library.detach(), **arguments).sum()
    loss.backward()
    assert hidden.grad is None
    with torch.no_grad():
        again = fused_output_loss(hidden, output, log_library.detach(), **arguments).sum()
    torch.testing.assert_close(again, loss.detach())
