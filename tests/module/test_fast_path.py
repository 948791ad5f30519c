import pytest
import torch
from scvi.nn import FCLayers

from scbetavae.module._fast_path import column_major, run_layers, run_sparse_layers
from scbetavae.module._likelihood import nonzero_structure


@pytest.mark.parametrize(
    "density", [0.1, 0.9]
)  # below and above the share of non-zeros where a dense product is faster
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_a_sparse_input_gives_what_its_dense_form_gives(density, by_column, bias):
    torch.manual_seed(0)
    layers = FCLayers(20, 5, n_layers=2, n_hidden=7, dropout_rate=0, bias=bias).double()
    if by_column:
        column_major(layers.fc_layers[0][0])
    x = torch.rand(11, 20, dtype=torch.float64)
    x = torch.where(torch.rand(11, 20) < density, x, 0.0)
    x[3] = 0
    parameters = [p for p in layers.parameters() if p.requires_grad]
    expected, found = run_layers(layers, x, []), run_sparse_layers(layers, nonzero_structure(x))
    torch.testing.assert_close(found, expected)
    weights = torch.randn(11, 5, dtype=torch.float64)
    for mine, reference in zip(
        torch.autograd.grad(found, parameters, weights), torch.autograd.grad(expected, parameters, weights), strict=True
    ):
        torch.testing.assert_close(mine, reference)


def test_column_major_changes_the_layout_alone():
    linear = torch.nn.Linear(6, 4)
    before, state = linear.weight.detach().clone(), linear.state_dict()
    column_major(linear)
    assert linear.weight.t().is_contiguous()
    torch.testing.assert_close(linear.weight.detach(), before)
    fresh = torch.nn.Linear(6, 4)
    column_major(fresh)
    fresh.load_state_dict(state)
    assert fresh.weight.t().is_contiguous()
    torch.testing.assert_close(fresh.weight.detach(), before)
