import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scvi.model._utils import get_max_epochs_heuristic

from scbetavae.train import (
    ConstantSchedule,
    CosineSchedule,
    CyclicalSchedule,
    LinearSchedule,
    SigmoidSchedule,
    schedule_arguments,
)
from scbetavae.train._annealing import AnnealedBeta, resolve_schedule, schedule_to_dict

SHAPES = [LinearSchedule, CosineSchedule, SigmoidSchedule]
ALL = [*SHAPES, CyclicalSchedule, ConstantSchedule]
NAMES = ["linear", "cosine", "sigmoid", "cyclical", "constant"]


@pytest.mark.parametrize("schedule_cls", SHAPES)
@given(warmup=st.floats(0.01, 0.99), progress=st.floats(0, 1))
def test_warmups_rise_from_zero_to_a_plateau_of_one(schedule_cls, warmup, progress):
    schedule = schedule_cls(warmup=warmup)
    assert schedule(0.0) == pytest.approx(0.0, abs=1e-12)
    assert 0 <= schedule(progress) <= 1 + 1e-12
    assert schedule(progress) <= schedule(min(progress + 0.05, 1.0)) + 1e-12
    if progress >= warmup:
        assert schedule(progress) == 1.0


@pytest.mark.parametrize("schedule_cls", SHAPES)
def test_warmups_are_symmetric_about_their_middle(schedule_cls):
    schedule = schedule_cls(warmup=0.8)
    for share in np.linspace(0.05, 0.75, 8):
        assert schedule(share) + schedule(0.8 - share) == pytest.approx(1.0)


def test_values_from_the_definitions():
    assert LinearSchedule(warmup=0.4)(0.1) == pytest.approx(0.25)
    assert CosineSchedule(warmup=0.4)(0.1) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)

    def sigma(x):
        return 1 / (1 + math.exp(-x))

    expected = (sigma(6 * (0.25 - 0.5)) - sigma(-3)) / (sigma(3) - sigma(-3))
    assert SigmoidSchedule(warmup=0.4, steepness=6)(0.1) == pytest.approx(expected)


def test_cyclical_default_is_four_cycles_of_a_quarter_of_the_run():
    schedule = CyclicalSchedule()
    for start in (0.0, 0.25, 0.5, 0.75):
        assert schedule(start) == pytest.approx(0.0, abs=1e-12)
        assert schedule(start + 0.0625) == pytest.approx(0.5)
        assert schedule(start + 0.125) == pytest.approx(1.0)
        assert schedule(start + 0.2) == pytest.approx(1.0)


@pytest.mark.parametrize("n_cycles", [1, 2, 5])
@pytest.mark.parametrize("warmup", [0.3, 0.9])
def test_cyclical_falls_back_once_a_cycle_and_then_stays(n_cycles, warmup):
    schedule = CyclicalSchedule(warmup=warmup, n_cycles=n_cycles, ratio=0.7)
    values = np.array([schedule(p) for p in np.linspace(0, 1, 2001)])
    assert (np.diff(values) < -0.5).sum() == n_cycles - 1
    assert (values[np.linspace(0, 1, 2001) >= warmup] == 1.0).all()


@pytest.mark.parametrize("n_cells", [700, 30_000, 200_000])
@pytest.mark.parametrize("schedule_cls", ALL)
@pytest.mark.parametrize("beta", [0.1, 4.0])
def test_last_epoch_trains_at_the_requested_beta_for_any_number_of_cells(n_cells, schedule_cls, beta):
    max_epochs = int(get_max_epochs_heuristic(n_cells))
    steps = math.ceil(0.9 * n_cells / 128)
    run = AnnealedBeta(schedule_cls(), beta, max_epochs, steps)
    last_epoch = range((max_epochs - 1) * steps, max_epochs * steps)
    assert {run.at(step) for step in last_epoch} == {beta}
    assert run.reaches_target
    assert run.warmup_end_epoch < max_epochs


@pytest.mark.parametrize("schedule_cls", ALL)
@given(max_epochs=st.integers(1, 500), steps=st.integers(1, 50), target=st.floats(0, 100))
def test_every_run_ends_at_its_target(schedule_cls, max_epochs, steps, target):
    run = AnnealedBeta(schedule_cls(), target, max_epochs, steps)
    if max_epochs * steps == 1 or max_epochs * steps >= 8:
        assert run.final == target


@given(max_epochs=st.integers(1, 60), steps=st.integers(1, 7), warmup=st.floats(0, 0.99))
def test_warmup_is_over_in_the_epoch_that_is_named(max_epochs, steps, warmup):
    run = AnnealedBeta(LinearSchedule(warmup=warmup), 3.0, max_epochs, steps)
    end = run.warmup_end_epoch
    assert all(run.at(step) == 3.0 for step in range(end * steps, max_epochs * steps))
    if 0 < end < max_epochs:
        assert run.at((end - 1) * steps) < 3.0


