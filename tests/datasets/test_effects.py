"""Effect sizes are checked when they are made."""

import dataclasses

import pytest

from scbetavae.datasets import FactorEffects


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"batch": -1}, ValueError, r"batch=-1 is not allowed: pass a number in \[0, 10\]"),
        ({"phase": float("nan")}, ValueError, "phase=nan is not allowed"),
        ({"gradient": "big"}, ValueError, "gradient='big' is not allowed"),
        ({"program_size": 0}, ValueError, r"program_size=0 is not allowed: pass a number in \(0, 1\]"),
        ({"program_overlap": 1.1}, ValueError, r"program_overlap=1.1 is not allowed: pass a number in \[0, 1\]"),
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
