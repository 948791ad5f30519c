"""Cells that a prediction needs: ten with a label, on both sides, for every score that predicts."""

import numpy as np
import pandas as pd
import pytest

from scbetavae import metrics


@pytest.mark.parametrize("labels", [np.tile(["a", "b"], 10), np.arange(20.0)], ids=["classes", "number"])
@pytest.mark.parametrize("n", [9, 10])
def test_ten_labeled_cells_are_needed(labels, n):
    column = pd.Series(labels).where(np.arange(20) < n)
    codes = np.stack([np.arange(20.0) % 2, np.arange(20.0)], axis=1)
    factors = column.to_frame("y")
    values = [
        metrics.knn_accuracy(codes, column),
        metrics.random_forest_accuracy(codes, column),
        metrics.explicitness(codes, factors)["y"],
        metrics.dci(codes, factors).per_factor.loc["y", "informativeness"],
    ]
    assert np.isnan(values).tolist() == [n < 10] * 4
    if n < 10:
        with pytest.raises(ValueError, match="fewer than 10 labeled cells"):
            metrics.condition_prediction(codes, column)
    else:
        assert (metrics.condition_prediction(codes, column, n_permutations=0, n_bootstrap=0)["n_cells"] == 10).all()
