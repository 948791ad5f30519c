"""Columns of ``.obs``: which classes are too small, and what is left without them."""

import numpy as np
import pandas as pd
import pytest

from scbetavae._core.columns import leave_out_small, tell_small
from scbetavae._core.constants import MINIMUM_CELLS

FEW, ENOUGH = MINIMUM_CELLS - 1, MINIMUM_CELLS


@pytest.mark.parametrize(
    ("sizes", "words", "is_possible"),
    [
        ([ENOUGH, ENOUGH], "", True),
        ([FEW, ENOUGH, ENOUGH], "left out: ", True),
        ([FEW, ENOUGH], "not possible: ", False),
        ([FEW, FEW], "not possible: ", False),
        ([FEW], "", True),  # one class: others refuse it
        ([0, ENOUGH], "", True),
    ],
)
def test_whether_a_comparison_is_possible_is_no_matter_of_words(sizes, words, is_possible):
    names = [f"c{i}" for i in range(len(sizes))]
    small = tell_small(dict(zip(names, sizes, strict=True)), "class")
    assert small.is_possible is is_possible
    assert small.text.startswith(words)
    assert bool(small.text) == bool(words)
    column = pd.Series(pd.Categorical(np.repeat(names, sizes), categories=names))
    kept, told = leave_out_small(column, "class")
    assert told == small
    left = {name for name, size in zip(names, sizes, strict=True) if size >= ENOUGH or not words}
    assert set(kept.dropna()) == {name for name in left if name in set(column)}
