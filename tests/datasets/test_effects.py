"""Effect sizes are checked when they are made."""

import dataclasses

import pytest

from scbetavae.datasets import FactorEffects


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"batch": -1}, ValueError, "batch must be a finite number from 0 to 10, got -1"),
        ({"phase": float("nan")}, ValueError, "phase must be a finite number"),
        ({"gradient": "big"}, TypeError, "gradient must be a number"),
        ({"program_size": 0}, ValueError, "program_size must be above 0"),
        ({"program_overlap": 1.1}, ValueError, "program_overlap must be a finite number from 0 to 1"),
        ({"program_size": 0.3}, ValueError, "program_size of at most 0.2"),
        ({"program_size": 0.6, "program_overlap": 0.5}, ValueError, "program_size of at most 0.3333"),
    ],
)
def test_bad_effects_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        FactorEffects(**arguments)


def test_effects_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FactorEffects().batch = 2.0
