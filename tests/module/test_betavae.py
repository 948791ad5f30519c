import pytest
import torch
from scvi.module import VAE

from scbetavae.module import BetaVAEModule

N_GENES, N_CELLS = 12, 6


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((N_CELLS, N_GENES), 3.0), generator=generator)
    return {
        "X": counts,
        "batch": torch.tensor([[0], [1], [0], [1], [0], [1]]),
        "labels": torch.zeros(N_CELLS, 1, dtype=torch.long),
    }


def run(module, tensors, **loss_kwargs):
    torch.manual_seed(0)
    return module(tensors, loss_kwargs=loss_kwargs)


def test_conditioned_module_is_scvi_s(tensors):
    torch.manual_seed(1)
    theirs = VAE(N_GENES, n_batch=2, gene_likelihood="nb")
    torch.manual_seed(1)
    ours = BetaVAEModule(N_GENES, n_batch=2, condition_on_batch=True, beta=3.0)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    expected = run(theirs, tensors, kl_weight=3.0)[2]
    found = run(ours, tensors)[2]
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.reconstruction_loss_sum, expected.reconstruction_loss_sum)
    torch.testing.assert_close(found.kl_local_sum, expected.kl_local_sum)


def test_loss_is_nll_plus_annealed_regularizer(tensors):
    module = BetaVAEModule(N_GENES, n_batch=2, beta=3.0).eval()
    full = run(module, tensors)[2]
    half = run(module, tensors, kl_weight=0.5)[2]
    other = run(module, tensors, beta=1.0)[2]
    nll = full.reconstruction_loss_sum / N_CELLS
    kl = full.kl_per_dimension.sum()
    torch.testing.assert_close(full.loss, nll + 3 * kl)
    torch.testing.assert_close(half.loss, nll + 1.5 * kl)
    torch.testing.assert_close(other.loss, nll + kl)
    torch.testing.assert_close(half.extra_metrics["objective"], full.loss.detach())


def test_kl_per_dimension_is_the_closed_form(tensors):
    module = BetaVAEModule(N_GENES, n_batch=2).eval()
    inference, _, loss = run(module, tensors)
    mean, variance = inference["qz"].loc, inference["qz"].variance
    expected = 0.5 * (mean**2 + variance - 1 - variance.log())
    torch.testing.assert_close(loss.kl_per_dimension, expected.mean(0))


def test_metrics_are_scalars_but_for_scvi_s_payload(tensors):
    module = BetaVAEModule(N_GENES, n_batch=2)
    assert all(value.ndim == 0 for value in run(module, tensors)[2].extra_metrics.values())
    module.extra_payload_autotune = True
    assert {"z", "batch", "labels"} <= set(run(module, tensors)[2].extra_metrics)


def test_unconditioned_module_never_looks_at_the_batch(tensors):
    module = BetaVAEModule(N_GENES, n_batch=2, encode_covariates=True).eval()
    swapped = tensors | {"batch": 1 - tensors["batch"]}
    torch.testing.assert_close(run(module, tensors)[2].loss, run(module, swapped)[2].loss, rtol=0, atol=0)
    told = BetaVAEModule(N_GENES, n_batch=2, condition_on_batch=True).eval()
    assert run(told, tensors)[2].loss != run(told, swapped)[2].loss


@pytest.mark.parametrize("n_cells", [1, 2])
def test_tiny_minibatches_give_finite_gradients(tensors, n_cells):
    module = BetaVAEModule(N_GENES, n_batch=2).train()
    few = {name: value[:n_cells] for name, value in tensors.items()}
    before = module.z_encoder.encoder.fc_layers[0][1].running_mean.clone()
    loss = run(module, few)[2].loss
    loss.backward()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    layer = module.z_encoder.encoder.fc_layers[0][1]
    assert layer.training
    assert torch.equal(before, layer.running_mean) == (n_cells == 1)


def test_prior_is_the_standard_normal():
    module = BetaVAEModule(N_GENES, n_batch=2, n_latent=2).eval()
    prior = module.generative(torch.zeros(3, 5, 2), torch.zeros(3, 5, 1), torch.zeros(5, 1, dtype=torch.long))["pz"]
    assert prior.loc.shape == (3, 5, 2)
    assert (prior.loc == 0).all()
    assert (prior.scale == 1).all()