def test_warmup_in_epochs_and_in_steps():
    in_epochs = AnnealedBeta(LinearSchedule(warmup_epochs=4), 2.0, max_epochs=10, steps_per_epoch=5)
    assert [in_epochs.at(step) for step in (0, 10, 20, 49)] == pytest.approx([0, 1, 2, 2])
    assert in_epochs.warmup_end_epoch == 4
    in_steps = AnnealedBeta(CosineSchedule(warmup_steps=10), 2.0, max_epochs=10, steps_per_epoch=5)
    assert [in_steps.at(step) for step in (0, 5, 10, 49)] == pytest.approx([0, 1, 2, 2])
    assert in_steps.warmup_end_epoch == 2


@pytest.mark.parametrize(
    ("schedule", "numbers"),
    [
        (LinearSchedule(warmup_epochs=400), ["warmup_epochs=400", "max_epochs=50", "beta ends at 0.498"]),
        (LinearSchedule(warmup_steps=600), ["warmup_steps=600", "250 minibatches"]),
        (LinearSchedule(warmup_epochs=50), ["warmup_epochs=50", "max_epochs=50"]),
    ],
)
def test_a_schedule_longer_than_the_run_says_how_far_it_gets(schedule, numbers):
    run = AnnealedBeta(schedule, 4.0, max_epochs=50, steps_per_epoch=5)
    assert not run.reaches_target
    sentence = run.describe_shortfall()
    assert all(number in sentence for number in numbers)
    assert "instead of 4" in sentence


def test_functions_from_epoch_to_beta():
    run = AnnealedBeta(lambda epoch: min(epoch, 3), 3.0, max_epochs=6, steps_per_epoch=2)
    assert [run.at(step) for step in range(0, 12, 2)] == pytest.approx([0, 1, 2, 3, 3, 3])
    assert run.warmup_end_epoch == 3
    assert run.reaches_target


def test_a_function_that_returns_no_beta_is_refused():
    run = AnnealedBeta(lambda epoch: -1.0, 3.0, max_epochs=6, steps_per_epoch=2)
    with pytest.raises(ValueError, match=r"beta_schedule\(0\)=-1.0 is not allowed"):
        run.at(0)


@pytest.mark.parametrize("name", NAMES)
def test_names_resolve_to_the_model_s_beta(name):
    schedule, target = resolve_schedule(name, 4.0)
    assert (schedule.name, target) == (name, 4.0)


@pytest.mark.parametrize("number", [0, 0.0, 2, 2.5, np.float32(2.5), np.int64(3)])
def test_numbers_are_that_beta_throughout(number):
    schedule, target = resolve_schedule(number, 4.0)
    assert target == float(number)
    assert AnnealedBeta(schedule, target, 3, 3).at(0) == float(number)


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ("liner", ValueError, "Did you mean 'linear'"),
        ("xyz", ValueError, "Choose from"),
        (-1.0, ValueError, "at least 0"),
        (float("nan"), ValueError, "beta_schedule=nan is not allowed"),
        (None, TypeError, "NoneType"),
        (True, TypeError, "bool"),
        (LinearSchedule, TypeError, r"LinearSchedule\(\)"),
    ],
)
def test_what_is_no_schedule_is_refused(given_, error, message):
    with pytest.raises(error, match=message):
        resolve_schedule(given_, 4.0)
    with pytest.raises(error, match=message):
        schedule_arguments(given_, None, beta=4.0)


def test_a_function_needs_a_beta_to_scale():
    with pytest.raises(ValueError, match="model's beta is 0"):
        resolve_schedule(lambda epoch: 1.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup": 400}, "warmup_epochs"),
        ({"warmup": "0.1"}, "pass a number"),
        ({"warmup": 1.0}, r"\[0, 1\)"),
        ({"warmup": -0.1}, r"\[0, 1\)"),
        ({"warmup_epochs": 3, "warmup_steps": 3}, "one of them"),
        ({"warmup_epochs": -3}, "at least 0"),
    ],
)
def test_bad_lengths_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearSchedule(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SigmoidSchedule(steepness=0), "steepness"),
        (lambda: CyclicalSchedule(n_cycles=0), "n_cycles"),
        (lambda: CyclicalSchedule(ratio=0), "ratio"),
        (lambda: ConstantSchedule(warmup=0.2), "no warm-up"),
        (lambda: LinearSchedule(warmup_epochs=3)(0.5), "depends on the length of the run"),
    ],
)
def test_bad_shapes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_description_is_flat_and_plain():
    assert schedule_to_dict(CyclicalSchedule(n_cycles=2)) == {
        "beta_schedule": "cyclical",
        "beta_schedule_warmup": 0.875,
        "beta_schedule_n_cycles": 2,
        "beta_schedule_ratio": 0.5,
    }

    def ramp(epoch):
        return epoch

    assert schedule_to_dict(ramp) == {"beta_schedule": "ramp"}
