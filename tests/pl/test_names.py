"""Plots go by the names of the results that they draw."""

from inspect import signature

from scbetavae import pl
from scbetavae._core import keys

# Two views of the scores, one of the cards, the history of a training, and plots of a sweep, which is a table of its own.
OTHERS = {"dimension", "dimension_covariate", "dimension_covariate_frame", "history", "beta_sweep", "tradeoff"}


def test_plots_have_the_names_of_results():
    for name in set(pl.__all__) - OTHERS:
        assert signature(getattr(pl, name)).parameters["key"].default == name
    assert pl.history.__name__ == keys.HISTORY
