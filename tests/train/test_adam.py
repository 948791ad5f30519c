import copy
import pickle

import pytest
import torch

from scbetavae.train._adam import LeanAdam, LeanAdamW

PAIRS = [(LeanAdam, torch.optim.Adam), (LeanAdamW, torch.optim.AdamW)]


def parameters(generator, *, by_column):
    values = [
        torch.randn(6, 9, generator=generator),
        torch.randn(4, generator=generator),
        torch.randn(1, generator=generator),
    ]
    ours = [torch.nn.Parameter(v.clone()) for v in values]
    if by_column:
        ours[0] = torch.nn.Parameter(values[0].t().contiguous().t())
    return ours, [torch.nn.Parameter(v.clone()) for v in values]


def set_gradients(ours, theirs, generator, without=()):
    for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if i in without:
            mine.grad = other.grad = None
            continue
        gradient = torch.randn(mine.shape, generator=generator)
        other.grad = gradient
        mine.grad = gradient.clone() if mine.is_contiguous() else gradient.t().contiguous().t()


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize(("ours_cls", "theirs_cls"), PAIRS)
def test_steps_are_those_of_torch(ours_cls, theirs_cls, by_column):
    generator = torch.Generator().manual_seed(0)
    ours, theirs = parameters(generator, by_column=by_column)
    settings = {"lr": 0.1, "weight_decay": 0.01, "eps": 0.01, "fused": True}
    mine, other = ours_cls(ours, **settings), theirs_cls(theirs, **settings)
    for step in range(9):
        if step == 6:  # as after loading a checkpoint
            mine.load_state_dict(copy.deepcopy(mine.state_dict()))
        if step == 5:  # as in a process of its own
            mine = pickle.loads(pickle.dumps((mine, ours)))
            mine, ours = mine
        if step == 7:
            mine.param_groups[0]["lr"] = other.param_groups[0]["lr"] = 0.03
        # From step 3 on, the second parameter has missed a step, so that the counts of steps differ.
        set_gradients(ours, theirs, generator, without=(1,) if step == 3 else ())
        mine.step()
        other.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q)
    for p, q in zip(ours, theirs, strict=True):
        for name, value in other.state[q].items():
            torch.testing.assert_close(mine.state[p][name], value)


def test_options_that_the_kernel_is_not_given_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = parameters(generator, by_column=True)
    settings = {"lr": 0.1, "amsgrad": True, "fused": True}
    mine, other = LeanAdam(ours, **settings), torch.optim.Adam(theirs, **settings)
    for _ in range(4):
        set_gradients(ours, theirs, generator)
        mine.step()
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q)


def test_a_closure_is_called_once_and_its_loss_returned():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = LeanAdam([parameter], fused=True)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        calls.append(loss.item())
        return loss

    for step in range(3):
        assert optimizer.step(closure).item() == calls[step]
    assert len(calls) == 3
    assert calls[0] > calls[1] > calls[2]


def test_a_gradient_that_is_stored_otherwise_than_its_parameter_is_paired_right():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = parameters(generator, by_column=True)
    mine, other = LeanAdam(ours, lr=0.1, fused=True), torch.optim.Adam(theirs, lr=0.1, fused=True)
    for step in range(6):
        set_gradients(ours, theirs, generator)
        if step >= 3:
            ours[0].grad = ours[0].grad.contiguous()
        mine.step()
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q)


def test_a_saved_state_serves_torch_too():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = parameters(generator, by_column=False)
    mine, other = LeanAdam(ours, lr=0.1, fused=True), torch.optim.Adam(theirs, lr=0.1, fused=True)
    for _ in range(3):
        set_gradients(ours, theirs, generator)
        mine.step()
        other.step()
    resumed = torch.optim.Adam(ours, lr=0.1, fused=True)
    resumed.load_state_dict(copy.deepcopy(mine.state_dict()))
    set_gradients(ours, theirs, generator)
    resumed.step()
    other.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q)
